"""Settings that are changed while servers work."""

from collections.abc import Sequence
from typing import Any, Final

from cador.api.described import Described, DescribedRoot
from cador.api.permissions import SYSTEM_ADMIN
from cador.api.routing import Call, Routes
from cador.operations import system_settings
from cador.operations.system_settings import LiveSetting

ROUTES: Final = Routes("server")
PATH: Final = "/api/v1/settings"


class Change(DescribedRoot[dict[str, int | None]]):
    """Values by name of the setting; null gives one back to the configuration. What is not named stays."""


class ShownSetting(Described):
    """``value``: what counts now; ``configured``: what the configuration of the server says; ``live``: it was set
    here. 0 is no limit for the caps of a project and a user, and for ever for how long tasks are kept."""

    name: str
    value: int
    configured: int
    live: bool


class SettingList(Described):
    settings: list[ShownSetting]


@ROUTES.get(PATH, SYSTEM_ADMIN, reply=SettingList)
async def show(call: Call) -> Any:
    """Settings that can be changed while servers work: limits of the queue, and how long tasks are kept."""
    return _document(await system_settings.live_settings(call.ctx, call.actor))


@ROUTES.put(PATH, SYSTEM_ADMIN, body=Change, reply=SettingList)
async def change(call: Call) -> Any:
    """Change settings on all servers at once; a lowered limit stops nothing. How long tasks are kept counts from the
    next hour on."""
    return _document(await system_settings.change_settings(call.ctx, call.actor, await call.object()))


def _document(found: Sequence[LiveSetting]) -> dict[str, Any]:
    return {
        "settings": [
            {"name": one.name, "value": one.value, "configured": one.configured, "live": one.live} for one in found
        ]
    }
