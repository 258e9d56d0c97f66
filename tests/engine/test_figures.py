"""What ``/metrics`` says about the engine's work while it goes on."""

from pathlib import Path

from cador.api.metrics import Metrics
from support import virtual_loop
from support.world import World

SHELL = {"name": "run", "type": "shell", "spec": {"script": "sleep 5\n"}}
JOB = {"name": "a", "type": "freestyle", "spec": {"properties": {"timeout": 10}, "steps": [SHELL]}}


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
