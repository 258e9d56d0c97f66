"""Trying out other systems: each against a small real server, and each way in which it says no."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cador.integrations import buckets
from cador.integrations.addresses import Rules
from cador.integrations.outgoing import HttpOutgoing, OutgoingLimits
from cador.integrations.probes import RealProbes
from cador.integrations.tapd import Tapd
from cador.ports.probes import NotReached
from support.certificates import certificate_for
from support.http_peer import Asked, Peer, peer, reply
from support.smtp import PASSWORD, USER, MailServer, mail_server
from support.sonar import TOKEN, sonarqube
from support.tapd import PROJECT, FakeTapd, serving

pytestmark = pytest.mark.anyio

HOST = "mail.example"
SECRET = "messenger-s3cret"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def here(host: str, port: int) -> Sequence[str]:
    """The names of these tests; one leads to where no server is called."""
    return {HOST: ["127.0.0.1"], "metadata.example": ["169.254.169.254"]}[host]


@contextlib.asynccontextmanager
async def probing(**limits: Any) -> AsyncIterator[RealProbes]:
    outgoing = HttpOutgoing(Rules.parse(), OutgoingLimits(**limits), resolve=here)
    try:
        yield RealProbes(Tapd(outgoing), outgoing)
    finally:
        await outgoing.aclose()


async def refusal(call: Any) -> str:
    with pytest.raises(NotReached) as caught:
        await call
    return str(caught.value)


# -- SonarQube


async def test_sonarqube_is_asked_whether_it_knows_the_token() -> None:
    with sonarqube() as sonar:
        async with probing() as probes:
            await probes.sonar({"server_address": sonar.url, "token": TOKEN})
            wrong = await refusal(probes.sonar({"server_address": sonar.url, "token": "squ_other"}))
            away = await refusal(probes.sonar({"server_address": f"{sonar.url}/elsewhere", "token": TOKEN}))
    assert wrong == "SonarQube does not know the token"
    assert "is no SonarQube: it answered 400" in away
    async with probing() as probes:
        text = await refusal(probes.sonar({"server_address": "http://127.0.0.1:9", "token": TOKEN}))
    assert text.startswith("http://127.0.0.1:9")
    assert TOKEN not in text


# -- messengers


def _messenger(asked: Asked, handler: BaseHTTPRequestHandler) -> None:
    """Feishu, DingTalk and WeCom in one: each on its own path."""
    import json

    parts = urlsplit(asked.path)
    body = json.loads(asked.body) if asked.body else dict(parse_qsl(parts.query))
    match asked.method, parts.path:
        case "POST", "/open-apis/auth/v3/tenant_access_token/internal":
            right = body == {"app_id": "cli_1", "app_secret": SECRET}
            said: Any = (
                {"code": 0, "tenant_access_token": "t-1"} if right else {"code": 10014, "msg": "app secret invalid"}
            )
            reply(handler, 200, said)
        case "POST", "/v1.0/oauth2/accessToken":
            if body == {"appKey": "key", "appSecret": SECRET}:
                reply(handler, 200, {"accessToken": "t-2", "expireIn": 7200})
            else:
                reply(handler, 400, {"code": "invalidClientIdOrSecret", "message": f"no such pair {body['appSecret']}"})
        case "GET", "/cgi-bin/gettoken":
            right = body == {"corpid": "corp", "corpsecret": SECRET}
            said = (
                {"errcode": 0, "errmsg": "ok", "access_token": "t-3"} if right else {"errcode": 40001, "errmsg": "no"}
            )
            reply(handler, 200, said)
        case _:
            reply(handler, 502, b"<html>", "text/html")


@pytest.fixture(scope="module")
def messenger() -> Iterator[Peer]:
    with peer(_messenger) as found:
        yield found


APPS: Mapping[str, Mapping[str, Any]] = {
    "lark": {"app_id": "cli_1", "app_secret": SECRET},
    "lark_intl": {"app_id": "cli_1", "app_secret": SECRET},
    "dingtalk": {"dingtalk_app_key": "key", "dingtalk_app_secret": SECRET},
    "workwx": {"corp_id": "corp", "agent_secret": SECRET, "agent_id": 7},
}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("lark", "app secret invalid"),
        ("lark_intl", "app secret invalid"),
        ("dingtalk", "no such pair ********"),
        ("workwx", "no"),
    ],
)
async def test_an_application_logs_in(messenger: Peer, kind: str, said: str) -> None:
    app = {"type": kind, "host": messenger.url, **APPS[kind]}
    async with probing() as probes:
        await probes.messenger(app)
        wrong = {key: f"wrong-{SECRET}" if value == SECRET else value for key, value in app.items()}
        assert await refusal(probes.messenger(wrong)) == f"the messenger does not log in: {said}"
        elsewhere = await refusal(probes.messenger({**app, "host": f"{messenger.url}/elsewhere"}))
        assert elsewhere == "the messenger does not log in: it answered 502"
        away = await refusal(probes.messenger({**app, "host": "http://127.0.0.1:9"}))
    assert SECRET not in away
    assert SECRET[-4:] not in away


# -- object storages

STORAGE = {"bucket": "kept", "subfolder": "a b/c", "ak": "AKID", "sk": "storage-s3cret", "region": "", "insecure": True}


class Store:
    """Answers like S3: signatures are checked by the library of Amazon itself. *home*: the region of the bucket.
    *in_host*: the bucket must be in the name of the host."""

    def __init__(self) -> None:
        self.home = "us-east-1"
        self.in_host = False
        self.missing = False

    def answer(self, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(asked.path)
        scope = asked.headers["authorization"].partition("Credential=")[2].partition(",")[0].split("/")
        if self.in_host and not asked.headers["host"].startswith("kept."):
            self._no(handler, 403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access.")
        elif scope[2] != self.home:
            self._no(handler, 400, "AuthorizationHeaderMalformed", "another region", region=self.home)
        elif self._signature(asked, scope[2]) != asked.headers["authorization"].partition("Signature=")[2]:
            self._no(handler, 403, "SignatureDoesNotMatch", "the signature does not match")
        elif self.missing or dict(parse_qsl(parts.query)) != {"list-type": "2", "max-keys": "1", "prefix": "a b/c/"}:
            self._no(handler, 404, "NoSuchBucket", "The specified bucket does not exist")
        else:
            reply(handler, 200, b"<ListBucketResult/>", "application/xml")

    def _signature(self, asked: Asked, region: str) -> str:
        """As that library signs the same request at the same moment."""
        signer = S3SigV4Auth(Credentials("AKID", "storage-s3cret"), "s3", region)
        request = AWSRequest(asked.method, f"http://{asked.headers['host']}{asked.path}")
        request.context["timestamp"] = asked.headers["x-amz-date"]
        for name in ("host", "x-amz-date", "x-amz-content-sha256"):
            request.headers[name] = asked.headers[name]
        text = signer.string_to_sign(request, signer.canonical_request(request))
        found: str = signer.signature(text, request)
        return found

    def _no(self, handler: BaseHTTPRequestHandler, status: int, code: str, message: str, region: str = "") -> None:
        data = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
        handler.send_response(status)
        if region:
            handler.send_header("x-amz-bucket-region", region)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


@pytest.fixture
def store() -> Iterator[tuple[Store, str]]:
    made = Store()
    with peer(made.answer) as found:
        yield made, found.url


async def test_a_bucket_is_listed(store: tuple[Store, str]) -> None:
    server, url = store
    async with probing() as probes:
        await probes.storage({**STORAGE, "endpoint": url})
        await probes.storage({**STORAGE, "endpoint": url.removeprefix("http://")})
        server.home = "eu-west-3"
        await probes.storage({**STORAGE, "endpoint": url})
        text = await refusal(probes.storage({**STORAGE, "endpoint": url, "region": "us-east-1"}))
        assert text == "bucket kept cannot be listed: AuthorizationHeaderMalformed: another region"
        wrong = await refusal(probes.storage({**STORAGE, "endpoint": url, "sk": "other"}))
        assert wrong == "bucket kept cannot be listed: SignatureDoesNotMatch: the signature does not match"
        server.missing = True
        text = await refusal(probes.storage({**STORAGE, "endpoint": url}))
        assert text == "bucket kept cannot be listed: NoSuchBucket: The specified bucket does not exist"


async def test_a_store_may_want_the_bucket_in_its_name(store: tuple[Store, str]) -> None:
    server, url = store
    server.in_host = True
    port = url.rpartition(":")[2]

    async def any_name(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"] if host in ("store.example", "kept.store.example") else []

    outgoing = HttpOutgoing(Rules.parse(), resolve=any_name)
    await RealProbes(Tapd(outgoing), outgoing).storage({**STORAGE, "endpoint": f"store.example:{port}"})
    await outgoing.aclose()


async def test_what_answers_in_other_words_is_told_by_its_status(store: tuple[Store, str]) -> None:
    with peer(lambda asked, handler: reply(handler, 403, b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")) as found:
        async with probing() as probes:
            text = await refusal(probes.storage({**STORAGE, "endpoint": found.url}))
    assert text == "bucket kept cannot be listed: 403"


@pytest.mark.parametrize("address", ["https://s3.example.com/kept", "http://127.0.0.1:9000/a%20b", "https://x:443/k"])
def test_a_signature_is_that_of_the_library_of_amazon(address: str) -> None:
    query = [("list-type", "2"), ("max-keys", "1"), ("prefix", "a b/ü~c+/")]
    headers = buckets.signed_headers("GET", address, query, region="eu-1", keys=("AKID", "s3cret"), at=1_700_000_000.0)
    request = AWSRequest("GET", address, params=dict(query))
    request.context["timestamp"] = headers["x-amz-date"]
    host = urlsplit(address).netloc.removesuffix(":443")
    signed = {"host": host, **{name: headers[name] for name in ("x-amz-date", "x-amz-content-sha256")}}
    for name, value in signed.items():
        request.headers[name] = value
    signer = S3SigV4Auth(Credentials("AKID", "s3cret"), "s3", "eu-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert headers["Authorization"].endswith(f"Signature={signer.signature(text, request)}")


# -- mail servers


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ssl.SSLContext]:
    """The file, and a server's context with it."""
    file, key = certificate_for(HOST, tmp_path_factory.mktemp("certificate"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return str(file), context


def mail(server: MailServer, **changes: Any) -> dict[str, Any]:
    base = {"host": HOST, "port": server.port, "username": USER, "password": PASSWORD, "isTLS": server.implicit}
    return {**base, "address": "ci@example.com", **changes}


@pytest.mark.parametrize("ways", ["PLAIN LOGIN", "CRAM-MD5 LOGIN"])
@pytest.mark.parametrize("how", ["plain", "STARTTLS", "TLS"])
async def test_a_mail_server_is_logged_in_to(certificate: tuple[str, ssl.SSLContext], how: str, ways: str) -> None:
    file, context = certificate
    tls = None if how == "plain" else context
    async with (
        mail_server(MailServer(tls, implicit=how == "TLS", ways=ways)) as server,
        probing(ca_file=file) as probes,
    ):
        await probes.mail(mail(server))
        assert server.secure is (how != "plain")
        assert server.lines[-2:] == ["MAIL FROM:<ci@example.com>", "QUIT"]
        text = await refusal(probes.mail(mail(server, password="another-s3cret")))
    assert text.startswith(f"mail server {HOST}:{server.port} does not log {USER} in: it answered 535 no such pair")
    assert "another-s3cret" not in text
    assert "YW5vdGhlci1zM2NyZXQ" not in text


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (MailServer(ways=""), "does not log ci in: it offers no logins here, perhaps it does over TLS"),
        (MailServer(ways="CRAM-MD5"), "does not log ci in: it offers only CRAM-MD5"),
        (MailServer(greeting="554 go away"), "does not greet: it answered 554 go away"),
        (MailServer(refuses_sender=True), "does not take mail of ci@example.com: it answered 553 not a sender of ours"),
        (MailServer(endless=True), "does not say what it can do: its answer has no end"),
        (MailServer(greeting="2" * 5_000), "Separator is found, but chunk is longer than limit"),
    ],
    ids=["no login", "other login", "greeting", "sender", "endless", "long line"],
)
async def test_what_a_mail_server_says_no_to_is_told(server: MailServer, said: str) -> None:
    async with mail_server(server), probing() as probes:
        text = await refusal(probes.mail(mail(server)))
    assert said in text
    assert PASSWORD not in text


