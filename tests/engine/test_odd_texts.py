"""What others say may hold characters that no table takes: the job ends all the same."""

from pathlib import Path

import pytest

from cador.executors.scripted import Script
from support import virtual_loop
from support.world import World

JOB = {
    "name": "a",
    "type": "freestyle",
    "spec": {
        "properties": {"envs": [{"key": "TEST_JOB", "value": "odd"}]},
        "steps": [{"name": "s", "type": "shell", "spec": {"script": "exit 0"}}],
    },
}


@pytest.mark.parametrize("place", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_reason_that_cannot_be_stored_ends_its_job(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if place == "postgres" else ""

    async def main() -> None:
        world = await World.virtual(tmp_path, url)
        world.scripts["odd"] = Script(start_error="it says \0 and \udcff")
        try:
            await world.define({"name": "w", "stages": [{"name": "s", "jobs": [JOB]}]})
            await world.boot()
            detail = await world.done("w", await world.start("w"))
            assert (detail.row.status, detail.stages[0].jobs[0].row.error) == ("failed", "it says \ufffd and \ufffd")
        finally:
            await world.close()

    virtual_loop.run(main(), limit_s=86_400.0)
