"""Whether a bucket can be listed with its keys: one signed request (AWS Signature Version 4)."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

from defusedxml import ElementTree

from cador.ports.outgoing import Outgoing, Reply

WITHIN_S: Final = 10.0
USUAL_REGION: Final = "us-east-1"
_EMPTY: Final = hashlib.sha256(b"").hexdigest()
_SHOWN: Final = 300
_HOST_STYLE: Final = frozenset({"SecondLevelDomainForbidden", "VirtualHostDomainRequired"})
"""What stores say that want the bucket in the name of the host."""


class Refused(Exception):
    """The store said no; ``str()`` is what it said."""


async def check_bucket(outgoing: Outgoing, storage: Mapping[str, Any], at: float) -> None:
    """*storage*: as it is stored, secrets in clear; *at*: Unix seconds. Raises: Refused, OutgoingError."""
    bucket, endpoint = storage["bucket"], storage["endpoint"].rstrip("/")
    if "://" not in endpoint:
        endpoint = f"{'http' if storage['insecure'] else 'https'}://{endpoint}"
    region = storage["region"] or USUAL_REGION
    in_host = False
    for last in (False, False, True):
        reply = await _listed(outgoing, storage, _address(endpoint, bucket, in_host=in_host), region, at)
        if reply.ok:
            return
        code, message = _error(reply)
        told = reply.headers.get("x-amz-bucket-region", "")
        if code in _HOST_STYLE and not in_host and not last:
            in_host = True
        elif told and told != region and not storage["region"] and not last:
            region = told
        else:
            break
    raise Refused(f"bucket {bucket} cannot be listed: {code or reply.status}{': ' * bool(message)}{message}"[:_SHOWN])


def _address(endpoint: str, bucket: str, *, in_host: bool) -> str:
    scheme, _, rest = endpoint.partition("://")
    return f"{scheme}://{bucket}.{rest}/" if in_host else f"{endpoint}/{bucket}"


async def _listed(outgoing: Outgoing, storage: Mapping[str, Any], address: str, region: str, at: float) -> Reply:
    folder = storage["subfolder"].strip("/")
    query = [("list-type", "2"), ("max-keys", "1"), ("prefix", f"{folder}/" if folder else "")]
    headers = signed_headers("GET", address, query, region=region, keys=(storage["ak"], storage["sk"]), at=at)
    url = f"{address}?{_query(query)}"
    return await outgoing("GET", url, chosen_by="operator", headers=headers, within_s=WITHIN_S)


def signed_headers(
    method: str, address: str, query: Sequence[tuple[str, str]], *, region: str, keys: tuple[str, str], at: float
) -> dict[str, str]:
    """Headers of a request without a body. *keys*: access key and secret key."""
    parts = urlsplit(address)
    moment = datetime.fromtimestamp(at, UTC)
    stamp, day = moment.strftime("%Y%m%dT%H%M%SZ"), moment.strftime("%Y%m%d")
    host = parts.netloc.lower().removesuffix(":443" if parts.scheme == "https" else ":80")
    headers = {"host": host, "x-amz-content-sha256": _EMPTY, "x-amz-date": stamp}
    names = ";".join(headers)
    lines = [f"{name}:{value}\n" for name, value in headers.items()]
    request = "\n".join((method, parts.path or "/", _query(query), "".join(lines), names, _EMPTY))
    scope = f"{day}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{keys[1]}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={keys[0]}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {"x-amz-content-sha256": _EMPTY, "x-amz-date": stamp, "Authorization": credential}


def _query(pairs: Sequence[tuple[str, str]]) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(pairs))


def _error(reply: Reply) -> tuple[str, str]:
    """Code and message of an answer in the words of S3; empty where it has none."""
    try:
        root = ElementTree.fromstring(reply.body)
    except (ElementTree.ParseError, ValueError):
        return "", ""
    found = {element.tag.rpartition("}")[2]: " ".join((element.text or "").split()) for element in root.iter()}
    return found.get("Code", ""), found.get("Message", "")
