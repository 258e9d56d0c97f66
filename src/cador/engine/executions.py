"""Executions of jobs, from ``start`` to end: put together here, each idea in a module of its own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cador.engine.adopting import Adopter
from cador.engine.following import Follower
from cador.engine.outside import Outside
from cador.engine.preparing import Preparer
from cador.engine.starting import Starter
from cador.engine.stopping import Stopper
from cador.ports.actions import Action
from cador.ports.blobs import BlobStore
from cador.ports.clock import Clock
from cador.ports.executor import Executor
from cador.ports.logs import LogStore

if TYPE_CHECKING:
    from cador.engine.engine import Engine


class Executions:
    def __init__(
        self,
        engine: "Engine",
        *,
        installation: str,
        clock: Clock,
        logs: LogStore,
        blobs: BlobStore,
        executors: Mapping[str, Executor],
        preparer: Preparer,
        stop_grace_s: float,
        max_artifact_bytes: int,
        lost_after_s: float,
        home: str = "",
        actions: Mapping[str, Action] | None = None,
    ) -> None:
        self.executors = executors
        outside = Outside(engine, installation, clock, executors, preparer, stop_grace_s, lost_after_s, home)
        follower = Follower(
            outside, logs=logs, blobs=blobs, max_artifact_bytes=max_artifact_bytes, actions=actions or {}
        )
        self.starter = Starter(outside, follower)
        self.stopper = Stopper(outside)
        self.adopter = Adopter(outside, follower)
