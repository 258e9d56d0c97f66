"""The engine where the outside misbehaves: replies that come late or not at all, executors that are away, surprises."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Conflict, Unavailable
from cador.engine import engine as engine_module
from cador.executors.scripted import Script
from cador.operations import tasks, workflows
from cador.operations.task_values import JobInput, StartRequest
from cador.ports.peers import Replica
from cador.ports.stores import Tx
from cador.storage.errors import OutcomeUnknown
from support import virtual_loop
from support.world import World, describe

KEY = "flow"


def job(name: str, script: str = "sleep 1", **more: Any) -> dict[str, Any]:
    steps = [{"name": "shell", "type": "shell", "spec": {"script": script}}]
    spec = {"properties": {"timeout": 60, **more.pop("properties", {})}, "steps": steps, **more.pop("spec", {})}
    return {"name": name, "type": "freestyle", "spec": spec, **more}


def flow(*stages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "name": KEY,
        "stages": [
            {"name": f"s{number}", "parallel": len(jobs) > 1, "jobs": jobs} for number, jobs in enumerate(stages, 1)
        ],
        **more,
    }


def play(tmp_path: Path, act: Callable[[World], Coroutine[Any, Any, None]], *, limit_s: float = 86_400.0) -> None:
    """Run *act* in a world on the virtual clock that is not booted yet."""

    async def whole() -> None:
        world = await World.virtual(tmp_path)
        try:
            await act(world)
        finally:
            await world.close()

    virtual_loop.run(whole(), limit_s=limit_s)


class Wrapped:
    """A database whose replies are changed on their way: what *reply* does comes after the commit."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.reply: Callable[[Any], Coroutine[Any, Any, None]] | None = None
        self.before: Callable[[Any], Coroutine[Any, Any, None]] | None = None

    async def write(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if self.before is not None:
            await self.before(fn)
        result = await self._inner.write(fn, *args, **kwargs)
        if self.reply is not None:
            await self.reply(fn)
        return result

    async def read(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return await self._inner.read(fn, *args, **kwargs)

    async def close(self) -> None:
        await self._inner.close()


def wrapped(world: World) -> Wrapped:
    world.db = Wrapped(world.db)
    return world.db


def once(named: str, error: Exception) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """Raise *error* the first time the transaction *named* comes by."""
    waiting = [named]

    async def act(fn: Any) -> None:
        if fn.__name__ in waiting:
            waiting.remove(fn.__name__)
            raise error

    return act


# -- nobody waits for a wake-up that was lost


def test_a_start_that_comes_while_the_dispatcher_asks_is_not_left_lying(tmp_path: Path) -> None:
    """While the dispatcher looks for starts it holds all room, so a transaction in that moment can take none."""

    async def act(world: World) -> None:
        await world.define(flow([job("a", "exit 0")]))
        db = wrapped(world)
        asking = asyncio.Event()

        async def late(fn: Any) -> None:
            if fn.__name__ == "_claim_due":
                asking.set()
                await asyncio.sleep(0.05)

        await world.boot()
        await asyncio.sleep(0.01)
        db.reply = late
        world.engine.wake()
        await asking.wait()
        began = asyncio.get_running_loop().time()
        number = await world.start(KEY)
        await world.done(KEY, number)
        assert asyncio.get_running_loop().time() - began < 0.5

    play(tmp_path, act)


def test_a_start_that_failed_is_tried_again_in_time(tmp_path: Path) -> None:
    """The next try is due in a moment; the dispatcher that is asking just then does not know of it."""

    async def act(world: World) -> None:
        world.scripts = {"busy": Script(start_error=OSError("no room on this machine"))}
        await world.define(flow([job("a", "exit 0", properties={"envs": [{"key": "TEST_JOB", "value": "busy"}]})]))
        db = wrapped(world)

        async def late(fn: Any) -> None:
            if fn.__name__ == "_claim_due":
                await asyncio.sleep(0.1)

        await world.boot()
        await asyncio.sleep(0.01)
        db.reply = late
        world.engine.wake()
        await asyncio.sleep(0.05)
        number = await world.start(KEY)
        await asyncio.sleep(0.05)
        world.scripts["busy"] = Script()
        began = asyncio.get_running_loop().time()
        await world.done(KEY, number)
        assert asyncio.get_running_loop().time() - began < 1.5

    play(tmp_path, act)


# -- the reply of a commit that never comes


@pytest.mark.parametrize("named", ["_store", "_started", "_ended", "_claim_due"])
def test_what_was_committed_without_a_reply_is_carried_out(named: str, tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("a")], [job("b"), job("c")]))
        db = wrapped(world)
        if named == "_claim_due":
            world.max_jobs = 1  # one of the two that run side by side is left for the dispatcher
        await world.boot()
        await asyncio.sleep(0.1)
        unheard = []

        async def lose(fn: Any) -> None:
            claims = named != "_claim_due" or await db.read(lambda tx: tx.commands.owned(world.engine.me))
            if fn.__name__ == named and claims and not unheard:
                unheard.append(named)
                raise OutcomeUnknown("database: gone while it committed")

        db.reply = lose
        try:
            number = await world.start(KEY)
        except Unavailable:
            number = 1
        detail = await world.done(KEY, number, within_s=30.0)
        assert unheard
        assert detail.row.status == "passed", describe(detail)
        assert world.scripted is not None
        assert len(world.scripted.starts) == 3, "each job ran once"
        assert world.engine.busy == 0

    play(tmp_path, act)


