"""One run: everything of it follows from its seed, and from what is left out of it."""

import asyncio
import contextlib
import gc
import hashlib
import itertools
import re
import sys
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import structlog

from cador.executors.scripted import ScriptedWorld
from cador.jobs.definition import normalise, parse_workflow
from cador.jobs.rules import check_workflow
from cador.ports.stores import Resource, Tx, User, WorkflowRow
from cador.storage.database import Stores
from simulation import definitions
from simulation.asking import Asked
from simulation.database import ANYBODY, SimulatedDatabase, Violation
from simulation.deeds import TYPES, Deeds
from simulation.dice import dice_of, loaded
from simulation.executor import Way
from simulation.faults import Fault, deed_faults, faults
from simulation.judge import Judge
from simulation.logs import LogHost
from simulation.loop import BASE, OUTSIDE, Process, SeededLoop
from simulation.peers import Cluster
from simulation.rest import look_over
from simulation.server import Server
from simulation.users import Action, Users, actions

BUSY_S: Final = 25.0
"""Faults and wishes begin within so many seconds."""
REST_S: Final = 900.0
"""When the last fault is over, everything must have come to rest after so many seconds."""
TAIL: Final = 60
_buried: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class Result:
    seed: int
    violation: str
    digest: str
    trace: tuple[str, ...]
    faults: tuple[Fault, ...]
    actions: tuple[Action, ...]
    figures: Counter[str] = field(default_factory=Counter)


