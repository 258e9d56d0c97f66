"""What an action has of its execution, for tests of actions alone."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from cador.domain.masking import Masker
from cador.jobs.server import FACTS


@dataclass
class Heard:
    """Keeps what an action said and left."""

    key: str = "k"
    secrets: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    said: asyncio.Event = field(default_factory=asyncio.Event)

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.said.set()

    def leave(self, name: str, value: str) -> None:
        self.outputs[name] = value

    def mask(self, text: str) -> str:
        return Masker(self.secrets).mask_text(text)

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.outputs[FACTS])
        return found

    async def until(self, text: str) -> None:
        """Wait for a line with *text*."""
        while not any(text in line for line in self.lines):
            self.said.clear()
            await self.said.wait()
