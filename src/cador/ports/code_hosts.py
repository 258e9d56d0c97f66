"""What the inside asks of code hosts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cador.domain.errors import CadorError


@dataclass(frozen=True, slots=True)
class CodeHostAccess:
    """A code host with its credentials opened. Fields as in the resource; empty when not given."""

    id: int
    type: str
    address: str
    token: str = ""
    username: str = ""
    password: str = ""
    ssh_key: str = ""
    auth_type: str = ""
    disable_ssl: bool = False
    known_hosts: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a repository's ref points to right now. ``facts``: ``commit_id``, ``commit_message``, ``author_name`` as far
    as they are known; ``problem``: what is not known, and why, one line without credentials."""

    facts: Mapping[str, Any]
    problem: str = ""


class Unreadable(CadorError):
    """What a repository holds cannot be read; says why, without credentials."""


class RepositoryReader(Protocol):
    async def __call__(
        self, repo: Mapping[str, Any], access: CodeHostAccess, paths: Sequence[str], within_s: float
    ) -> list[str]:
        """The manifest below each of *paths* of a branch: a file, or of a folder its YAML files by name, one after the
        other as documents of one stream.

        Raises: Unreadable: the repository, or nothing is there; more or larger files than a manifest has.
        """


class CommitResolver(Protocol):
    async def __call__(
        self, repos: Sequence[tuple[Mapping[str, Any], CodeHostAccess]], within_s: float
    ) -> list[Resolved]:
        """Ask for all *repos* at once, at most *within_s* seconds. Never raises for one that cannot be asked."""
