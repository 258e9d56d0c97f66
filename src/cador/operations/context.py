"""What operations work with. Built once by ``bootstrap``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cador.engine.engine import Engine
from cador.engine.preparing import Catalogues
from cador.jobs.base import JobType
from cador.operations.detail_memory import DetailMemory
from cador.ports.blobs import BlobStore
from cador.ports.clock import Clock
from cador.ports.code_hosts import CommitResolver, RepositoryReader
from cador.ports.logs import LogStore
from cador.ports.outgoing import Outgoing
from cador.ports.probes import Probes
from cador.ports.sealing import Sealer
from cador.ports.stores import Database

if TYPE_CHECKING:
    from cador.operations.oidc import Identities


@dataclass(frozen=True, slots=True)
class Options:
    """Values from the settings. ``language``: ``zh`` or ``en``; ``base_url``: without trailing slash."""

    base_url: str = "http://127.0.0.1:8700"
    language: str = "zh"
    strict_inputs: bool = False
    max_jobs_per_stage: int = 5
    resolve_commits_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Context:
    """``refuse_starts``: why no task can be accepted right now (a full disk), ``""`` when all is well. ``identities``:
    the OpenID provider by which people log in, if there is one."""

    db: Database
    clock: Clock
    sealer: Sealer
    logs: LogStore
    blobs: BlobStore
    types: Mapping[str, JobType]
    engine: Engine
    catalogues: Catalogues
    resolve_commits: CommitResolver
    outgoing: Outgoing
    options: Callable[[], Options]
    refuse_starts: Callable[[], str] = lambda: ""
    identities: "Identities | None" = None
    read_repository: RepositoryReader | None = None
    """Reads manifests from code hosts; None: none can be reached from here."""
    probes: Probes | None = None
    """Tries out the configuration of other systems; None: it cannot be tried out here."""
    details: DetailMemory = field(default_factory=DetailMemory)