def test_a_caller_that_is_cancelled_leaves_nothing_undone(tmp_path: Path) -> None:
    """Whoever asked may go away between the commit and its reply: what was committed is carried out all the same."""

    async def act(world: World) -> None:
        await world.define(flow([job("a")]))
        db = wrapped(world)

        async def late(fn: Any) -> None:
            if fn.__name__ == "_store":
                await asyncio.sleep(0.2)

        await world.boot()
        db.reply = late
        asking = asyncio.create_task(world.start(KEY))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        detail = await world.done(KEY, 1, within_s=10.0)
        assert detail.row.status == "passed"
        assert world.engine.busy == 0

    play(tmp_path, act)


# -- executors that are away, and surprises


def test_an_executor_that_is_away_for_a_moment_costs_nothing(tmp_path: Path) -> None:
    """How long it may be away counts from when it went away, not from the start of the job."""

    async def act(world: World) -> None:
        await world.define(flow([job("a", "sleep 600")]))
        await world.boot()
        assert world.scripted is not None
        number = await world.start(KEY)
        await asyncio.sleep(300.0)
        world.scripted.reachable = False
        world.scripted.changed()
        await asyncio.sleep(20.0)
        world.scripted.reachable = True
        detail = await world.done(KEY, number, within_s=900.0)
        assert detail.row.status == "passed", describe(detail)

    play(tmp_path, act)


@pytest.mark.parametrize("how", ["gone", "unreachable"])
def test_a_lost_execution_is_told_although_the_database_is_away(how: str, tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("a", "sleep 600")]))
        db = wrapped(world)
        await world.boot()
        assert world.scripted is not None
        number = await world.start(KEY)
        await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status == "running")
        db.before = once("_lost", Unavailable("database: away"))
        if how == "gone":
            world.scripted.runs.clear()
        else:
            world.scripted.reachable = False
        world.scripted.changed()
        detail = await world.done(KEY, number, within_s=1000.0)
        assert detail.row.status == ("passed" if how == "gone" else "failed"), describe(detail)
        assert world.engine.busy == 0

    play(tmp_path, act)


def test_a_job_of_a_place_that_is_gone_fails_although_the_database_is_away(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("a", "sleep 600")]))
        db = wrapped(world)
        await world.boot()
        assert world.scripted is not None
        number = await world.start(KEY)
        await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status == "running")
        await world.kill()
        world.scripted.place = "elsewhere"
        db.before = once("_lost", Unavailable("database: away"))
        await world.boot()
        detail = await world.done(KEY, number, within_s=100.0)
        assert detail.row.status == "failed"
        assert "lost executor" in detail.stages[0].jobs[0].row.error

    play(tmp_path, act)


