"""The executor of actions keeps the contract of executors as far as it applies, and its own rules."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cador.executors.server import ENDED, HELD_BYTES, ServerExecutor
from cador.ports.actions import ActionCall, ActionFailed, ActionRun
from cador.ports.executor import End, Executor, Gone, JobFolder, StartRefused, Unreachable
from contracts.executor_contract import ExecutorContract, ExecutorFactory, Jobs, hear, until


class Deeds:
    """Actions that do what the jobs of the suite do; ``began`` counts."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.began: list[str] = []
        self.cleared: list[str] = []
        self.clears = asyncio.Event()
        self.actions = {name: getattr(self, name) for name in ("prints", "fails", "endless", "waits", "gives", "deaf")}

    async def prints(self, run: ActionRun, arguments: Mapping[str, Any]) -> None:
        self.began.append(run.key)
        for line in arguments["lines"]:
            run.line(line)

    async def fails(self, run: ActionRun, arguments: Mapping[str, Any]) -> None:
        raise ActionFailed(arguments["why"]) if arguments.get("why") else KeyError("a bug with s3cr3t-value")

    async def endless(self, run: ActionRun, arguments: Mapping[str, Any]) -> None:
        self.began.append(run.key)
        run.line("begun")
        run.leave("PART", "half")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            run.line("cleared")
            self.cleared.append(run.key)
            self.clears.set()

    async def waits(self, run: ActionRun, arguments: Mapping[str, Any]) -> None:
        run.line(arguments["before"])
        await self.gates[arguments["gate"]].wait()
        run.line(arguments["after"])

    async def gives(self, run: ActionRun, arguments: Mapping[str, Any]) -> None:
        for name, value in arguments["outputs"].items():
            run.leave(name, value)

    async def deaf(self, run: ActionRun, arguments: Mapping[str, Any]) -> None:
        """Hears only the second time that it is told to end."""
        run.line("begun")
        for _ in range(2):
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                run.line("told")


def call(name: str, *, secrets: tuple[str, ...] = (), repeatable: bool = False, **arguments: Any) -> JobFolder:
    return JobFolder(steps=(), secrets=secrets, action=ActionCall(name, arguments, repeatable))


class ActionJobs(Jobs):
    def __init__(self, deeds: Deeds) -> None:
        self._deeds = deeds

    def endless(self, *, report: bool = False) -> JobFolder:
        return call("endless")

    def prints(self, text: str) -> JobFolder:
        return call("prints", lines=[text])

    def exits(self, *codes: int) -> JobFolder:
        return call("fails", why=f"code {codes[0]}")

    def gives(self, **outputs: str) -> JobFolder:
        return call("gives", outputs=outputs)

    def waits(self, before: str, after: str) -> tuple[JobFolder, Callable[[], None]]:
        gate = f"{before}-{after}"
        event = self._deeds.gates[gate] = asyncio.Event()
        return call("waits", before=before, after=after, gate=gate), event.set


@pytest.fixture
def deeds() -> Deeds:
    return Deeds()


def executor_of(deeds: Deeds, **options: Any) -> ServerExecutor:
    return ServerExecutor(deeds.actions, place="here", clock=lambda: 1_000.0, **options)


class TestServer(ExecutorContract):
    """Without what is about steps, and about servers that share a place: an action has neither."""

    @pytest.fixture
    def jobs(self, deeds: Deeds) -> Jobs:  # type: ignore[override]
        return ActionJobs(deeds)

    @pytest.fixture
    def executor_factory(self, deeds: Deeds) -> ExecutorFactory:
        @asynccontextmanager
        async def factory() -> AsyncIterator[Executor]:
            executor = executor_of(deeds)
            try:
                yield executor
            finally:
                await executor.close()

        return factory

    test_the_first_failure_decides_and_later_steps_are_skipped = None
    test_reports_run_after_a_failure_and_a_tolerated_one_changes_nothing = None
    test_time_out_runs_the_reports = None
    test_another_server_adopts = None
    test_cancel = None
    test_a_stop_before_the_start_wins = None
    test_output_then_marks_then_the_end = None
    test_following_goes_on_where_it_is_told = None
    test_jobs_run_beside_each_other = None


