"""The wall clock. Durations are measured on the event loop's own clock; this one only says what time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time. May jump when the host's clock is set."""

    def now(self) -> float:
        """Unix seconds."""


class SystemClock:
    """The host's clock."""

    def now(self) -> float:
        return time.time()
