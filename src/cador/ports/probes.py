"""Whether other systems can be reached with the configuration that somebody is about to store."""

from collections.abc import Mapping
from typing import Any, Protocol

from cador.domain.errors import CadorError


class NotReached(CadorError):
    """It cannot; ``str()`` is why, without credentials."""


class Probes(Protocol):
    async def database(self, access: Mapping[str, Any]) -> None:
        """Connect to a database and leave. *access*: ``name``, ``type``, ``host``, ``port``, ``username``,
        ``password``, ``database``. Takes a few seconds at most. Raises: NotReached."""

    async def tapd(self, access: Mapping[str, Any]) -> None:
        """Log in to TAPD. *access*: ``address``, ``client_id``, ``client_secret``. Raises: NotReached."""
