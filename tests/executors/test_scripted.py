import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.executors.scripted import Script, ScriptedExecutor, ScriptedWorld
from cador.executors.scripted_steps import parse
from cador.ports.executor import (
    End,
    FolderStep,
    Gone,
    Harvest,
    JobFolder,
    Output,
    StartRefused,
    StepMark,
    StepState,
    Unreachable,
)
from support.virtual_loop import BASE, clock, run


def step(text: str, **more: object) -> FolderStep:
    options = {"name": "step", "type": "shell", "quiet": True} | more
    return FolderStep(text=text, **options)  # type: ignore[arg-type]


def job(*texts: str, **more: object) -> JobFolder:
    return JobFolder(steps=tuple(step(text) for text in texts), **more)  # type: ignore[arg-type]


async def hear(executor: ScriptedExecutor, key: str, after: int = 0) -> list[tuple[float, Output | StepMark | End]]:
    """Events with the second, since the loop began, at which they were heard."""
    return [(clock() - BASE, event) async for event in executor.follow(key, key, after)]


def output(heard: list[tuple[float, Output | StepMark | End]]) -> list[tuple[float, bytes]]:
    return [(round(at, 3), event.data) for at, event in heard if isinstance(event, Output)]


def end(heard: list[tuple[float, Output | StepMark | End]]) -> End:
    event = heard[-1][1]
    assert isinstance(event, End)
    return event


def virtual(test: Callable[[ScriptedWorld], Awaitable[None]]) -> None:
    async def main() -> None:
        await test(ScriptedWorld(clock))

    run(main())


def test_lines_and_the_end_come_at_their_times() -> None:
    async def test(world: ScriptedWorld) -> None:
        script = Script(after_s=3600, exit_code=3, lines=((1.5, "early"), (3599, b"late, no newline")))
        executor = ScriptedExecutor(world, {"*-build-*": script})
        await executor.start("i-build-1", job("whatever && this | is"))
        heard = await hear(executor, "i-build-1")
        assert output(heard) == [(1.5, b"early\n"), (3599, b"late, no newline")]
        assert end(heard) == End(3, pytest.approx(BASE + 3600), "", 0)
        assert heard[-1][0] == pytest.approx(3600)

    virtual(test)


def test_an_end_heard_late_tells_its_real_time() -> None:
    async def test(world: ScriptedWorld) -> None:
        executor = ScriptedExecutor(world)
        await executor.start("k", job("sleep 10"))
        await asyncio.sleep(1_000)
        assert end(await hear(executor, "k")).at == pytest.approx(BASE + 10)

    virtual(test)


def test_another_executor_adopts_and_starts_are_counted() -> None:
    async def test(world: ScriptedWorld) -> None:
        first, second = ScriptedExecutor(world), ScriptedExecutor(world)
        long = job("echo one\nsleep 5\necho two")
        for executor in (first, second, first):
            await executor.start("k", long)
        await first.close()
        await asyncio.sleep(2)
        heard = await hear(second, "k", after=4)
        assert output(heard) == [(5, b"two\n")]
        assert world.starts == ["k"]
        assert second.place == first.place
        second.consumed("k", 8)
        second.consumed("k", 4)
        assert world.consumed == {"k": 8}

    virtual(test)


@pytest.mark.parametrize(
    ("ignores", "sleeps", "ended_at", "code"), [(False, 1_000, 10, 143), (True, 1_000, 12, 137), (True, 11, 11, 4)]
)
def test_stopping_asks_and_then_kills(ignores: bool, sleeps: float, ended_at: float, code: int) -> None:
    async def test(world: ScriptedWorld) -> None:
        lines = tuple((float(at), f"{at}") for at in range(1, int(sleeps)))
        script = Script(after_s=sleeps, exit_code=4, lines=lines, outputs={"A": "1"}, ignores_term=ignores)
        executor = ScriptedExecutor(world, {"k": script})
        await executor.start("k", job("x", outputs=("A",)))
        follower = asyncio.create_task(hear(executor, "k"))
        await asyncio.sleep(10)
        await executor.stop("k", "k", "cancel", 2.0)
        await executor.stop("k", "k", "timeout", 2.0)
        heard = await follower
        assert (end(heard).stopped, end(heard).exit_code) == ("cancel", code)
        assert end(heard).at == pytest.approx(BASE + ended_at, abs=1e-3)
        assert heard[-1][0] == pytest.approx(ended_at, abs=1e-3)
        assert len(output(heard)) == min(ended_at, sleeps - 1)
        assert (await executor.harvest("k", "k")).outputs == ({"A": "1"} if code == 4 else {})

    virtual(test)