def play(test: Callable[[], Any]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(main())


def test_output_and_the_end(deeds: Deeds) -> None:
    async def test() -> None:
        executor = executor_of(deeds)
        await executor.start("k", call("prints", lines=["one", "two"]))
        heard = await hear(executor, "k")
        assert (heard.output, heard.end, heard.states) == (b"one\ntwo\n", End(0, 1_000.0), [])
        executor.consumed("k", 4)
        rest = await hear(executor, "k", after=4)
        assert (rest.output, rest.end) == (b"two\n", heard.end)

    play(test)


def test_actions_run_beside_each_other(deeds: Deeds) -> None:
    async def test() -> None:
        executor = executor_of(deeds)
        jobs = ActionJobs(deeds)
        gates = []
        async with asyncio.TaskGroup() as group:
            heard = {}
            for n in range(20):
                job, go = jobs.waits(f"{n}", f"{n}!")
                gates.append(go)
                await executor.start(f"k-{n}", job)
                heard[n] = group.create_task(hear(executor, f"k-{n}"))
                await until(executor, f"k-{n}", b"%d\n" % n)
            for go in reversed(gates):
                go()
        assert {n: task.result().output for n, task in heard.items()} == {n: b"%d\n%d!\n" % (n, n) for n in range(20)}

    play(test)


def test_nothing_begins_before_it_is_followed(deeds: Deeds) -> None:
    """What is followed is in the tables; a server that dies before leaves nothing that ran unknown."""

    async def test() -> None:
        executor = executor_of(deeds)
        await executor.start("k-1", call("prints", lines=["x"]))
        await executor.start("k-2", call("prints", lines=["x"]))
        await executor.stop("k-2", "k-2", "cancel", 1.0)
        await hear(executor, "k-2")
        await asyncio.sleep(0)
        assert deeds.began == []
        await hear(executor, "k-1")
        assert deeds.began == ["k-1"]

    play(test)


@pytest.mark.parametrize(("reason", "code"), [("cancel", 143), ("timeout", 124)])
def test_a_stop_lets_the_action_clear_up(deeds: Deeds, reason: str, code: int) -> None:
    async def test() -> None:
        executor = executor_of(deeds)
        await executor.start("k", call("endless"))
        await until(executor, "k", b"begun\n")
        await executor.stop("k", "k", reason, 1.0)
        await executor.stop("k", "k", reason, 1.0)
        heard = await hear(executor, "k")
        assert heard.output == b"begun\ncleared\n"
        assert heard.end == End(code, 1_000.0, reason)
        assert (await executor.harvest("k", "k")).outputs == {"PART": "half"}

    play(test)


def test_an_action_that_does_not_hear_is_told_again(deeds: Deeds, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr("cador.executors.server.PATIENCE_S", 0.01)
        executor = executor_of(deeds)
        await executor.start("k", call("deaf"))
        await until(executor, "k", b"begun\n")
        await executor.stop("k", "k", "cancel", 1.0)
        assert (await hear(executor, "k")).output == b"begun\ntold\ntold\n"

    play(test)


def test_failures(deeds: Deeds) -> None:
    async def test() -> None:
        executor = executor_of(deeds)
        await executor.start("k-1", call("fails", why="no such table"))
        assert (await hear(executor, "k-1")).end == End(1, 1_000.0, reason="no such table")
        await executor.start("k-2", call("fails", secrets=("s3cr3t-value",)))
        end = (await hear(executor, "k-2")).end
        assert end.exit_code == 1
        assert end.reason == "the action fails broke off: KeyError: 'a bug with ********'"
        with pytest.raises(StartRefused, match="no action other"):
            await executor.start("k-3", call("other"))
        with pytest.raises(StartRefused, match="steps"):
            await executor.start("k-3", JobFolder(steps=()))
        assert "k-3" not in await executor.existing()

    play(test)


def test_another_server_finds_nothing(deeds: Deeds) -> None:
    async def test() -> None:
        one, other = executor_of(deeds), executor_of(deeds)
        await one.start("k", call("endless"))
        await until(one, "k", b"begun\n")
        with pytest.raises(Gone):
            await hear(other, "k")
        await one.close()
        assert deeds.cleared == ["k"]

    play(test)


def test_what_nobody_follows_any_more_is_broken_off(deeds: Deeds) -> None:
    async def test() -> None:
        executor = executor_of(deeds, unattended_s=0.01)
        await executor.start("k-1", call("endless"))
        await executor.start("k-2", call("endless"))
        followed = asyncio.get_running_loop().create_task(hear(executor, "k-2"))
        await until(executor, "k-1", b"begun\n")
        await deeds.clears.wait()
        with pytest.raises(Gone):
            await hear(executor, "k-1")
        assert deeds.cleared == ["k-1"], "the other one is followed"
        await executor.stop("k-2", "k-2", "cancel", 1.0)
        await followed

    play(test)


def test_what_nobody_ever_follows_is_forgotten_with_its_arguments(deeds: Deeds) -> None:
    async def test() -> None:
        executor = executor_of(deeds, forgotten_s=0.01)
        await executor.start("k-1", call("endless", password="s3cr3t"))
        async with asyncio.timeout(30.0):
            while await executor.existing():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)
        assert deeds.began == []
        executor._forgotten_s = 600.0
        await executor.start("k-1", call("endless"))
        followed = asyncio.get_running_loop().create_task(hear(executor, "k-1"))
        await until(executor, "k-1", b"begun\n")
        await executor.stop("k-1", "k-1", "cancel", 1.0)
        await followed

    play(test)


def test_a_server_that_ends_waits_for_what_may_not_be_repeated(deeds: Deeds) -> None:
    async def test() -> None:
        executor = executor_of(deeds)
        jobs = ActionJobs(deeds)
        short, go = jobs.waits("one", "two")
        await executor.start("short", short)
        await executor.start("again", call("endless", repeatable=True))
        followed = asyncio.get_running_loop().create_task(hear(executor, "short"))
        await until(executor, "short", b"one\n")
        await until(executor, "again", b"begun\n")
        draining = asyncio.get_running_loop().create_task(executor.drain(30.0))
        await asyncio.sleep(0)
        with pytest.raises(Unreachable):
            await executor.start("late", call("endless"))
        go()
        assert (await followed).end.exit_code == 0
        await executor.remove("short", "short")
        await draining
        assert deeds.cleared == [], "what is repeatable is not waited for, and ends with the server"
        await executor.close()
        assert deeds.cleared == ["again"]

    play(test)


def test_what_takes_too_long_at_the_end_of_a_server_fails_with_the_reason(deeds: Deeds) -> None:
    async def test() -> None:
        executor = executor_of(deeds)
        await executor.start("k", call("endless"))

        async def follow() -> End:
            heard = await hear(executor, "k")
            await executor.remove("k", "k")
            return heard.end

        following = asyncio.get_running_loop().create_task(follow())
        await until(executor, "k", b"begun\n")
        await executor.drain(0.01)
        assert await following == End(1, 1_000.0, reason=ENDED)
        assert deeds.cleared == ["k"]

    play(test)


def test_a_flood_is_bounded(deeds: Deeds) -> None:
    async def test() -> None:
        executor = executor_of(deeds)
        line = "x" * 99_999
        await executor.start("k", call("prints", lines=[line] * 100))
        output = (await hear(executor, "k")).output
        kept = HELD_BYTES // 100_000
        assert output.endswith(b"x\nwarning: %d lines are missing here\n" % (100 - kept))
        assert len(output) < HELD_BYTES + 100

    play(test)


def test_arguments_are_not_shown() -> None:
    assert "s3cr3t" not in repr(call("prints", password="s3cr3t"))