async def test_a_certificate_of_nobody_is_not_trusted(certificate: tuple[str, ssl.SSLContext]) -> None:
    for implicit in (True, False):
        async with mail_server(MailServer(certificate[1], implicit=implicit)) as server, probing() as probes:
            text = await refusal(probes.mail(mail(server)))
        assert "certificate" in text.lower()
        assert not any(line.startswith("AUTH") for line in server.lines)


async def test_mail_servers_are_where_this_server_may_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with probing() as probes:
        away = await refusal(probes.mail(mail(MailServer(port=9))))
        secret = await refusal(probes.mail(mail(MailServer(port=25), host="metadata.example")))
        strange = await refusal(probes.mail(mail(MailServer(port=25), host="0x7f.1")))
    assert away == f"mail server {HOST}:9: Connection refused"
    assert "169.254.169.254 is not a public address" in secret
    assert "its host is a number that is no address" in strange
    monkeypatch.setattr("cador.integrations.mail.WITHIN_S", 0.05)
    async with mail_server(MailServer(greeting="")) as server, probing() as probes:
        assert "did not answer within" in await refusal(probes.mail(mail(server)))


# -- TAPD


@pytest.fixture
def tapd() -> Iterator[FakeTapd]:
    with serving() as fake:
        yield fake


async def test_what_tapd_holds_is_listed(tapd: FakeTapd) -> None:
    tapd.statuses = {f"11439761330010{number:05}": "open" if number % 2 else "done" for number in range(401)}
    async with probing() as probes:
        [project] = await probes.tapd_projects(tapd.spec)
        assert (project["id"], project["name"]) == (PROJECT, "Welcome to TAPD DEMO")
        assert [one["id"] for one in await probes.tapd_iterations(tapd.spec, PROJECT, "")] == tapd.ids
        assert len(await probes.tapd_iterations(tapd.spec, PROJECT, "done")) == 201
        wrong = {**tapd.spec, "tapd_client_secret": "not-it"}
        assert await refusal(probes.tapd_projects(wrong)) == "TAPD does not log in: invalid client"


async def test_a_trial_ends(tapd: FakeTapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cador.integrations.probes.LONGEST_S", 0.05)
    forever = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await forever.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with probing() as probes:
            text = await refusal(probes.tapd({**tapd.spec, "tapd_address": f"http://127.0.0.1:{port}"}))
        forever.set()
    assert text == "it did not answer within 0 seconds"