def test_a_time_out_gives_reports_their_time() -> None:
    async def test(world: ScriptedWorld) -> None:
        executor = ScriptedExecutor(world)
        folder = JobFolder(
            steps=(
                step("A=1", outputs=("A",)),
                step("sleep 1000\nB=2", outputs=("B",)),
                step("echo never"),
                step("echo a is $A\nsleep 20\necho done", on_failure=True),
                step("sleep 100\necho cut", on_failure=True),
                step("echo late", on_failure=True),
            ),
            outputs=("A", "B"),
            report_s=60,
        )
        await executor.start("k", folder)
        follower = asyncio.create_task(hear(executor, "k"))
        await asyncio.sleep(100)
        await executor.stop("k", "k", "timeout", 1.5)
        heard = await follower
        assert output(heard) == [(100, b"a is 1\n"), (120, b"done\n")]
        assert end(heard) == End(143, pytest.approx(BASE + 160, abs=1e-3), "timeout", 1)
        states = {event.index: event.state for _, event in heard if isinstance(event, StepMark)}
        assert states == {
            0: StepState.PASSED,
            1: StepState.FAILED,
            2: StepState.SKIPPED,
            3: StepState.PASSED,
            4: StepState.FAILED,
            5: StepState.SKIPPED,
        }
        assert (await executor.harvest("k", "k")).outputs == {"A": "1"}

    virtual(test)


def test_a_cancel_ends_the_reports_of_a_time_out() -> None:
    async def test(world: ScriptedWorld) -> None:
        executor = ScriptedExecutor(world)
        await executor.start("k", JobFolder(steps=(step("sleep 1000"), step("sleep 50\necho r", on_failure=True))))
        await asyncio.sleep(10)
        await executor.stop("k", "k", "timeout", 1.0)
        await asyncio.sleep(10)
        await executor.stop("k", "k", "cancel", 1.0)
        heard = await hear(executor, "k")
        assert output(heard) == []
        assert (end(heard).stopped, end(heard).exit_code, end(heard).failed_step) == ("cancel", 143, 0)
        assert end(heard).at == pytest.approx(BASE + 20, abs=1e-3)

    virtual(test)


def test_what_does_not_survive_a_restart_is_gone_for_followers_too() -> None:
    async def test(world: ScriptedWorld) -> None:
        table = {"weak": Script(after_s=100, survives_restart=False), "strong": Script(after_s=100)}
        executor = ScriptedExecutor(world, table)
        for key in table:
            await executor.start(key, job("x"))
        follower = asyncio.create_task(hear(executor, "weak"))
        await asyncio.sleep(1)
        world.restart()
        with pytest.raises(Gone):
            await follower
        with pytest.raises(Gone):
            await executor.harvest("weak", "weak")
        assert await ScriptedExecutor(world, table).existing() == {"strong"}
        await executor.start("weak", job("x"))
        assert world.starts == ["weak", "strong", "weak"]

    virtual(test)


def test_a_place_that_does_not_answer() -> None:
    async def test(world: ScriptedWorld) -> None:
        executor = ScriptedExecutor(world)
        await executor.start("k", job("sleep 10"))
        follower = asyncio.create_task(hear(executor, "k"))
        await asyncio.sleep(1)
        world.reachable = False
        world.changed()
        with pytest.raises(Unreachable):
            await follower
        for call in (
            executor.start("k2", job("")),
            executor.stop("k", "k", "cancel", 1),
            executor.harvest("k", "k"),
            executor.remove("k", "k"),
            executor.existing(),
            executor.sweep(set()),
        ):
            with pytest.raises(Unreachable):
                await call
        world.reachable = True
        assert end(await hear(executor, "k")).exit_code == 0

    virtual(test)