class Simulation:
    def __init__(self, seed: int, *, without: Collection[str] = (), trace: int = TAIL) -> None:
        """*without*: faults and actions left out, by ``f<number>`` and ``a<number>``."""
        self.seed = seed
        dice = dice_of(seed, "shape")
        self.alone = dice.random() < 0.4
        self.slots = 1 if self.alone else dice.choice((2, 2, 3))
        self.spread = not self.alone and dice.random() < 0.35
        """Each slot is a machine of its own: what runs on one the others do not reach."""
        self.max_running = dice.choice((1, 2, 2, 3, 5))
        self.max_jobs = dice.choice((1, 2, 3, 5))
        self.max_per_stage = dice.choice((1, 2, 3))
        self.slow = dice.choice((0.0, 0.0, 0.1, 0.5))
        self.installation = f"sim{seed}"
        self.faults = faults(dice_of(seed, "faults"), alone=self.alone, until_s=BUSY_S)
        self.has_deeds = definitions.has_deeds(seed)
        if self.has_deeds:
            self.faults += deed_faults(dice_of(seed, "faults of deeds"), until_s=BUSY_S)
        self.actions = actions(dice_of(seed, "actions"), until_s=BUSY_S)
        self._left = [f for n, f in enumerate(self.faults) if f"f{n}" not in without]
        self._wishes = [a for n, a in enumerate(self.actions) if f"a{n}" not in without]
        self.dice = dice_of(seed, "way")
        self.trace: deque[str] = deque(maxlen=trace)
        self.figures: Counter[str] = Counter()
        self.violation = ""
        self.told: Counter[str] = Counter()
        """How often the outside was told something, by the key of the delivery."""
        self.said: dict[str, set[str]] = {}
        """In what words, by the same key."""
        self.heard_by: dict[str, tuple[Server, str]] = {}
        """Which server, under which id, heard last that it had been told."""
        self._digest = hashlib.sha256()
        self.loop = SeededLoop(dice_of(seed, "order"), self._step)
        self._armed: list[tuple[int, Fault]] = []
        self._aimed: dict[str, list[Fault]] = {}
        self.drift = 0.0
        """Of the database's clock."""
        self.healed = False

    # -- what all parts use

    def true_time(self) -> float:
        return BASE + self.loop.now

    def database_time(self) -> float:
        return BASE + self.loop.now + self.drift

    def note(self, what: str) -> None:
        line = f"{self.loop.now:9.3f}  {what}"
        self.trace.append(line)
        self._digest.update(line.encode())

    def fail(self, what: str) -> None:
        if not self.violation:
            self.violation = what
            self.note(f"VIOLATION {what}")
        self.loop.stop()

    # -- the run

    def run(self) -> Result:
        asyncio.set_event_loop(None)
        saved = structlog.get_config()
        structlog.configure(processors=[self._logged], cache_logger_on_first_use=False)
        was = gc.isenabled()
        gc.disable()
        try:
            with loaded(self.seed):
                try:
                    self._prepare()
                    main = self.loop.create_task(self._main())
                    main.add_done_callback(lambda _: self.loop.stop())
                    self.loop.set_exception_handler(self._surprised)
                    self.loop.run_forever()
                    if not self.violation and main.done() and main.exception() is not None:
                        raise main.exception()  # type: ignore[misc]
                finally:
                    self._bury()
        finally:
            structlog.configure(**saved)
            if was:
                gc.enable()
        self._digest.update(f"{self.loop.checksum} {self.loop.steps}".encode())
        self.figures["steps"] += self.loop.steps
        self.figures["commits"] += self.db.commits
        self.figures["checks"] += self.judge.checks
        self.figures["virtual_s"] += int(self.loop.now)
        return Result(
            self.seed, self.violation, self._digest.hexdigest()[:16], tuple(self.trace), tuple(self.faults),
            tuple(self.actions), self.figures,
        )  # fmt: skip

    def _bury(self) -> None:
        """End what is left without running any of it."""
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            self.loop.close()
            with _quiet():
                for task in self.loop.tasks:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    with contextlib.suppress(BaseException):
                        task.get_coro().close()  # type: ignore[union-attr]
            self.loop.tasks.clear()
            self.loop._waiting.clear()
            self.loop._scheduled.clear()  # type: ignore[attr-defined]
            for server in self.servers:
                server.process.die()
            with _quiet():
                self.servers, self.slots_now = [], []
                if next(_buried) % 10 == 0:  # it takes as long as a fifth of a run
                    gc.collect()
        finally:
            sys.unraisablehook = hook

    def _surprised(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Violation):
            self.fail(str(error))
        else:
            self.fail(f"{context.get('message')}: {error!r}")

    def _logged(self, logger: Any, method: str, event: dict[str, Any]) -> Any:
        what = event.pop("event")
        event.pop("exc_info", None)
        told = " ".join(f"{key}={value}" for key, value in sorted(event.items()))
        self.note(f"log {what} {told}"[:300])
        self.figures[f"log {what}"] += 1
        error = str(event.get("error", ""))
        expected = re.search("simulated|Unavailable|OutcomeUnknown|Unreachable|TimeoutError", error)
        if what in ("child_failed", "following_failed") or (what == "command_failed" and not expected):
            self.fail(f"{what}: {told}")
        raise structlog.DropEvent

    def _prepare(self) -> None:
        self.db = SimulatedDatabase(self.loop, self.database_time)
        self.db.late = not self.alone
        names = [f"m{slot}:boot" for slot in range(self.slots)] if self.spread else ["cluster:"]
        self.worlds = [ScriptedWorld(self.true_time, place=name) for name in names]
        self.deeds = Deeds(self)
        self.judge = Judge(
            self.db, [*self.worlds, self.deeds], self.deeds, note=self.note, fail=self.fail, max_running=self._most,
            installation=self.installation,
        )  # fmt: skip
        self.db.watch, self.db.begin = self._watch, self.judge.begin
        self.contended = self.dice.choice((0.0, 0.0, 0.3))
        """How often somebody else holds the admission row."""
        for world in self.worlds:
            world.began = lambda key, world=world: self._began(world, key)
        self.runs: dict[str, Any] = {}
        """All that ever began outside, by key."""
        self.way = Way(self.dice)
        self.way.slow = self.slow
        self.way.calls = self._called
        self.asked = Asked(self)
        self.logs = LogHost()
        self.cluster = Cluster(self.loop, self.db, self.database_time, dice_of(self.seed, "news"))
        self.cluster.losing = self.dice.choice((0.0, 0.0, 0.2, 1.0))
        self.script = definitions.scripts(self.seed)
        self.db.fault, self.db.before, self.db.after = self._fault, self._before, self._after
        self.db.delay = self._delay
        self.servers: list[Server] = []
        self.slots_now: list[Server | None] = [None] * self.slots
        stores = self.db.stores()
        self.db.run(stores, self._fill, commit=True)
        self.users = Users(self, self._wishes)

    def _fill(self, tx: Tx) -> None:
        for account in ("admin", *definitions.PEOPLE):
            tx.people.add_user(User(account, account, account.title(), admin=account == "admin"))
        project = {"project_key": "shop", "project_name": "The shop"}
        resources = [Resource("project", "", "shop", project), *definitions.scan()]
        for resource in [*resources, definitions.database()] if self.has_deeds else resources:
            tx.resources.add(resource)
        dice = dice_of(self.seed, "workflows")
        self.workflows = [f"w{number}" for number in range(dice.choice((1, 2, 3)))]
        for key in self.workflows:
            document = definitions.with_scan(dice_of(self.seed, f"scan in {key}"), definitions.workflow(dice, key))
            if self.has_deeds:
                document = definitions.with_deeds(dice_of(self.seed, f"deeds in {key}"), document)
            tx.workflows.add(self.definition(document))

    def definition(self, document: dict[str, Any]) -> WorkflowRow:
        doc = normalise(document)
        workflow = parse_workflow(doc)
        check_workflow(workflow, TYPES)
        at = self.true_time()
        return WorkflowRow(
            workflow.key, "shop", workflow.display_name, workflow.type, workflow.concurrency_limit, workflow.disabled,
            msgspec.json.encode(doc).decode(), 1, "Admin", at, "Admin", at,
        )  # fmt: skip

    async def _main(self) -> None:
        shape = f"{'alone' if self.alone else self.slots}{' spread' if self.spread else ''}"
        self.note(f"seed {self.seed}: {shape}, {self.max_running} tasks, {self.max_jobs} jobs, {self.max_per_stage}")
        for slot in range(self.slots):
            self._boot(slot)
        for fault in self._left:
            self.loop.call_later(fault.at_s, self._arm, fault, context=OUTSIDE)
        ticking = self.loop.create_task(self._tick(), context=OUTSIDE)
        await self.users.act()
        await asyncio.sleep(max(0.0, BUSY_S - self.loop.now))
        while any(server.process.frozen for server in self.servers):  # noqa: ASYNC110 - time costs nothing here
            await asyncio.sleep(0.5)
        self._heal()
        await self._come_to_rest()
        ticking.cancel()
        look_over(self)

    def _heal(self) -> None:
        """From here on nothing goes wrong any more."""
        self.note("healed")
        self.healed = True
        self._armed.clear()
        self._aimed.clear()
        self.cluster.away = False
        self.cluster.losing = 0.0
        self.way.slow = self.way.failing = 0.0
        self.way.cut.clear()
        for world in self.worlds:
            world.reachable = True
            world.changed()

    async def _come_to_rest(self) -> None:
        deadline = self.loop.now + REST_S
        while not self.at_rest():
            if self.loop.now > deadline:
                busy = [(server.process.name, server.engine.busy) for server in self.living()]
                self.fail(f"does not come to rest: {self.unfinished()}, {busy}")
                return
            await self.users.clear_up()
            await asyncio.sleep(1.0)

    def unfinished(self) -> dict[str, Any]:
        execute = self.db.raw.execute
        return {
            "tasks": execute(
                "SELECT id, workflow_key, number, status, slot FROM workflow_task"
                " WHERE status IN ('waiting', 'running', 'cancelling', 'expiring', 'pause')"
            ).fetchall(),
            "jobs": execute(
                "SELECT id, task_id, name, status, attempt, recovery, stopping FROM job_task WHERE status NOT IN"
                " ('', 'passed', 'failed', 'timeout', 'cancelled', 'reject', 'skipped', 'unstable')"
            ).fetchall(),
            "commands": execute(
                "SELECT id, key, due_at - ?, owner, tries FROM command", (self.database_time(),)
            ).fetchall(),
            "executions": execute("SELECT key, owner, place FROM execution").fetchall(),
        }

    def at_rest(self) -> bool:
        busy = any(server.engine.busy for server in self.living())
        return not busy and not any(self.unfinished().values())

    def _watch(self, stores: Stores) -> None:
        self.judge.watch(stores)
        lock = stores.admission.lock

        def tried(*, wait: bool = True) -> Any:
            return None if not wait and self.dice.random() < self.contended else lock(wait=wait)

        stores.admission.lock = tried  # type: ignore[method-assign]

    def _most(self) -> int:
        """How many tasks may hold a slot now: what an administrator set wins over what is configured."""
        (live,) = self.db.raw.execute("SELECT max_running_tasks FROM admission").fetchone()
        return self.max_running if live is None else int(live)

    # -- servers

    def _boot(self, slot: int) -> None:
        server = Server(self, slot, len(self.servers))
        self.servers.append(server)
        self.slots_now[slot] = server
        server.process.at_death.append(lambda: self._died(server))
        server.begin()

    def _died(self, server: Server) -> None:
        if self.loop.is_closed():
            return
        self.note(f"{server.process.name} is dead")
        self.figures["deaths"] += 1
        self.deeds.died(server)
        self.loop.call_later(self.dice.choice((0.0, 0.3, 2.0, 6.0)), self._boot, server.slot, context=OUTSIDE)

    def living(self) -> list[Server]:
        return [server for server in self.slots_now if server is not None and server.process.alive]

    def ready(self) -> list[Server]:
        return [server for server in self.living() if server.ready]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            living = self.ready()
            owners = {server.engine.me for server in living}
            awake = [server for server in living if server.engine.me and not server.process.frozen]
            away = self.cluster.away or self.spread
            self.judge.tick(owners, could_adopt=bool(awake) and not away)
            self.deeds.tick()

    def _began(self, world: ScriptedWorld, key: str) -> None:
        self.runs[key] = world.runs[key]
        self.figures["executions"] += 1
        self.judge.began(key)

    async def tell(self, server: Server, key: str, status: str) -> None:
        """A call to the outside arrives there, and its answer goes back."""
        process = server.process
        await self.way.there(process, "tell", key)
        if self.heard_by.get(key) == (server, server.engine.me):
            self.fail(f"{process.name} tells once more what it knows to be told: {status} under {key}")
        self.told[key] += 1
        self.said.setdefault(key, set()).add(status)
        await self.way.back(process, "tell")
        self.heard_by[key] = server, server.engine.me

    # -- faults

    def _delay(self) -> float:
        if self.dice.random() < 0.6:
            return 0.0
        return self.dice.random() ** 3 * (0.2 if self.slow else 0.02)

    def _arm(self, fault: Fault) -> None:
        if self.healed:
            return
        if fault.at:
            self._aimed.setdefault(fault.at, []).append(fault)
        elif fault.steps:
            self._armed.append((self.loop.steps + fault.steps, fault))
        else:
            self._strike(fault)

    def _step(self, process: Process | None) -> None:
        while self._armed and self._armed[0][0] <= self.loop.steps:
            self._strike(self._armed.pop(0)[1])

    def _aim(self, at: str, kinds: Collection[str]) -> Fault | None:
        waiting = self._aimed.get(at)
        if waiting and waiting[0].kind in kinds:
            fault = waiting.pop(0)
            self.note(f"fault {fault}")
            self.figures[f"fault {fault.kind}"] += 1
            return fault
        return None

    def _fault(self, process: Process, name: str, writes: bool) -> str:
        if self.cluster.away:
            return "away"
        if not writes or process is ANYBODY:
            return ""
        fault = self._aim(name, ("write_lost", "write_undone", "write_twice"))
        return fault.kind.removeprefix("write_") if fault is not None else ""

    def _before(self, process: Process, name: str) -> None:
        if process is not ANYBODY and self._aim(name, ("write_before",)) is not None:
            process.die()

    def _after(self, process: Process, name: str) -> None:
        self.judge.committed()
        if process is ANYBODY:
            return
        if self._aim(name, ("write_after",)) is not None:
            process.die()
        elif (fault := self._aim(name, ("write_freeze",))) is not None:
            self._freeze(process, fault.seconds)

    def _called(self, process: Process, call: str, key: str) -> None:
        fault = self._aim(call, ("call",))
        if fault is None:
            return
        if fault.seconds < 1.0 or (call.endswith("back") and fault.pick < 0.6):
            process.die()
        else:
            self._freeze(process, fault.seconds)

    def _freeze(self, process: Process, seconds: float) -> None:
        if process.alive and not process.frozen:
            process.frozen = True
            self.loop.call_later(seconds, self._thaw, process, context=OUTSIDE)

    def _thaw(self, process: Process) -> None:
        if process.alive and process.frozen:
            self.note(f"thaw {process.name}")
            self.loop.thaw(process)

    def _strike(self, fault: Fault) -> None:
        self.note(f"fault {fault}")
        self.figures[f"fault {fault.kind}"] += 1
        living = self.living()
        server = living[int(fault.pick * len(living))] if living else None
        later = self.loop.call_later
        match fault.kind:
            case "kill" | "host" if server is not None:
                term = server.peers.term if not self.alone else None  # type: ignore[union-attr]
                server.process.die()
                if fault.kind == "host" and term is not None and not term.broken:
                    self.cluster.locks[term.me] = term
                    later(fault.seconds + 1.0, self.cluster.unlock, term, context=OUTSIDE)
                    self._host_dies(server)
            case "freeze" if server is not None:
                self._freeze(server.process, fault.seconds + 0.1)
            case "lose_lock" if server is not None and not self.alone:
                if server.peers.term is not None:  # type: ignore[union-attr]
                    server.peers.term.lose()  # type: ignore[union-attr]
            case "leave" if server is not None:
                server.leave()
            case "away":
                self.cluster.away = True
                later(fault.seconds, self._restore, "away", context=OUTSIDE)
            case "slow":
                self.way.slow = 0.8
                later(fault.seconds, self._restore, "slow", context=OUTSIDE)
            case "failing":
                self.way.failing = 0.3
                later(fault.seconds, self._restore, "failing", context=OUTSIDE)
            case "cut" if server is not None:
                if fault.pick < 0.5:
                    self.way.cut.add(server.process)
                    later(fault.seconds, self.way.cut.discard, server.process, context=OUTSIDE)
                else:
                    world = self.worlds[int(fault.pick * 100) % len(self.worlds)]
                    world.reachable = False
                    world.changed()
                    later(fault.seconds, self._reach, world, context=OUTSIDE)
            case "lose_job" | "crash_job":
                self._harm(fault)
            case "clock":
                if fault.pick < 0.5 or server is None:
                    self.drift += fault.seconds
                else:
                    server.drift += fault.seconds

    def _host_dies(self, server: Server) -> None:
        """With a machine of its own go its jobs."""
        if self.spread:
            world = self.worlds[server.slot]
            for key in [key for key in world.runs if world.end(key) is None]:
                self.judge.lost(key)
                world.lose(key)

    def _harm(self, fault: Fault) -> None:
        running = [(world, key) for world in self.worlds for key in world.runs if world.end(key) is None]
        if running:
            world, key = running[int(fault.pick * len(running))]
            self.note(f"{fault.kind} {key}")
            self.judge.lost(key)
            if fault.kind == "lose_job":
                world.lose(key)
            else:
                world.crash(key)

    def _restore(self, what: str) -> None:
        self.note(f"restored: {what}")
        if what == "away":
            self.cluster.away = False
        elif not self.healed and what == "slow":
            self.way.slow = self.slow
        elif what == "failing":
            self.way.failing = 0.0

    def _reach(self, world: ScriptedWorld) -> None:
        world.reachable = True
        world.changed()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What is thrown away may cry out, and nobody listens."""
    saved = structlog.get_config()

    def drop(logger: Any, method: str, event: dict[str, Any]) -> Any:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    try:
        yield
    finally:
        structlog.configure(**saved)
