"""What ``/metrics`` says about the engine's work while it goes on."""

import asyncio
from pathlib import Path
from typing import Any

from cador.api.metrics import Metrics
from support import virtual_loop
from support.world import World

SHELL = {"name": "run", "type": "shell", "spec": {"script": "sleep 5\n"}}
JOB: dict[str, Any] = {"name": "a", "type": "freestyle", "spec": {"properties": {"timeout": 10}, "steps": [SHELL]}}

FAILS = {"name": "run", "type": "shell", "spec": {"script": "exit 1\n"}}


def test_the_wait_of_a_task_is_counted_once(tmp_path: Path) -> None:
    """A retry a day later has not waited for a day."""

    async def act() -> None:
        world = await World.virtual(tmp_path)
        try:
            job = {**JOB, "spec": {**JOB["spec"], "steps": [FAILS]}}
            await world.define({"name": "w", "stages": [{"name": "s", "jobs": [job]}]})
            await world.boot()
            metrics = world.engine.meter = Metrics()
            number = await world.start("w")
            await world.done("w", number)
            await asyncio.sleep(86_400.0)
            await world.retry("w", number)
            await world.done("w", number)
            text = metrics.text({}).decode()
            assert "cador_tasks_started_total 2.0" in text
            assert "cador_task_wait_seconds_count 1.0" in text
        finally:
            await world.close()

    virtual_loop.run(act(), limit_s=200_000.0)


def test_running_jobs_and_tasks_are_counted(tmp_path: Path) -> None:
    async def act() -> None:
        world = await World.virtual(tmp_path)
        try:
            await world.define({"name": "w", "stages": [{"name": "s", "jobs": [JOB]}]})
            await world.boot()
            metrics = world.engine.meter = Metrics()
            number = await world.start("w")
            await world.until("w", number, lambda d: d.stages[0].jobs[0].row.status == "running")
            during = metrics.text({}).decode()
            assert 'cador_jobs_running{executor="scripted"} 1.0' in during
            assert "cador_tasks_started_total 1.0" in during
            await world.done("w", number)
            await world.kill()
            after = metrics.text({}).decode()
            assert 'cador_jobs_running{executor="scripted"} 0.0' in after
            assert 'cador_tasks_ended_total{status="passed"} 1.0' in after
        finally:
            await world.close()

    virtual_loop.run(act())
