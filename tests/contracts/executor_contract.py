"""The contract of executors (``cador.ports.executor``): one suite for all of them.

Use: subclass :class:`ExecutorContract` under a name that begins with ``Test`` and define the fixture
``executor_factory``. Each call of the factory is another server process that meets the same place: what one started,
the other finds. An executor that runs no real shell overrides the fixture ``jobs`` with jobs of its own that behave as
the docstrings of :class:`Jobs` say. What needs real processes is not here but in the suite of that executor.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from cador.ports.executor import End, Executor, FolderStep, Gone, JobFolder, Output, StepMark, StepState

ExecutorFactory = Callable[[], AbstractAsyncContextManager[Executor]]
DEADLINE_S = 30.0


@dataclass
class Heard:
    """All that a follower heard, in order and apart."""

    events: list[Output | StepMark | End] = field(default_factory=list)

    @property
    def output(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, Output))

    @property
    def states(self) -> list[tuple[int, StepState]]:
        return [(event.index, event.state) for event in self.events if isinstance(event, StepMark)]

    @property
    def end(self) -> End:
        [end] = [event for event in self.events if isinstance(event, End)]
        assert self.events[-1] is end
        return end


async def hear(executor: Executor, key: str, after: int = 0) -> Heard:
    heard = Heard()
    async for event in executor.follow(key, key, after):
        if isinstance(event, Output):
            assert event.offset == after
            after += len(event.data)
        heard.events.append(event)
    return heard


async def until(executor: Executor, key: str, text: bytes) -> bytes:
    """Follow until *text* was printed, then let go."""
    output = b""
    events = executor.follow(key, key, 0)
    async for event in events:
        assert not isinstance(event, End), f"ended before {text!r}: {event} {output!r}"
        if isinstance(event, Output):
            output += event.data
            if text in output:
                break
    await events.aclose()  # type: ignore[attr-defined]
    return output


def sh(text: str, **more: Any) -> FolderStep:
    return FolderStep(name=more.pop("name", "step"), type="shell", text=text, quiet=more.pop("quiet", True), **more)


class Jobs:
    """The jobs of the suite, as shell scripts. All are quiet: the output is what is said here, byte for byte."""

    def prints(self, text: str) -> JobFolder:
        """Prints *text* and passes."""
        return JobFolder(steps=(sh(f"printf %s {shlex.quote(text)}"),))

    def exits(self, *codes: int) -> JobFolder:
        """A step for each code, printing its number and a newline, then ending with the code."""
        return JobFolder(steps=tuple(sh(f"echo {index}; exit {code}") for index, code in enumerate(codes)))

    def fails_and_reports(self) -> JobFolder:
        """Step 0 fails with 3 and is tolerated, 1 fails with 5, 2 never runs, 3 runs on failure printing ``report``."""
        return JobFolder(
            steps=(sh("exit 3", tolerate=True), sh("exit 5"), sh("echo no"), sh("echo report", on_failure=True))
        )

    def endless(self, *, report: bool = False) -> JobFolder:
        """Prints ``begun`` and a newline and runs for ever; a second step runs on failure, printing ``report``."""
        steps = (sh("echo begun; exec sleep 100000"), sh("echo report", on_failure=True))
        return JobFolder(steps=steps if report else steps[:1])

    def gives(self, **outputs: str) -> JobFolder:
        """Declares and leaves *outputs*, which need no quoting, and declares ``MISSING``, which it does not leave."""
        text = "\n".join(f'printf %s "{value}" >"$RESULTS_DIR/{name}"' for name, value in outputs.items())
        return JobFolder(steps=(sh(text),), outputs=(*outputs, "MISSING"))

    def waits(self, before: str, after: str) -> tuple[JobFolder, Callable[[], None]]:
        """Prints *before* and a newline, waits for the call returned, prints *after* and a newline, and passes."""
        raise NotImplementedError


class ShellJobs(Jobs):
    """Jobs of the suite for executors on this host; *folder* is one of the test, open to the user of jobs."""

    def __init__(self, folder: Any) -> None:
        self._folder = folder

    def waits(self, before: str, after: str) -> tuple[JobFolder, Callable[[], None]]:
        flag = self._folder / "go"
        text = f'echo {before}\nwhile [ ! -e "{flag}" ]; do sleep 0.01; done\necho {after}\n'
        return JobFolder(steps=(sh(text),)), flag.touch


class ExecutorContract:
    @pytest.fixture
    def executor_factory(self) -> ExecutorFactory:
        pytest.fail("define the fixture executor_factory")

    @pytest.fixture
    def jobs(self, tmp_path: Any) -> Jobs:
        return ShellJobs(tmp_path)

    @pytest.fixture
    def run(self, executor_factory: ExecutorFactory) -> Callable[..., None]:
        """Runs ``test(executor)`` with an executor of its own, before a deadline that only a hang meets."""

        def runner(test: Callable[[Executor], Coroutine[Any, Any, None]]) -> None:
            async def main() -> None:
                async with asyncio.timeout(DEADLINE_S), executor_factory() as executor:
                    await test(executor)

            asyncio.run(main())

        return runner

    def test_output_then_marks_then_the_end(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            await executor.start("k-1", jobs.prints("a line\nand one without its end"))
            heard = await hear(executor, "k-1")
            assert heard.output == b"a line\nand one without its end"
            assert heard.states == [(0, StepState.RUNNING), (0, StepState.PASSED)]
            assert (heard.end.exit_code, heard.end.stopped, heard.end.failed_step) == (0, "", None)
            [passed] = [event for event in heard.events if isinstance(event, StepMark) and event.exit_code is not None]
            assert passed.exit_code == 0
            assert passed.at <= heard.end.at

        run(test)

    def test_the_first_failure_decides_and_later_steps_are_skipped(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            await executor.start("k-1", jobs.exits(0, 7, 0))
            heard = await hear(executor, "k-1")
            assert heard.output == b"0\n1\n"
            assert (heard.end.exit_code, heard.end.failed_step) == (7, 1)
            assert heard.states[1::2] + heard.states[-1:] == [
                (0, StepState.PASSED),
                (1, StepState.FAILED),
                (2, StepState.SKIPPED),
            ]

        run(test)

    def test_reports_run_after_a_failure_and_a_tolerated_one_changes_nothing(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            await executor.start("k-1", jobs.fails_and_reports())
            heard = await hear(executor, "k-1")
            assert heard.output.endswith(b"report\n")
            assert b"no\n" not in heard.output
            assert (heard.end.exit_code, heard.end.failed_step) == (5, 1)
            final = dict(heard.states)
            assert final == {
                0: StepState.FAILED,
                1: StepState.FAILED,
                2: StepState.SKIPPED,
                3: StepState.PASSED,
            }

        run(test)

    def test_following_goes_on_where_it_is_told(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            await executor.start("k-1", jobs.prints("0123456789"))
            first = await hear(executor, "k-1")
            again = await hear(executor, "k-1", after=4)
            assert (first.output, again.output) == (b"0123456789", b"456789")
            assert again.end == first.end
            assert again.states == first.states

        run(test)

    def test_two_followers_hear_the_same(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            job, go = jobs.waits("one", "two")
            await executor.start("k-1", job)
            async with asyncio.TaskGroup() as group:
                followers = [group.create_task(hear(executor, "k-1")) for _ in range(2)]
                await until(executor, "k-1", b"one\n")
                go()
            assert [follower.result().output for follower in followers] == [b"one\ntwo\n"] * 2

        run(test)

    def test_start_repeated_starts_nothing_more(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            job, go = jobs.waits("one", "two")
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(executor.start("k-1", job))
            await until(executor, "k-1", b"one\n")
            await executor.start("k-1", job)
            go()
            assert (await hear(executor, "k-1")).output == b"one\ntwo\n"
            await executor.start("k-1", job)
            assert (await hear(executor, "k-1")).output == b"one\ntwo\n"

        run(test)

    def test_letting_go_of_a_follower_leaves_the_job_alone(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            job, go = jobs.waits("one", "two")
            await executor.start("k-1", job)
            follower = asyncio.get_running_loop().create_task(hear(executor, "k-1"))
            await until(executor, "k-1", b"one\n")
            follower.cancel()
            with pytest.raises(asyncio.CancelledError):
                await follower
            go()
            heard = await hear(executor, "k-1")
            assert (heard.output, heard.end.exit_code) == (b"one\ntwo\n", 0)

        run(test)

    def test_another_server_adopts(self, run: Any, jobs: Jobs, executor_factory: ExecutorFactory) -> None:
        async def test(executor: Executor) -> None:
            job, go = jobs.waits("one", "two")
            ref = await executor.start("k-1", job)
            await until(executor, "k-1", b"one\n")
            await executor.close()
            async with executor_factory() as other:
                assert other.place == executor.place
                assert await other.start("k-1", job) == ref
                go()
                heard = await hear(other, "k-1", after=2)
                assert heard.output == b"e\ntwo\n"
                assert heard.end.exit_code == 0
                assert dict(heard.states) == {0: StepState.PASSED}

        run(test)

    @pytest.mark.parametrize("reports", [False, True])
    def test_cancel(self, run: Any, jobs: Jobs, reports: bool) -> None:
        async def test(executor: Executor) -> None:
            await executor.start("k-1", jobs.endless(report=reports))
            await until(executor, "k-1", b"begun\n")
            await executor.stop("k-1", "k-1", "cancel", 1.0)
            await executor.stop("k-1", "k-1", "cancel", 1.0)
            heard = await hear(executor, "k-1")
            assert heard.end.stopped == "cancel"
            assert b"report" not in heard.output
            assert dict(heard.states)[0] is StepState.CANCELLED
            assert not reports or dict(heard.states)[1] is StepState.SKIPPED

        run(test)

    def test_time_out_runs_the_reports(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            await executor.start("k-1", jobs.endless(report=True))
            await until(executor, "k-1", b"begun\n")
            await executor.stop("k-1", "k-1", "timeout", 1.0)
            heard = await hear(executor, "k-1")
            assert heard.end.stopped == "timeout"
            assert heard.end.failed_step == 0
            assert heard.end.exit_code != 0
            assert heard.output.endswith(b"report\n")
            assert dict(heard.states) == {0: StepState.FAILED, 1: StepState.PASSED}

        run(test)

    def test_a_stop_after_the_end_changes_nothing(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            await executor.start("k-1", jobs.exits(4))
            before = (await hear(executor, "k-1")).end
            for reason in ("timeout", "cancel"):
                await executor.stop("k-1", "k-1", reason, 1.0)
            assert (await hear(executor, "k-1")).end == before

        run(test)

    def test_a_stop_before_the_start_wins(self, run: Any, jobs: Jobs, executor_factory: ExecutorFactory) -> None:
        async def test(executor: Executor) -> None:
            await executor.stop("k-1", "", "cancel", 1.0)
            assert (await hear(executor, "k-1")).end.stopped == "cancel"
            await executor.start("k-1", jobs.prints("never"))
            heard = await hear(executor, "k-1")
            assert (heard.output, heard.end.stopped) == (b"", "cancel")
            async with executor_factory() as other:
                await other.start("k-1", jobs.prints("never"))
                assert (await hear(other, "k-1")).output == b""

        run(test)

    def test_what_never_started_is_gone_and_may_be_stopped_and_removed(self, run: Any) -> None:
        async def test(executor: Executor) -> None:
            with pytest.raises(Gone):
                await hear(executor, "k-1")
            with pytest.raises(Gone):
                await executor.harvest("k-1", "k-1")
            executor.consumed("k-1", 1 << 30)
            await executor.remove("k-2", "k-2")
            await executor.stop("k-2", "k-2", "cancel", 1.0)
            assert await executor.existing() == set()

        run(test)

    def test_removed_is_gone_and_starts_no_more(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            await executor.start("k-1", jobs.prints("x"))
            await hear(executor, "k-1")
            assert await executor.existing() == {"k-1"}
            await executor.remove("k-1", "k-1")
            await executor.remove("k-1", "k-1")
            assert await executor.existing() == set()
            with pytest.raises(Gone):
                await hear(executor, "k-1")
            await executor.start("k-1", jobs.prints("x"))
            heard = await hear(executor, "k-1")
            assert (heard.output, heard.end.stopped) == (b"", "cancel")

        run(test)

    def test_a_sweep_ends_what_is_not_wanted(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            job, go = jobs.waits("one", "two")
            await executor.start("k-live", job)
            await executor.start("k-orphan", jobs.endless())
            await executor.start("k-ended", jobs.prints("x"))
            await hear(executor, "k-ended")
            assert await executor.existing() == {"k-live", "k-orphan", "k-ended"}
            assert await executor.sweep({"k-orphan", "k-ended", "k-elsewhere"}) == {"k-orphan", "k-ended"}
            assert await executor.existing() == {"k-live"}, "what nobody named is left alone"
            go()
            assert (await hear(executor, "k-live")).end.exit_code == 0

        run(test)

    def test_outputs_are_harvested(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            await executor.start("k-1", jobs.gives(IMAGE="registry/app:1", EMPTY=""))
            await hear(executor, "k-1")
            harvest = await executor.harvest("k-1", "k-1")
            assert harvest.outputs == {"IMAGE": "registry/app:1", "EMPTY": ""}
            assert harvest.problems == ()

        run(test)

    def test_jobs_run_beside_each_other(self, run: Any, jobs: Jobs) -> None:
        async def test(executor: Executor) -> None:
            async def one(key: str) -> bytes:
                await executor.start(key, jobs.prints(key))
                return (await hear(executor, key)).output

            async with asyncio.TaskGroup() as group:
                children = {f"k-{n}": group.create_task(one(f"k-{n}")) for n in range(20)}
            assert {key: child.result() for key, child in children.items()} == {key: key.encode() for key in children}

        run(test)


def opened(make: Callable[[], Any]) -> ExecutorFactory:
    """A factory from *make*, which builds an executor that has ``open`` (or not) and ``close``."""

    @asynccontextmanager
    async def factory() -> AsyncIterator[Executor]:
        executor = make()
        if hasattr(executor, "open"):
            await executor.open()
        try:
            yield executor
        finally:
            await executor.close()

    return factory
