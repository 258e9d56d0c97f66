"""Actions by a table, as the scripted executor has jobs: time passes by the event loop's timers alone."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from cador.jobs.server import FACTS
from cador.ports.actions import Action, ActionFailed, ActionRun


def scripted(deeds: Mapping[str, list[dict[str, Any]]]) -> dict[str, Action]:
    """Actions by name; each time one is done it does the next of its *deeds*, the last of them for ever.

    A deed: ``lines``, then ``after_s`` seconds, ``facts`` for the job type, and ``error`` if it fails.
    """
    return {name: _action(list(entries)) for name, entries in deeds.items()}


def _action(deeds: list[dict[str, Any]]) -> Action:
    async def act(run: ActionRun, arguments: Mapping[str, Any]) -> None:
        deed = deeds.pop(0) if len(deeds) > 1 else deeds[0]
        for line in deed.get("lines", ()):
            run.line(line)
        if "facts" in deed:
            run.leave(FACTS, json.dumps(deed["facts"]))
        await asyncio.sleep(deed.get("after_s", 0.0))
        if error := deed.get("error"):
            raise ActionFailed(error)

    return act
