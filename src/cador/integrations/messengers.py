"""Whether the application of a messenger is known there: it is asked for a token, which is thrown away."""

from collections.abc import Mapping
from typing import Any, Final

from cador.domain.masking import Masker
from cador.ports.outgoing import Outgoing, OutgoingError, Reply

WITHIN_S: Final = 10.0
_SHOWN: Final = 300
_HOSTS: Final = {
    "lark": "https://open.feishu.cn",
    "lark_intl": "https://open.larksuite.com",
    "dingtalk": "https://api.dingtalk.com",
    "workwx": "https://qyapi.weixin.qq.com",
}


class Refused(Exception):
    """The messenger said no; ``str()`` is what it said."""


async def check_messenger(outgoing: Outgoing, app: Mapping[str, Any]) -> None:
    """*app*: as it is stored, secrets in clear. Raises: Refused, OutgoingError."""
    kind = app["type"]
    base = app["host"] or _HOSTS[kind]
    secret: str
    if kind == "dingtalk":
        secret = app["dingtalk_app_secret"]
        body = {"appKey": app["dingtalk_app_key"], "appSecret": secret}
        reply = await _asked(outgoing, "POST", f"{base}/v1.0/oauth2/accessToken", json=body)
        token, problem = "accessToken", "message"
    elif kind == "workwx":
        secret = app["agent_secret"]
        # in this order, so that the end of the address, which errors show, is no secret
        query = {"corpsecret": secret, "corpid": app["corp_id"]}
        reply = await _asked(outgoing, "GET", f"{base}/cgi-bin/gettoken", params=query)
        token, problem = "access_token", "errmsg"
    else:
        secret = app["app_secret"]
        body = {"app_id": app["app_id"], "app_secret": secret}
        reply = await _asked(outgoing, "POST", f"{base}/open-apis/auth/v3/tenant_access_token/internal", json=body)
        token, problem = "tenant_access_token", "msg"
    answer = _object(reply)
    if reply.ok and answer.get(token):
        return
    said = Masker([secret]).mask_text(str(answer.get(problem) or f"it answered {reply.status}"))
    raise Refused(f"the messenger does not log in: {said[:_SHOWN]}")


async def _asked(outgoing: Outgoing, method: str, url: str, **more: Any) -> Reply:
    return await outgoing(method, url, chosen_by="operator", within_s=WITHIN_S, **more)


def _object(reply: Reply) -> Mapping[str, Any]:
    try:
        answer = reply.json()
    except OutgoingError:
        return {}
    return answer if isinstance(answer, Mapping) else {}
