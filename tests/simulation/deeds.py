"""What servers carry out themselves: jobs without processes. What they do outside is counted, by key and by attempt.

A deed lives in the memory of its server and dies with it. It takes its time, hangs, fails, loses the answer of what it
did, and takes a moment to clear up when it is broken off.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cador.domain.workflow import Job
from cador.executors.server import ServerExecutor
from cador.jobs.base import Doc, Run, Scope
from cador.jobs.server import FACTS, ServerType
from cador.jobs.types import load_types
from cador.ports.actions import Action, ActionFailed, ActionRun
from cador.ports.executor import End, Output, StepMark, Unreachable
from simulation.dice import dice_of

if TYPE_CHECKING:
    from simulation.installation import Simulation
    from simulation.server import Server

UNATTENDED_S: Final = 4.0
"""After so long without a follower a deed is broken off; half of what a server is missed before it is given up."""
DRAIN_S: Final = 2.0
"""How long a server that is shut down waits for deeds that are not repeatable."""
BREAK_OFF_S: Final = 15
"""Seconds after which a deed that is no execution of its server any more must have been broken off."""


class Declare(ServerType):
    """May be done again, and at two places at once. No job type of the product may, so far."""

    name = "declare"
    repeatable = True

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> dict[str, Any]:
        return dict(job.spec)

    def plan(self, job: Job, scope: Scope) -> dict[str, Any]:
        return dict(job.spec)

    def arguments(self, plan: Doc, run: Run) -> dict[str, Any]:
        return dict(plan)

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> dict[str, Any]:
        return dict(plan)


TYPES: Final = {**load_types(), Declare.name: Declare()}


class _Said(NamedTuple):
    event: bytes


@dataclass(slots=True)
class Deed:
    """``owner``: the id under which its server follows it. ``strange_s``: for how long it has been nobody's, as far as
    its server could know."""

    server: "Server"
    owner: str
    plan: list[_Said] = field(default_factory=list)
    end: End | None = None
    strange_s: int = 0


class Deeds:
    """``runs``: deeds whose server lives or that came to their end, by key, as a :class:`ScriptedWorld` has jobs."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        self.runs: dict[str, Deed] = {}
        self._begun: Counter[str] = Counter()
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._followed: dict[tuple[Server, str], bool] = {}

    def end(self, key: str) -> End | None:
        deed = self.runs.get(key)
        return deed.end if deed is not None else None

    def by(self, server: "Server", *, repeatable: bool) -> Action:
        """The action of *server*."""

        async def act(run: ActionRun, arguments: Mapping[str, Any]) -> None:
            sim, dice = self._sim, dice_of(self._sim.seed, f"deed {run.key}")
            deed = self._begin(server, run.key, repeatable=repeatable)
            code, stopped = 1, ""
            try:
                for number in range(dice.choice((0, 1, 3))):
                    text = f"line {number} of {run.key}"
                    deed.plan.append(_Said(text.encode()))
                    run.line(text)
                    await asyncio.sleep(dice.choice((0.0, 0.05, 0.5, 2.0)) * dice.random())
                await sim.way.there(server.process, "deed", run.key)
                await asyncio.sleep(
                    200.0 if dice.random() < 0.06 else dice.choice((0.0, 0.1, 1.0, 6.0)) * dice.random()
                )
                await sim.way.back(server.process, "deed")
                if dice.random() < 0.15:
                    raise ActionFailed("simulated: refused")
                if dice.random() < 0.04:
                    raise ValueError("simulated: a mistake of ours")
                run.leave(FACTS, json.dumps({"results": []}))
                code = 0
            except (OSError, Unreachable) as error:
                raise ActionFailed(str(error)) from error
            except asyncio.CancelledError:
                stopped = "cancel"
                if dice.random() < 0.3:
                    await asyncio.sleep(dice.random())
                raise
            finally:
                sim.note(f"deed {run.key} ends with {code} {stopped}")
                deed.end = End(code, sim.true_time(), stopped)

        return act

    def _begin(self, server: "Server", key: str, *, repeatable: bool) -> Deed:
        sim = self._sim
        deed = self.runs[key] = sim.runs[key] = Deed(server, server.engine.me)
        sim.figures["deeds"] += 1
        self._begun[key] += 1
        *_, job_id, attempt, _ = key.split(".")
        self._attempts[job_id, attempt] += 1
        if self._begun[key] > 1:
            sim.fail(f"{key} is done twice")
        if self._attempts[job_id, attempt] > 1 and not repeatable:
            sim.fail(f"{key} is done although the same attempt was begun before, and it must not be repeated")
        if not self._followed.get((server, key)):
            sim.fail(f"{server.process.name} begins {key}, which others may have given up")
        row = sim.db.raw.execute("SELECT status FROM job_task WHERE id = ?", (job_id,)).fetchone()
        if (row is None or row[0] != "running") and key not in sim.judge.given_up:
            sim.fail(f"{key} begins, and the tables do not say that it runs: {row}")
        sim.judge.began(key)
        return deed

    def follow(self, server: "Server", key: str) -> None:
        """*server* follows it from now on, for the first time or again."""
        self._followed[server, key] = server.engine.holds(server.engine.me)
        deed = self.runs.get(key)
        if deed is not None and deed.server is server:
            deed.owner = server.engine.me

    def died(self, server: "Server") -> None:
        """With a server goes what it is doing."""
        for key in [key for key, deed in self.runs.items() if deed.server is server and deed.end is None]:
            self._sim.judge.lost(key)
            del self.runs[key]

    def loose(self, key: str) -> bool:
        """Whether it is out of the hands of the server that did it: broken off, or others may have it for lost."""
        deed = self.runs.get(key)
        return deed is not None and (deed.end is not None or not deed.server.engine.holds(deed.owner))

    def parked(self, key: str) -> bool:
        """Whether it can neither go on nor be stopped now."""
        deed = self.runs.get(key)
        return deed is not None and deed.server.process.frozen

    def tick(self) -> None:
        """Once a second: who has lost an execution does not go on with it."""
        owners = dict(self._sim.db.raw.execute("SELECT key, owner FROM execution").fetchall())
        for key, deed in self.runs.items():
            if deed.end is not None or deed.server.process.frozen:
                continue
            ours = owners.get(key) == deed.server.engine.me
            deed.strange_s = 0 if ours else deed.strange_s + 1
            if deed.strange_s > BREAK_OFF_S:
                self._sim.fail(f"{deed.server.process.name} goes on with {key}, which is {owners.get(key, 'over')}'s")


class OwnExecutor(ServerExecutor):
    """The executor of actions of one server. Nothing is between it and the engine: no way that is slow or breaks."""

    def __init__(self, server: "Server", clock: Callable[[], float]) -> None:
        deeds, slot = server.sim.deeds, server.slot
        actions = {"sql": deeds.by(server, repeatable=False), Declare.name: deeds.by(server, repeatable=True)}
        super().__init__(actions, place=f"m{slot}:boot::home{slot}", clock=clock, unattended_s=UNATTENDED_S)
        self._server = server

    async def follow(self, key: str, ref: str, after: int) -> AsyncIterator[Output | StepMark | End]:
        self._server.sim.deeds.follow(self._server, key)
        items = super().follow(key, ref, after)
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()  # type: ignore[attr-defined]
