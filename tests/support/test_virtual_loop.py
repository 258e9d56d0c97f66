import asyncio
import threading

import pytest

from support.virtual_loop import BASE, Stuck, VirtualLoop, clock, run


def test_an_hour_passes_at_once_and_exactly() -> None:
    async def main() -> tuple[float, float]:
        began = clock()
        await asyncio.sleep(3600)
        return began, clock()

    began, ended = run(main())
    assert (began, ended) == (BASE, pytest.approx(BASE + 3600, abs=1e-3))


def test_timers_fire_in_order_of_their_time() -> None:
    heard: list[tuple[str, float]] = []

    async def wait(name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        heard.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name, delay in (("c", 30.0), ("a", 0.001), ("d", 200_000.0), ("b", 29.999)):
                group.create_task(wait(name, delay))

    run(main(), limit_s=300_000)
    assert [name for name, _ in heard] == ["a", "b", "c", "d"]
    assert [at for _, at in heard] == pytest.approx([0.001, 29.999, 30.0, 200_000.0], abs=1e-3)


def test_time_stands_still_while_a_thread_works() -> None:
    go = threading.Event()
    at: list[float] = []

    def work() -> str:
        assert go.wait(10)
        return "done"

    async def main() -> str:
        async def later() -> None:
            await asyncio.sleep(5)
            at.append(asyncio.get_running_loop().time())

        child = asyncio.create_task(later())
        working = asyncio.create_task(asyncio.to_thread(work))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        go.set()
        result = await working
        at.append(asyncio.get_running_loop().time())
        await child
        return result

    assert run(main()) == "done"
    assert at == [0.0, pytest.approx(5.0)]


def test_the_bound_is_virtual_and_ends_the_run() -> None:
    cleaned = []

    async def main() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            cleaned.append(asyncio.get_running_loop().time())

    with pytest.raises(TimeoutError):
        run(main(), limit_s=100)
    assert cleaned == [pytest.approx(100)]


def test_children_left_behind_are_ended() -> None:
    ended = []

    async def child() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(child())
        await asyncio.sleep(1)
        return task

    assert run(main()).cancelled()
    assert ended == [True]


def test_waiting_for_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.virtual_loop._STUCK_S", 0.01)
    loop = VirtualLoop()

    async def main() -> None:
        await asyncio.Event().wait()

    task = loop.create_task(main())
    try:
        with pytest.raises(Stuck):
            loop.run_until_complete(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    finally:
        loop.close()