def test_errors_at_the_start() -> None:
    async def test(world: ScriptedWorld) -> None:
        errors = [OSError("disk full"), None]
        executor = ScriptedExecutor(
            world,
            lambda key, _: Script(start_error="no such image") if key == "never" else Script(start_error=errors.pop(0)),
        )
        with pytest.raises(StartRefused, match="no such image"):
            await executor.start("never", job("x"))
        with pytest.raises(OSError, match="disk full"):
            await executor.start("k", job("x"))
        assert await executor.existing() == set()
        await executor.start("k", job("x"))
        assert await executor.existing() == {"k"}

    virtual(test)


def test_steps_that_are_not_quiet_tell_what_they_do() -> None:
    async def test(world: ScriptedWorld) -> None:
        executor = ScriptedExecutor(world)
        folder = JobFolder(
            steps=(step("sleep 1.5", name="a", quiet=False), step("exit 2", name="b", quiet=False, tolerate=True))
        )
        await executor.start("k", folder)
        heard = await hear(executor, "k")
        assert b"".join(text for _, text in output(heard)).decode().splitlines() == [
            "cador: step a started",
            "cador: step a passed after 1.50 s",
            "cador: step b started",
            "cador: step b failed with exit code 2 after 0.00 s",
            "cador: step b: exit code 2 is tolerated",
        ]
        assert end(heard).exit_code == 0

    virtual(test)


def test_a_job_without_steps_passes() -> None:
    async def test(world: ScriptedWorld) -> None:
        executor = ScriptedExecutor(world, {"scripted": Script(after_s=5, exit_code=1)})
        for key in ("k", "scripted"):
            await executor.start(key, JobFolder(steps=()))
            assert end(await hear(executor, key)).exit_code == 0
            assert await executor.harvest(key, key) == Harvest({})

    virtual(test)


# -- step texts --------------------------------------------------------------------------------------------------------


def test_variables_quotes_and_outputs() -> None:
    done = parse(
        step(
            '\n# a comment\nNAME=app\nIMAGE="registry/${NAME}:$TAG"\necho \'quo  ted\' and\necho "it is" $IMAGE  now\n'
            "sleep 0.5\necho 汉字 a=b\nEMPTY=\nexit 3\necho never"
        )
    ).run({"TAG": "7", "FROM": "env"}, ("IMAGE", "EMPTY", "FROM", "UNSET"))
    assert (done.after_s, done.exit_code) == (0.5, 3)
    assert done.prints == ((0.0, b"quo  ted and\n"), (0.0, b"it is registry/app:7 now\n"), (0.5, "汉字 a=b\n".encode()))
    assert done.outputs == {"IMAGE": "registry/app:7", "EMPTY": "", "FROM": "env"}


@pytest.mark.parametrize(
    "text",
    [
        *("ls", "echo a; exit 1", "echo $(date)", "echo `date`", "echo ${A:-b}", "echo 'a $B'", "echo 'open", "sleep"),
        *("exit x", "exit 256", "sleep -1", "sleep 1h", "A=1 echo", "A = 1", "echo a > b", "echo a | b", "echo -n a"),
        *("set -e", "a-b=1", "echo a\x0bexit 1 &"),
    ],
)
def test_anything_else_refuses_the_job(text: str) -> None:
    async def test(world: ScriptedWorld) -> None:
        executor = ScriptedExecutor(world)
        with pytest.raises(StartRefused, match="step step, line 2"):
            await executor.start("k", job(f"echo fine\n{text}"))
        assert await executor.existing() == set()

    virtual(test)


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    with suppress(StartRefused):
        parse(step(text)).run({}, ("A",))
