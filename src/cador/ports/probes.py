"""Whether other systems can be reached with the configuration that somebody is about to store, and what they hold."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cador.domain.errors import CadorError


class NotReached(CadorError):
    """It cannot; ``str()`` is why, without credentials."""


class Probes(Protocol):
    """Each takes a few seconds at most. *access*: the stored document of that kind, secrets in clear."""

    async def database(self, access: Mapping[str, Any]) -> None:
        """Connect and leave. Raises: NotReached."""

    async def sonar(self, access: Mapping[str, Any]) -> None:
        """Ask a SonarQube server whether it knows the token. Raises: NotReached."""

    async def storage(self, access: Mapping[str, Any]) -> None:
        """List the bucket of an object storage, of which nothing is kept. Raises: NotReached."""

    async def messenger(self, access: Mapping[str, Any]) -> None:
        """Let an application log in. Raises: NotReached."""

    async def mail(self, access: Mapping[str, Any]) -> None:
        """Log in and name the sender; no mail is sent. Raises: NotReached."""

    async def tapd(self, access: Mapping[str, Any]) -> None:
        """Log in to TAPD. *access*: the ``spec`` of the integration. Raises: NotReached."""

    async def tapd_projects(self, access: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The projects of the company, in the words of TAPD. Raises: NotReached."""

    async def tapd_iterations(
        self, access: Mapping[str, Any], project: str, status: str
    ) -> Sequence[Mapping[str, Any]]:
        """The iterations of a project, newest first; *status*: only those, empty for all. Raises: NotReached."""
