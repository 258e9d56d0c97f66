"""From a stored job task to what runs: what must not be told, and what must not be remembered."""

from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Invalid
from cador.engine.preparing import Catalogues, Loaded, Preparer
from cador.ports.executor import Limits
from cador.ports.stores import Tx
from engine.test_engine import KEY, flow, job, play
from support.rows import new_job, start, workflow_row
from support.world import World


def test_the_error_of_a_job_that_cannot_be_prepared_holds_no_secret(tmp_path: Path) -> None:
    """A path that a credential is part of: what is wrong with it is told without it, everywhere."""

    async def act(world: World) -> None:
        archive = {
            "name": "keep", "type": "archive",
            "spec": {"upload_detail": [{"file_path": "/{{.workflow.params.PASSWORD}}/x", "dest_path": "/"}]},
        }  # fmt: skip
        one = job("a", "exit 0")
        one["spec"]["steps"].append(archive)
        params = [{"name": "PASSWORD", "type": "string", "value": "", "is_credential": True}]
        await world.define(flow([one], params=params))
        await world.boot()
        number = await world.start(KEY, parameters=({"name": "PASSWORD", "type": "string", "value": "s3cr3t-word"},))
        detail = await world.done(KEY, number)
        row = detail.stages[0].jobs[0].row
        assert row.status == "failed"
        assert "must be relative to the workspace: /********/x" in row.error
        events = await world.db.read(lambda tx: tx.tasks.events(detail.row.id))
        assert "s3cr3t" not in repr((detail, events))

    play(tmp_path, act)


class TakenBack(Exception):
    pass


@pytest.mark.parametrize("what", ["a task", "changed values"])
def test_what_was_taken_back_is_not_remembered(what: str, tmp_path: Path) -> None:
    """A transaction that read what it had written itself and was taken back: whoever gets the same number of a task, or
    of a change, next must not run with the values of that one."""

    async def act(world: World) -> None:
        preparer = Preparer(
            types=world.types, sealer=world.sealer, catalogues=Catalogues(), collect=world._collect,
            default_executor="scripted", host_limits=Limits(),
        )  # fmt: skip

        def snapshot(value: str) -> dict[str, Any]:
            return {"env": {"WHOSE": value}, "secret_variables": {}}

        def write(tx: Tx, value: str) -> int:
            if what == "a task":
                plan = {"spec": {}}
                return start(tx, KEY, jobs=(new_job("a", plan=plan),), snapshot=snapshot(value))
            tx.tasks.set_snapshot(1, snapshot(value))
            return 1

        def loaded(tx: Tx, task_id: int) -> Loaded:
            found = preparer.load(tx, task_id, tx.tasks.jobs(task_id)[0].id)
            assert found is not None
            return found

        def taken_back(tx: Tx) -> None:
            seen = loaded(tx, write(tx, "mine")).snapshot
            assert seen["env"] == {"WHOSE": "mine"}
            raise TakenBack

        await world.db.write(lambda tx: tx.workflows.add(workflow_row(KEY)))
        if what == "changed values":
            await world.db.write(
                lambda tx: start(tx, KEY, jobs=(new_job("a", plan={"spec": {}}),), snapshot=snapshot("first"))
            )
        with pytest.raises(TakenBack):
            await world.db.write(taken_back)
        task_id = await world.db.write(write, "theirs")
        found = await world.db.read(loaded, task_id)
        assert found.snapshot["env"] == {"WHOSE": "theirs"}

    play(tmp_path, act)


def test_what_was_prepared_is_read_once(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        preparer = Preparer(
            types=world.types, sealer=world.sealer, catalogues=Catalogues(), collect=world._collect,
            default_executor="scripted",
        )  # fmt: skip
        await world.define(flow([job("a", "exit 0")], [job("b", "exit 0")]))
        await world.boot()
        detail = await world.done(KEY, await world.start(KEY))
        ids = [one.row.id for stage in detail.stages for one in stage.jobs]
        first = await world.db.read(lambda tx: preparer.load(tx, detail.row.id, ids[0]))
        assert first is not None
        preparer.prepare(first)
        second = await world.db.read(lambda tx: preparer.load(tx, detail.row.id, ids[1]))
        assert second is not None
        assert second.snapshot is first.snapshot

    play(tmp_path, act)


def test_a_job_of_an_unknown_type_says_so(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.db.write(lambda tx: tx.workflows.add(workflow_row(KEY)))
        task_id = await world.db.write(
            lambda tx: start(tx, KEY, jobs=(new_job("a", type="none", plan={"spec": {}}),), snapshot={"env": {}})
        )
        preparer = Preparer(
            types={}, sealer=world.sealer, catalogues=Catalogues(), collect=world._collect, default_executor="scripted"
        )
        found = await world.db.read(lambda tx: preparer.load(tx, task_id, tx.tasks.jobs(task_id)[0].id))
        assert found is not None
        with pytest.raises(Invalid, match="job type not supported"):
            preparer.prepare(found)

    play(tmp_path, act)
