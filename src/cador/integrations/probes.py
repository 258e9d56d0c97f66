"""Trying out the configuration of other systems, and asking them what they hold."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from cador.integrations import buckets, mail, messengers, tapd
from cador.integrations.outgoing import HttpOutgoing
from cador.integrations.sql import ConnectFailed, check_database
from cador.ports.outgoing import OutgoingError
from cador.ports.probes import NotReached

WITHIN_S: Final = 10.0
LONGEST_S: Final = 20.0
"""For all requests of one trial together."""


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """What goes wrong is why it is not reached."""
    try:
        async with asyncio.timeout(LONGEST_S):
            yield
    except TimeoutError:
        raise NotReached(f"it did not answer within {LONGEST_S:.0f} seconds") from None
    except (ConnectFailed, OutgoingError, buckets.Refused, mail.Refused, messengers.Refused, tapd.Refused) as error:
        raise NotReached(str(error)) from error


class RealProbes:
    """See :class:`cador.ports.probes.Probes`."""

    def __init__(self, tapd: tapd.Tapd, outgoing: HttpOutgoing) -> None:
        self._tapd, self._outgoing = tapd, outgoing

    async def database(self, access: Mapping[str, Any]) -> None:
        async with _told():
            await check_database({**access, "port": int(access["port"])})

    async def sonar(self, access: Mapping[str, Any]) -> None:
        basic = base64.b64encode(f"{access['token']}:".encode()).decode()
        async with _told():
            reply = await self._outgoing(
                "GET",
                f"{access['server_address']}/api/authentication/validate",
                chosen_by="operator",
                headers={"Authorization": f"Basic {basic}", "Accept": "application/json"},
                within_s=WITHIN_S,
            )
            if reply.status in (401, 403):
                raise NotReached(f"SonarQube refused the token ({reply.status})")
            answer = reply.json()
        valid = answer.get("valid") if isinstance(answer, Mapping) else None
        if not reply.ok or not isinstance(valid, bool):
            raise NotReached(f"{reply.url} is no SonarQube: it answered {reply.status}")
        if not valid:
            raise NotReached("SonarQube does not know the token")

    async def storage(self, access: Mapping[str, Any]) -> None:
        async with _told():
            await buckets.check_bucket(self._outgoing, access, time.time())

    async def messenger(self, access: Mapping[str, Any]) -> None:
        async with _told():
            await messengers.check_messenger(self._outgoing, access)

    async def mail(self, access: Mapping[str, Any]) -> None:
        async with _told():
            await mail.check_mail(self._outgoing, access)

    async def tapd(self, access: Mapping[str, Any]) -> None:
        async with _told():
            await self._tapd.check(_account(access))

    async def tapd_projects(self, access: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        async with _told():
            return await self._tapd.projects(_account(access), access["tapd_company_id"])

    async def tapd_iterations(
        self, access: Mapping[str, Any], project: str, status: str
    ) -> Sequence[Mapping[str, Any]]:
        async with _told():
            return await self._tapd.iterations(_account(access), project, status)


def _account(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: spec[f"tapd_{key}"] for key in ("address", "client_id", "client_secret")}
