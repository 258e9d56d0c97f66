"""One server process of a simulation: the real engine and operations, on simulated surroundings."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cador.domain.errors import Unavailable
from cador.engine.alone import Alone
from cador.engine.engine import Engine
from cador.engine.preparing import Catalogues, Preparer
from cador.engine.room import Limits
from cador.executors.scripted import ScriptedExecutor
from cador.operations.callbacks import KIND as CALLBACK
from cador.operations.callbacks import CallbackCourier
from cador.operations.context import Context, Options
from cador.ports.executor import Limits as JobLimits
from cador.ports.executor import Unreachable
from cador.ports.outgoing import NoAnswer, Reply
from cador.storage.blobs import LocalBlobs
from cador.storage.sealing import AesSealer
from simulation.deeds import DRAIN_S, TYPES, OwnExecutor
from simulation.executor import SimulatedExecutor
from simulation.loop import OUTSIDE, Process
from simulation.peers import SimulatedPeers

if TYPE_CHECKING:
    from cador.ports.peers import Peers
    from simulation.installation import Simulation

NOWHERE: Final = Path("/nonexistent/blobs")
"""Simulated jobs leave no files."""
LOST_AFTER_S: Final = 8.0


class Patient(CallbackCourier):
    """Gives nothing up before a run is over, and makes nobody wait for hours."""

    pauses = (0.2, 0.5, 1.0, *(2.0 for _ in range(200)))


class Outside:
    """The ``Outgoing`` of one server."""

    def __init__(self, server: "Server") -> None:
        self._server = server

    async def __call__(self, method: str, url: str, *, headers: Any, body: bytes, **more: Any) -> Reply:
        try:
            await self._server.sim.tell(self._server, headers["X-Delivery-Id"], json.loads(body)["status"])
        except (OSError, Unreachable) as error:
            raise NoAnswer(f"{url}: {error}") from error
        return Reply(200, url)


class Ticking:
    """The clock port of one process."""

    def __init__(self, server: "Server") -> None:
        self._server = server

    def now(self) -> float:
        return self._server.sim.true_time() + self._server.drift


class Server:
    def __init__(self, sim: "Simulation", slot: int, number: int) -> None:
        self.sim, self.slot = sim, slot
        self.process = Process(f"p{number}@{slot}")
        self.drift = 0.0
        self.ready = False
        self.world = sim.worlds[slot if sim.spread else 0]
        self._leaving: asyncio.Future[None] = sim.loop.create_future()
        db = sim.db.of(self.process)
        self.peers: Peers = Alone(db) if sim.alone else SimulatedPeers(sim.cluster, self.process, f"m{slot}:boot")
        self.executor = SimulatedExecutor(ScriptedExecutor(self.world, sim.script), sim.way, self.process)
        catalogues, sealer, clock = Catalogues(), AesSealer(b"k" * 32), Ticking(self)
        self.own = OwnExecutor(self, clock.now)
        logs, blobs = sim.logs.of(self.process), LocalBlobs(NOWHERE)
        outgoing = Outside(self)
        self.engine = Engine(
            peers=self.peers,
            installation=sim.installation,
            db=db,
            clock=clock,
            logs=logs,
            blobs=blobs,
            executors={self.executor.name: self.executor, self.own.name: self.own},
            preparer=Preparer(
                types=TYPES,
                sealer=sealer,
                catalogues=catalogues,
                collect=_collect,
                default_executor=self.executor.name,
                host_limits=JobLimits(),
            ),
            limits=lambda: Limits(sim.max_running, sim.max_jobs),
            stop_grace_s=1.0,
            lost_after_s=LOST_AFTER_S,
            couriers={CALLBACK: Patient(outgoing, sealer)},
            actions={"sonar": sim.asked.by(self)},
        )
        self.ctx = Context(
            db=db,
            clock=clock,
            sealer=sealer,
            logs=logs,
            blobs=blobs,
            types=TYPES,
            engine=self.engine,
            catalogues=catalogues,
            resolve_commits=_unresolved,
            outgoing=outgoing,
            options=lambda: Options(base_url="http://ci.example.com", max_jobs_per_stage=sim.max_per_stage),
        )

    def begin(self) -> None:
        self.sim.note(f"boot {self.process.name}")
        serving = self.sim.loop.create_task(self._serve(), context=self.process.context)
        serving.add_done_callback(self._over, context=OUTSIDE)

    def leave(self) -> None:
        """Shut it down in good order."""
        if not self._leaving.done():
            self._leaving.set_result(None)

    async def _serve(self) -> None:
        try:
            async with self.engine.running():
                self.ready = True
                try:
                    await self._leaving
                finally:
                    await self.own.drain(DRAIN_S)
        finally:
            await self.own.close()

    def _over(self, serving: asyncio.Task[Any]) -> None:
        """It is out of its tree of tasks: the process ends, whatever is left of it."""
        error = serving.exception() if not serving.cancelled() else None
        if error is not None and not _away(error):
            self.sim.fail(f"{self.process.name} ended with {error!r}")
        self.process.die()


def _away(error: BaseException) -> bool:
    """Whether the database or the executor was away when it began, which ends a server in good order."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_away, error.exceptions))
    return isinstance(error, Unavailable) or "simulated" in str(error)


def _collect(workspace: Path, keeps: Any, prefix: str, max_bytes: int) -> tuple[tuple[str, ...], bool]:
    return (), False


async def _unresolved(repos: Any, within_s: float) -> list[Any]:
    return []