def test_a_machine_that_came_back_and_is_away_for_a_moment_has_lost_nothing(tmp_path: Path) -> None:
    """The wait for it begins anew: what ran there was followed meanwhile."""

    async def act(world: World) -> None:
        await world.define(flow([job("a", "sleep 6000")]))
        await world.boot()
        assert world.scripted is not None
        number = await world.start(KEY)
        await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status == "running")
        await world.kill()
        (row,) = await world.db.read(lambda tx: tx.executions.list_executions())
        world.scripted.place = "elsewhere"
        there = Replica("there", row.place, "", world.clock(), world.clock())

        def back(tx: Tx) -> None:
            tx.replicas.add(there)
            assert tx.executions.adopt(row.key, "there")

        def away(tx: Tx) -> None:
            tx.executions.release("there")
            tx.replicas.remove("there")

        await world.boot()
        await asyncio.sleep(10.0)
        await world.db.write(back)
        await asyncio.sleep(107.0)
        await world.db.write(away)  # at 117 s; two minutes after the machine was missed first it is being restarted
        await asyncio.sleep(10.0)
        await world.db.write(back)
        await asyncio.sleep(200.0)
        detail = await world.detail(KEY, number)
        assert detail.row.status == "running", describe(detail)

    play(tmp_path, act)


