"""Trying out the configuration of other systems."""

from collections.abc import Mapping
from typing import Any

from cador.integrations.sql import ConnectFailed, check_database
from cador.integrations.tapd import Refused, Tapd
from cador.ports.probes import NotReached


class RealProbes:
    """See :class:`cador.ports.probes.Probes`."""

    def __init__(self, tapd: Tapd) -> None:
        self._tapd = tapd

    async def database(self, access: Mapping[str, Any]) -> None:
        try:
            await check_database(access)
        except ConnectFailed as error:
            raise NotReached(str(error)) from error

    async def tapd(self, access: Mapping[str, Any]) -> None:
        try:
            await self._tapd.check(access)
        except Refused as error:
            raise NotReached(str(error)) from error
