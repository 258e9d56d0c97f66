"""How many job tasks one start may become."""

from pathlib import Path

import pytest

from cador.domain.errors import NotStartable
from engine.test_engine import KEY, flow, job, play
from support.world import World


def test_a_start_of_more_job_tasks_than_a_task_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cador.operations.starting.MOST_JOB_TASKS", 3)

    async def act(world: World) -> None:
        await world.define(flow([job("a", "exit 0")], [job("b", "exit 0")]))
        await world.boot()
        services = [{"service_name": f"s{n}", "service_module": "m"} for n in range(3)]
        given = {"job_name": "a", "parameters": {"services": services}}
        with pytest.raises(NotStartable, match=r"^4 job tasks are more than the 3 that a task may have$"):
            await world.start(KEY, inputs=(given, {"job_name": "b"}))
        detail = await world.done(KEY, await world.start(KEY, inputs=(given,)))
        assert detail.row.status == "passed"

    play(tmp_path, act)


def test_a_script_that_many_services_share_is_counted_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cador.operations.starting.MOST_PLAN_BYTES", 1 << 20)

    async def act(world: World) -> None:
        await world.define(flow([job("a", f"# {'x' * 100_000}\nexit 0")]))
        await world.boot()
        services = [{"service_name": f"s{n}", "service_module": "m"} for n in range(12)]
        given = {"job_name": "a", "parameters": {"services": services}}
        with pytest.raises(NotStartable, match=r"^the job tasks of this start are larger than 1 MiB together$"):
            await world.start(KEY, inputs=(given,))
        given["parameters"] = {"services": services[:3]}
        assert await world.start(KEY, inputs=(given,)) == 1

    play(tmp_path, act)