class Surprising:
    """An executor whose harvest raises what nobody foresees."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def harvest(self, key: str, ref: str) -> Any:
        raise ValueError("a surprise")


def test_a_surprise_while_a_job_is_closed_fails_the_job(tmp_path: Path) -> None:
    """Whatever is wrong in our own code: the job ends, with the reason, instead of running for ever."""

    async def act(world: World) -> None:
        await world.define(flow([job("a")]))
        await world.boot()
        executors: dict[str, Any] = world.engine.executions.executors  # type: ignore[assignment]
        executors["scripted"] = Surprising(executors["scripted"])
        number = await world.start(KEY)
        detail = await world.done(KEY, number, within_s=100.0)
        assert detail.row.status == "failed"
        assert "a surprise" in detail.stages[0].jobs[0].row.error
        assert world.engine.busy == 0
        assert world.scripted is not None
        assert not world.scripted.runs

    play(tmp_path, act)


def test_a_stop_that_fails_for_days_goes_on_trying(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("a", "sleep 600")], concurrency_limit=1))
        db = wrapped(world)
        await world.boot()
        number = await world.start(KEY)
        await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status == "running")
        executors: dict[str, Any] = world.engine.executions.executors  # type: ignore[assignment]
        whole = executors["scripted"]

        class Stuck(Surprising):
            async def stop(self, *args: Any) -> None:
                raise OSError("no")

        executors["scripted"] = Stuck(whole)
        await world.cancel(KEY, number)

        def many(tx: Tx) -> None:
            tx.connection.exec_driver_sql("update command set tries = 2000 where kind = 'stop'")  # type: ignore[attr-defined]

        await db.write(many)
        await asyncio.sleep(1.0)
        executors["scripted"] = whole
        detail = await world.done(KEY, number, within_s=300.0)
        assert detail.row.status == "cancelled"

    play(tmp_path, act)


# -- cancel and retry


def test_the_last_word_counts_while_a_task_goes_down(tmp_path: Path) -> None:
    """Cancelled, a retry asked for while it goes down, cancelled again: it does not run again."""

    async def act(world: World) -> None:
        world.scripts = {"stubborn": Script(after_s=600.0, ignores_term=True)}
        envs = [{"key": "TEST_JOB", "value": "stubborn"}]
        await world.define(flow([job("a", properties={"envs": envs})]))
        await world.boot()
        number = await world.start(KEY)
        await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status == "running")
        await world.cancel(KEY, number)
        await world.retry(KEY, number)
        await world.cancel(KEY, number)
        await asyncio.sleep(30.0)
        detail = await world.detail(KEY, number)
        assert detail.row.status == "cancelled", describe(detail)
        assert detail.row.retry_num == 0
        assert detail.row.end_at is not None

    play(tmp_path, act)


def test_a_retry_wanted_of_a_workflow_that_is_deleted_never_runs(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        world.scripts = {"stubborn": Script(after_s=600.0, ignores_term=True)}
        envs = [{"key": "TEST_JOB", "value": "stubborn"}]
        await world.define(flow([job("a", properties={"envs": envs})]))
        await world.boot()
        number = await world.start(KEY)
        await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status == "running")
        await world.cancel(KEY, number)
        await world.retry(KEY, number)
        await workflows.delete_workflow(world.ctx, world.actor(), KEY)
        await world.define(flow([job("a")]))
        world.engine.wake()
        second = await world.start(KEY)
        assert second == number + 1
        await world.done(KEY, second)
        await asyncio.sleep(30.0)
        assert world.scripted is not None
        assert len(world.scripted.starts) == 2, "the deleted task did not run again"

    play(tmp_path, act)


def test_outputs_of_a_failed_attempt_are_not_those_of_the_next(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        # A retry keeps the definition of the task, so what differs is what the machine does.
        world.scripts = {"one": Script(outputs={"FOO": "old"}, exit_code=1)}
        spec = {"outputs": [{"name": "FOO"}]}
        envs = [{"key": "TEST_JOB", "value": "one"}]
        await world.define(flow([job("a", "exit 0", properties={"envs": envs}, spec=spec)]))
        await world.boot()
        number = await world.start(KEY)
        first = await world.done(KEY, number)
        assert first.stages[0].jobs[0].row.outputs == {"FOO": "old"}
        world.scripts["one"] = Script()
        await world.retry(KEY, number)
        second = await world.until(KEY, number, lambda d: d.row.status == "passed")
        assert second.stages[0].jobs[0].row.outputs == {}

    play(tmp_path, act)


# -- what was begun is taken up by the next process


class Sealed:
    """Everything that is stored of a task, as text: to look for what must not be there."""

    @staticmethod
    def of(tx: Tx, task_id: int) -> str:
        texts: list[Mapping[str, Any]] = [tx.tasks.snapshot(task_id)]
        texts += [row.plan for row in tx.tasks.jobs(task_id)]
        return repr(texts)


def test_credentials_given_at_a_start_are_not_stored_in_clear(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        envs = [{"key": "TOKEN", "value": "", "is_credential": True}]
        params = [{"name": "PASSWORD", "type": "string", "value": "", "is_credential": True}]
        await world.define(flow([job("a", "exit 0", properties={"envs": envs})], params=params))
        await world.boot()
        number = await world.start(
            KEY,
            inputs=({"job_name": "a", "parameters": {"kv": [{"key": "TOKEN", "value": "s3cr3t-token"}]}},),
            parameters=({"name": "PASSWORD", "type": "string", "value": "s3cr3t-password"},),
        )
        detail = await world.done(KEY, number)
        assert detail.row.status == "passed", describe(detail)
        stored = await world.db.read(Sealed.of, detail.row.id)
        assert "s3cr3t" not in stored
        assert "s3cr3t" not in repr(detail)

    play(tmp_path, act)


def test_braces_of_a_value_are_shown_as_they_were_given(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        spec = {
            "type": "native",
            "timeout": 60,
            "description": "ship {{.workflow.params.P}}?",
            "native_approval": {"approve_users": [{"user_id": "ann", "user_name": "Ann"}], "needed_approvers": 1},
        }
        params = [{"name": "P", "type": "string", "value": ""}]
        await world.define(flow([{"name": "ask", "type": "approval", "spec": spec}], params=params))
        await world.boot()
        number = await world.start(KEY, parameters=({"name": "P", "value": "{{{.project}}"},))
        detail = await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status == "wait_for_approval")
        approval = detail.stages[0].jobs[0].approval
        assert approval is not None
        assert approval.description == "ship {{{.project}}?"
        assert "\ue001" not in repr(detail)

    play(tmp_path, act)


def test_a_job_that_can_no_longer_be_prepared_is_stopped_before_it_runs_again(tmp_path: Path) -> None:
    """Found after a restart, but its type or its secrets are gone: it must not run on beside its repetition."""

    async def act(world: World) -> None:
        await world.define(flow([job("a", "sleep 600")]))
        await world.boot()
        assert world.scripted is not None
        number = await world.start(KEY)
        await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status == "running")
        await world.kill()
        world.types = {name: kind for name, kind in world.types.items() if name != "freestyle"}
        await world.boot()
        detail = await world.done(KEY, number, within_s=30.0)
        assert detail.row.status == "failed"
        assert "job type not supported" in detail.stages[0].jobs[0].row.error
        assert not world.scripted.runs, "nothing of it is left"

    play(tmp_path, act)


def test_an_adopted_job_is_not_asked_again_whether_it_may_run(tmp_path: Path) -> None:
    """Its execute policy said yes when it started; what its neighbours became meanwhile changes nothing."""

    async def act(world: World) -> None:
        rules = [{"field": "{{.job.a.status}}", "verb": "=", "value": "passed"}]
        policy = {"type": "skip", "match_rule": "all", "rules": rules}
        await world.define(flow([job("a", "sleep 5"), job("b", "sleep 60", execute_policy=policy)]))
        await world.boot()
        number = await world.start(KEY)
        await world.until(KEY, number, lambda d: d.stages[0].jobs[0].row.status == "passed")
        await world.restart()
        detail = await world.done(KEY, number, within_s=300.0)
        jobs = {each.row.name: each.row for each in detail.stages[0].jobs}
        assert jobs["b"].status == "passed", describe(detail)
        assert jobs["b"].recovery == 0
        assert world.scripted is not None
        assert len(world.scripted.starts) == 2

    play(tmp_path, act)


def test_one_idempotency_key_at_once_for_two_workflows_starts_one(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("a", "exit 0")]))
        await world.define({**flow([job("a", "exit 0")]), "name": "other", "display_name": "other"})
        await world.boot()

        db = wrapped(world)
        await world.restart()

        async def together(fn: Any) -> None:
            await asyncio.sleep(0.1)

        db.before = together
        requests = [StartRequest(key, "shop", inputs=(JobInput("a"),), idempotency_key="k") for key in (KEY, "other")]
        starts = (tasks.start_task(world.ctx, world.actor(), request) for request in requests)
        first, second = await asyncio.gather(*starts, return_exceptions=True)
        refused, started = (first, second) if isinstance(first, Conflict) else (second, first)
        assert isinstance(refused, Conflict)
        assert not isinstance(started, BaseException)
        assert f"used to start {started.workflow_key}:{started.number}, of another workflow" in str(refused)

    play(tmp_path, act)


def test_the_loop_is_measured(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.boot()
        lags: list[float] = []
        world.engine.meter.loop_lag = lags.append  # type: ignore[method-assign]
        await asyncio.sleep(3 * engine_module.LAG_SAMPLE_S)
        assert lags

    play(tmp_path, act)


# -- the process dies at any commit


@pytest.mark.parametrize("moment", [pytest.param("commit", marks=pytest.mark.real), "committed"])
@pytest.mark.parametrize(
    "then",  # the last goes the way of the others, too
    [
        pytest.param("runs on", marks=pytest.mark.real),
        pytest.param("is cancelled", marks=pytest.mark.real),
        "is retried",
    ],
)
def test_a_process_that_dies_at_a_commit_is_continued_by_the_next(then: str, moment: str, tmp_path: Path) -> None:
    """Just before and just after each commit of a run: every job ends once, nothing runs twice, logs are whole."""

    async def one(world: World, dies_at: int) -> bool:
        await world.define(flow([job("a", "echo hello\nsleep 2")], [job("b", "sleep 3"), job("c", "sleep 1")]))
        world.max_jobs = 1
        await world.boot()
        commits = 0

        def point(name: str) -> None:
            nonlocal commits
            commits += name == moment
            if commits >= dies_at:
                raise Unavailable("this process is dead")

        world.db.point = point
        with contextlib.suppress(Unavailable):
            number = await world.start(KEY)
            await asyncio.sleep(2.5)
            if then != "runs on":
                await world.cancel(KEY, number)
                await asyncio.sleep(2.5)
            if then == "is retried":
                await world.retry(KEY, number)
            await asyncio.sleep(20.0)
        dead = commits >= dies_at
        await world.kill()
        world.db.point = lambda name: None
        await world.boot()
        assert world.scripted is not None
        if await world.db.read(lambda tx: tx.tasks.find_id(KEY, 1)) is None:
            await world.start(KEY)
        detail = await world.done(KEY, 1, within_s=100.0)
        assert detail.row.status in ("passed",) if then == "runs on" else ("passed", "cancelled"), describe(detail)
        assert world.log(KEY, 1, "a").count("hello") == 1
        assert len(world.scripted.starts) == len(set(world.scripted.starts))
        assert all(recovery == "0" for *_, recovery in (key.split(".") for key in world.scripted.starts))
        await asyncio.sleep(10.0)
        assert world.engine.busy == 0
        assert not world.scripted.runs
        left = await world.db.read(lambda tx: (tx.commands.owned(""), tx.executions.list_executions()))
        assert left == (set(), [])
        if then == "runs on":
            assert len(world.scripted.starts) == 3
        return dead

    async def all_of_them() -> None:
        dies_at = 1
        while True:
            folder = tmp_path / str(dies_at)
            folder.mkdir()
            world = await World.virtual(folder)
            try:
                died = await one(world, dies_at)
            finally:
                await world.close()
            if not died:
                break
            dies_at += 1
        assert dies_at > 6

    virtual_loop.run(all_of_them())


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("restarted", [False, True])
def test_a_cancel_ends_a_task_wherever_it_is(restarted: bool, tmp_path: Path) -> None:
    """Waiting for room, for a start that fails, in a pause, for people: two seconds later nothing is left of it."""

    def definition() -> dict[str, Any]:
        again = {"policy": "retry", "maximum_retry": 1}
        ask = {
            "type": "native",
            "timeout": 60,
            "native_approval": {"approve_users": [{"user_id": "ann", "user_name": "Ann"}], "needed_approvers": 1},
        }
        failing, refusing = ({"envs": [{"key": "TEST_JOB", "value": how}]} for how in ("failing", "refusing"))
        return flow(
            [job("a", error_policy=again, properties=failing), job("b", "sleep 3"), job("c", properties=refusing)],
            [
                job("d", "exit 1", error_policy={"policy": "manual_check"}),
                {"name": "ask", "type": "approval", "spec": ask},
            ],
        )

    reached: set[str] = set()

    async def one(world: World, after_s: float) -> None:
        # A machine that is full for eight seconds, and a job that fails once.
        world.scripts = {
            "refusing": Script(start_error=OSError("no room on this machine")),
            "failing": Script(after_s=1.0, exit_code=1),
        }
        world.max_jobs = 2
        world.max_running_tasks = 1
        await world.define(definition())
        await world.define({**definition(), "name": "behind", "display_name": "behind"})
        await world.boot()
        number = await world.start(KEY)
        behind = await world.start("behind")
        asyncio.get_running_loop().call_later(8.0, lambda: world.scripts.update(refusing=Script(), failing=Script()))
        await asyncio.sleep(after_s)
        if restarted:
            await world.kill()
            await world.boot()
        await world.cancel(KEY, number)
        detail = await world.done(KEY, number, within_s=2.5)
        assert detail.row.status == "cancelled", describe(detail)
        reached.update(job.row.error or job.row.status for stage in detail.stages for job in stage.jobs)
        await world.cancel("behind", behind)
        await world.done("behind", behind, within_s=2.5)
        await asyncio.sleep(30.0)
        assert world.engine.busy == 0
        assert world.scripted is not None
        assert not world.scripted.runs
        left = await world.db.read(lambda tx: (tx.commands.owned(""), tx.executions.list_executions()))
        assert left == (set(), [])
        assert await world.db.read(lambda tx: tx.admission.held()) == 0

    async def all_of_them() -> None:
        for after_s in (0.0, 0.5, 4.0, 14.0, 30.0):
            folder = tmp_path / str(after_s)
            folder.mkdir()
            world = await World.virtual(folder)
            try:
                await one(world, after_s)
            finally:
                await world.close()
        assert "workflow was canceled" in reached, "some of them waited for people"

    virtual_loop.run(all_of_them())


def test_a_dispatcher_that_stumbles_goes_on(tmp_path: Path) -> None:
    """An error nobody foresaw in one round of the dispatcher must not end the work of the server."""

    async def act(world: World) -> None:
        await world.define(flow([job("a")]))
        db = wrapped(world)
        await world.boot()
        db.before = once("_claim_due", RuntimeError("nobody foresaw this"))
        world.engine.wake()
        world.max_jobs = 0
        number = await world.start(KEY)
        world.max_jobs = 5
        world.engine.wake()
        detail = await world.done(KEY, number)
        assert detail.row.status == "passed"

    play(tmp_path, act)
