"""What people ask of the servers while they live and die."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cador.domain.errors import CadorError, Unavailable
from cador.operations import manual_stages, system_settings, tasks, workflows
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.task_values import Ballot, Callback, ExecuteRequest, JobInput, RetryRequest, Started, StartRequest
from simulation import definitions
from simulation.dice import dice_of
from simulation.loop import OUTSIDE

if TYPE_CHECKING:
    from simulation.installation import Simulation
    from simulation.server import Server

KINDS: Final = (
    ("start", 36),
    ("vote", 22),
    ("cancel", 12),
    ("retry", 12),
    ("decide", 8),
    ("limit", 5),
    ("delete", 2),
    ("most", 3),
    ("execute", 8),
    ("choose", 8),
)
_TASKS: Final = "SELECT workflow_key, number FROM workflow_task"
PATIENCE_S: Final = 6.0
"""How long somebody waits for an answer before asking elsewhere."""


@dataclass(frozen=True, slots=True)
class Action:
    """``pick``: which of those there are, in 0..1; ``word``: unique, by which its effect is found again."""

    kind: str
    at_s: float
    pick: float
    word: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.at_s:.2f} s, pick {self.pick:.2f}, as {self.word}"


def actions(dice: random.Random, *, until_s: float) -> list[Action]:
    names, weights = zip(*KINDS, strict=True)
    count = dice.choice((5, 10, 15, 20, 25))
    found = [Action("start", dice.random() * 0.5, dice.random(), "u0")]
    for number in range(1, count):
        kind = dice.choices(names, weights)[0]
        found.append(Action(kind, dice.random() * until_s, dice.random(), f"u{number}"))
    return sorted(found, key=lambda action: action.at_s)


@dataclass(slots=True)
class Answer:
    """``said``: ``yes``, ``no`` or nothing at all; ``task``: workflow key and number."""

    action: Action
    task: tuple[str, int]
    said: str = ""
    why: str = ""
    value: Any = None
    final: bool = False
    """The task was over when it was answered, or at some time since it was asked for."""


class Users:
    def __init__(self, sim: "Simulation", wishes: list[Action]) -> None:
        self.sim, self.wishes = sim, wishes
        self.answers: list[Answer] = []
        self.dice = dice_of(sim.seed, "users")
        self.helping = 0

    async def act(self) -> None:
        loop = self.sim.loop
        asked = []
        for wish in self.wishes:
            await asyncio.sleep(max(0.0, wish.at_s - loop.now))
            asked.append(loop.create_task(self._wish(wish), context=OUTSIDE.copy()))
        for one in asked:
            await one

    async def _wish(self, wish: Action) -> None:
        ask = getattr(self, f"_{wish.kind}")
        await ask(wish)

    # -- asking

    async def _ask(self, wish: Action, task: tuple[str, int], call: Callable[[Context], Awaitable[Any]]) -> Answer:
        """Ask some server, once; remember what it said."""
        sim = self.sim
        answer = Answer(wish, task)
        self.answers.append(answer)
        server = await self._find(wish)
        if server is None:
            return answer
        known = sim.judge.tasks.get(task)
        rounds = sim.judge.went_on[known[0]] if known is not None else 0
        sim.note(f"{wish.word} asks {server.process.name}: {wish.kind} {task[0]}:{task[1]}")
        said, value = await self._hear(server, call)
        answer.said, answer.why = said, str(value) if said != "yes" else ""
        if said == "yes":
            answer.value = value
            if isinstance(value, Started):
                answer.task = (value.workflow_key, value.number)
            sim.figures[f"answered {wish.kind}"] += 1
            row = sim.db.raw.execute(
                "SELECT end_at FROM workflow_task WHERE workflow_key = ? AND number = ?", answer.task
            ).fetchone()
            answer.final = row is None or row[0] is not None  # None: it was over, and buried with its workflow
            if known is not None and sim.judge.went_on[known[0]] != rounds:
                answer.final = True
        sim.note(f"{wish.word} hears {said or 'nothing'} {answer.task} {answer.why}"[:200])
        return answer

    async def _find(self, wish: Action) -> "Server | None":
        """A server that takes requests; waits for one for a while."""
        for _ in range(20):
            ready = self.sim.ready()
            if ready:
                return ready[int(self.dice.random() * len(ready))]
            await asyncio.sleep(0.5)
        return None

    async def _hear(self, server: "Server", call: Callable[[Context], Awaitable[Any]]) -> tuple[str, Any]:
        loop = self.sim.loop
        died: asyncio.Future[None] = loop.create_future()

        def gone() -> None:
            if not died.done() and not loop.is_closed():
                died.set_result(None)

        server.process.at_death.append(gone)

        async def whole() -> Any:
            return await call(server.ctx)

        asking = loop.create_task(whole(), context=server.process.context.copy())
        asking.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may be there to hear it
        await asyncio.wait({asking, died}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            if server.process.alive and self.dice.random() < 0.5:
                asking.cancel()  # the connection was closed
            return "", "no answer"
        try:
            return "yes", asking.result()
        except Unavailable as error:
            return "", error
        except CadorError as error:
            return "no", error
        except BaseException as error:
            self.sim.fail(f"an operation raised {error!r}")
            return "", error

    def _actor(self, wish: Action, uid: str = "") -> Actor:
        uid = uid or wish.word
        return Actor(uid, uid.title(), uid, admin=not uid.startswith(definitions.PEOPLE))

    def _pick(self, wish: Action, sql: str) -> Any:
        rows = self.sim.db.raw.execute(sql).fetchall()
        return rows[int(wish.pick * len(rows))] if rows else None

    # -- wishes

    async def _start(self, wish: Action) -> None:
        row = self._pick(wish, "SELECT key, definition FROM workflow ORDER BY key")
        if row is None:
            return
        workflow = tasks.parsed(row[0], 0, row[1])
        names = [job.name for stage in workflow.stages for job in stage.jobs]
        chosen = [name for name in names if self.dice.random() < 0.9] or names
        request = StartRequest(
            row[0],
            "shop",
            inputs=tuple(JobInput(name) for name in chosen),
            idempotency_key=wish.word,
            auto_cancel="pr" if self.dice.random() < 0.1 else "",
            callback=Callback("http://hook.example/"),
        )
        actor = Actor("admin", "Admin", "admin", admin=True)
        for _ in range(4):
            answer = await self._ask(wish, (row[0], 0), lambda ctx: tasks.start_task(ctx, actor, request))
            if answer.said:
                return
            await asyncio.sleep(1.0)

    def _some_task(self, wish: Action, where: str) -> tuple[str, int] | None:
        found = self._pick(wish, f"{_TASKS} WHERE {where} AND NOT deleted ORDER BY id")
        return (found[0], found[1]) if found is not None else None

    async def _cancel(self, wish: Action) -> None:
        task = self._some_task(wish, "end_at IS NULL" if self.dice.random() < 0.8 else "1")
        if task is not None:
            actor = self._actor(wish)
            await self._ask(wish, task, lambda ctx: tasks.cancel_task(ctx, actor, *task))

    async def _retry(self, wish: Action) -> None:
        task = self._some_task(wish, "status IN ('failed', 'timeout', 'cancelled', 'reject', 'cancelling')")
        if task is not None:
            actor = self._actor(wish)
            await self._ask(wish, task, lambda ctx: tasks.retry_task(ctx, actor, *task))

    async def _vote(self, wish: Action) -> None:
        found = self._pick(
            wish,
            "SELECT t.workflow_key, t.number, coalesce(j.name, s.name), a.approvers FROM approval a"
            " JOIN workflow_task t ON t.id = a.task_id LEFT JOIN job_task j ON j.id = a.job_id"
            " JOIN stage_task s ON s.task_id = t.id AND s.idx = a.stage WHERE a.status = 'waiting' ORDER BY a.id",
        )
        if found is None:
            return
        key, number, name, approvers = found
        people = [person for person in definitions.PEOPLE if f'"{person}"' in approvers]
        voter = people[int(self.dice.random() * len(people))] if self.dice.random() < 0.9 else "eve"
        ballot = Ballot(key, number, name, self.dice.random() < 0.8, wish.word)
        actor = Actor(voter, voter.title(), voter)
        await self._ask(wish, (key, number), lambda ctx: tasks.approve(ctx, actor, ballot))

    async def _decide(self, wish: Action) -> None:
        found = self._pick(
            wish,
            "SELECT t.workflow_key, t.number, j.name FROM job_task j JOIN workflow_task t ON t.id = j.task_id"
            " WHERE j.status = 'wait_for_manual_error_handling' ORDER BY j.id",
        )
        if found is None:
            return
        key, number, name = found
        actor, ignore = self._actor(wish), self.dice.random() < 0.5
        await self._ask(wish, (key, number), lambda ctx: tasks.decide(ctx, actor, key, number, name, ignore=ignore))

    async def _limit(self, wish: Action) -> None:
        found = self._pick(wish, "SELECT key, definition FROM workflow ORDER BY key")
        if found is None:
            return
        document = {**definitions.document_of(found[1]), "concurrency_limit": definitions.limit(self.dice)}
        actor = self._actor(wish)
        await self._ask(
            wish, (found[0], 0), lambda ctx: workflows.replace_workflow(ctx, actor, found[0], "shop", document)
        )

    async def _delete(self, wish: Action) -> None:
        found = self._pick(wish, "SELECT key FROM workflow ORDER BY key")
        if found is not None:
            actor = self._actor(wish)
            await self._ask(wish, (found[0], 0), lambda ctx: workflows.delete_workflow(ctx, actor, found[0], "shop"))

    async def _most(self, wish: Action) -> None:
        """The limit of all tasks is changed while they run."""
        most = 1 + int(wish.pick * 5)
        actor, changes = self._actor(wish), {"engine.max_running_tasks": most}
        await self._ask(wish, ("", 0), lambda ctx: system_settings.change_settings(ctx, actor, changes))

    async def _execute(self, wish: Action) -> None:
        found = self._pick(
            wish,
            "SELECT t.workflow_key, t.number, s.name FROM stage_task s JOIN workflow_task t ON t.id = s.task_id"
            " WHERE s.status = 'pause' ORDER BY t.id",
        )
        if found is None:
            return
        key, number, name = found
        actor, request = self._actor(wish), ExecuteRequest(name)
        await self._ask(
            wish, (key, number), lambda ctx: manual_stages.execute_stage(ctx, actor, key, number, "shop", request)
        )

    async def _choose(self, wish: Action) -> None:
        """Retry a failed job alone, or from a job on."""
        found = self._pick(
            wish,
            "SELECT t.workflow_key, t.number, j.name FROM job_task j JOIN workflow_task t ON t.id = j.task_id"
            " WHERE j.status IN ('failed', 'timeout', 'cancelled', 'passed', 'running') AND NOT t.deleted"
            " ORDER BY j.id",
        )
        if found is None:
            return
        key, number, name = found
        request = RetryRequest(jobs=(name,)) if self.dice.random() < 0.6 else RetryRequest(from_job=name)
        actor = self._actor(wish)
        await self._ask(wish, (key, number), lambda ctx: tasks.retry_task(ctx, actor, key, number, "shop", request))

    # -- at the end

    async def clear_up(self) -> None:
        """Somebody answers all that is still asked. Nobody helps what hangs."""
        self.helping += 1
        for kind in ("vote", "decide", "execute"):
            await self._wish(Action(kind, 0.0, self.dice.random(), f"h{self.helping}"))
