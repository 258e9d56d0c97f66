"""Every pair of files beside this one, on both databases: on the virtual clock, and with processes in real time."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from sqlalchemy import select

from cador.domain.errors import CadorError, NotFound
from cador.operations import legacy, tasks, workflows
from cador.operations.product import ByServices, ByTargets, GivenImage, RepoChoice, ServiceBuild, Target
from cador.operations.task_values import StartRequest, TaskDetail
from cador.storage.tables import workflow_task
from support import virtual_loop
from support.actions import scripted
from support.git_server import GitServer
from support.replays import check_replay
from support.world import PROJECT, World, describe

if TYPE_CHECKING:
    from cador.ports.stores import Tx
    from support.databases import PostgresServer

HERE = Path(__file__).parent
NAMES = sorted(path.name.removesuffix(".expect.yaml") for path in HERE.glob("*.expect.yaml"))


def load(name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    workflows = yaml.load_all((HERE / f"{name}.workflow.yaml").read_text(), Loader=yaml.CSafeLoader)
    return list(workflows), expected(name)


def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load((HERE / f"{name}.expect.yaml").read_text(), Loader=yaml.CSafeLoader)
    return found


def names(mode: str) -> list[str]:
    return [name for name, modes in MODES.items() if mode in modes]


MODES = {name: expected(name).get("modes", ("virtual", "real")) for name in NAMES}


class Play:
    """One scenario being played in a world."""

    def __init__(self, world: World, workflows: list[dict[str, Any]], script: Mapping[str, Any]) -> None:
        self.world, self.script = world, script
        self.workflows = workflows
        self.key: str = workflows[0]["name"]
        self.started: list[tuple[str, int]] = []
        self.deleted: list[tuple[tuple[str, int], int]] = []
        self.commits: dict[str, str] = {}

    async def run(self, folder: Path) -> None:
        """*folder*: for the repositories of the scenario."""
        with contextlib.ExitStack() as stack:
            if repositories := self.script.get("repositories"):
                server = GitServer(folder / "repositories")
                for name, content in repositories.items():
                    self.commits[name] = server.repository(name).commit(content.get("files", {}), content["message"])
                unresolved = self.world.resolve
                await self.world.reach(stack.enter_context(server.serving()))
                if not self.script.get("asks_for_commits", True):
                    self.world.resolve = unresolved
            await self.play()

    async def play(self) -> None:
        limits = self.script.get("limits", {})
        self.world.max_running_tasks = limits.get("max_running_tasks", 50)
        self.world.max_jobs = limits.get("max_jobs", 50)
        self.world.actions |= scripted(self.script.get("actions", {}))
        for resource in self.script.get("setup", ()):
            await self.world.add(**resource)
        for workflow in self.workflows:
            await self.world.define(workflow)
        await self.world.boot()
        try:
            for step in self.script.get("do", [{"start": {}}]):
                await self.step(step)
            await self.judge()
        finally:
            await self.world.kill()

    async def step(self, step: Mapping[str, Any]) -> None:
        (verb, given), *_ = ((key, value) for key, value in step.items() if key != "error")
        heard = None
        try:
            await getattr(self, f"do_{verb}")(given if isinstance(given, dict) else {"value": given})
        except CadorError as error:
            heard = str(error)
        assert heard == step.get("error"), step

    def at(self, given: Mapping[str, Any]) -> tuple[str, int]:
        """Which task a step is about: ``task`` counts the starts from 1, else the last one."""
        return self.started[given.get("task", 0) - 1] if "number" not in given else (self.key, given["number"])

    async def do_start(self, given: dict[str, Any]) -> None:
        given = {key: value for key, value in given.items() if key != "value"}
        key, times = given.pop("workflow", self.key), given.pop("times", 1)
        numbers = await asyncio.gather(*(self.world.start(key, **given) for _ in range(times)))
        self.started += [(key, number) for number in sorted(numbers)]

    async def do_create(self, given: dict[str, Any]) -> None:
        """A start by services, as the oldest editions have it: ``targets`` by service, ``images`` by service/module."""
        targets = tuple(
            Target(service, tuple(RepoChoice(name, branch) for name, branch in (repos or {}).items()))
            for service, repos in given.get("targets", {}).items()
        )
        images = tuple(GivenImage(*pair.split("/"), image) for pair, image in given.get("images", {}).items())
        wanted = ByTargets(given.get("env", ""), targets, images)
        request = StartRequest(self.key, PROJECT)
        started = await legacy.start_by_targets(self.world.ctx, self.world.actor(), request, wanted)
        self.started.append((self.key, started.number))

    async def do_produce(self, given: dict[str, Any]) -> None:
        """A start by modules (``service/module``), as product workflows have it."""
        build, deploy = given.get("build"), given.get("deploy")
        choose = ByServices(
            target_env=given.get("env", ""),
            build=build is not None,
            build_list=tuple(ServiceBuild(*pair.split("/")) for pair in build or ()),
            deploy=deploy is not None,
            deploy_source="zadig" if build is not None else "",
            deploy_list=tuple(GivenImage(*pair.split("/"), image) for pair, image in (deploy or {}).items()),
        )
        request = StartRequest(self.key, PROJECT, choose=choose)
        started = await tasks.start_task(self.world.ctx, self.world.actor(), request)
        self.started.append((self.key, started.number))

    async def do_targets(self, given: dict[str, Any]) -> None:
        """What the detail by targets shows."""
        found = await legacy.targets_detail(self.world.ctx, self.world.actor(), *self.at(given))
        shown = {
            "env": found.env,
            "targets": [target.service for target in found.targets],
            "images": [image.service for image in found.images],
        }
        assert {key: shown[key] for key in given if key in shown} == {
            key: value for key, value in given.items() if key in shown
        }

    async def do_lookup(self, given: dict[str, Any]) -> None:
        """Tasks of the commit of a repository, found by so many of its digits: numbers of starts, newest first."""
        commit = self.commits[given["repository"]][: given.get("digits", 40)]
        found = await legacy.tasks_of_commit(self.world.ctx, self.world.actor(), commit)
        rows = [(row.workflow_key, row.number) for row in found]
        assert rows == [self.started[number - 1] for number in given["finds"]]

    async def do_until(self, given: dict[str, Any]) -> None:
        def reached(detail: TaskDetail) -> bool:
            jobs = {job.row.name: job.row.status for stage in detail.stages for job in stage.jobs}
            stages = {stage.name: stage.status for stage in detail.stages}
            return (
                ("status" not in given or detail.row.status == given["status"])
                and ("waiting_for" not in given or detail.row.waiting_for == given["waiting_for"])
                and ("queue" not in given or given["queue"] in _reasons(detail))
                and all(jobs.get(name) == status for name, status in given.get("jobs", {}).items())
                and all(stages.get(name) == status for name, status in given.get("stages", {}).items())
                and (not given.get("ended") or detail.row.end_at is not None)
            )

        await self.world.until(*self.at(given), reached, within_s=given.get("within_s", 60.0))

    async def do_approve(self, given: dict[str, Any]) -> None:
        await self.world.approve(
            *self.at(given), given["stage"], by=given["by"], approve=given.get("approve", True),
            comment=given.get("comment", ""),
        )  # fmt: skip

    async def do_reject(self, given: dict[str, Any]) -> None:
        await self.do_approve({**given, "approve": False})

    async def do_cancel(self, given: dict[str, Any]) -> None:
        await self.world.cancel(*self.at(given))

    async def do_retry(self, given: dict[str, Any]) -> None:
        given = {("from_job" if key == "from" else key): value for key, value in given.items() if key != "value"}
        at = self.at(given)
        await self.world.retry(*at, **{key: value for key, value in given.items() if key not in ("task", "number")})

    async def do_execute(self, given: dict[str, Any]) -> None:
        more = {key: value for key, value in given.items() if key not in ("task", "number", "value")}
        await self.world.execute(*self.at(given), **more)

    async def do_decide(self, given: dict[str, Any]) -> None:
        await self.world.decide(*self.at(given), given["job"], ignore=given["ignore"], by=given.get("by", "admin"))

    async def do_remark(self, given: dict[str, Any]) -> None:
        await tasks.set_remark(self.world.ctx, self.world.actor(), *self.at(given), given["text"])

    async def do_edit(self, given: dict[str, Any]) -> None:
        """Other values for fields of a workflow's definition; ``workflow`` names another than the first."""
        key = given.get("workflow", self.key)
        changes = {name: value for name, value in given.items() if name != "workflow"}
        document = next(one for one in self.workflows if one["name"] == key)
        document = {"concurrency_limit": -1, **document, **changes}
        await workflows.replace_workflow(self.world.ctx, self.world.actor(), key, PROJECT, document)

    async def do_define(self, given: dict[str, Any]) -> None:
        await self.world.define(given)

    async def do_delete(self, given: dict[str, Any]) -> None:
        """Delete the workflow: its unfinished tasks are cancelled by ``system``, and none is found any more."""
        gone = [task for task in self.started if task[0] == self.key]
        ids = [(await self.world.detail(*task)).row.id for task in gone]
        await workflows.delete_workflow(self.world.ctx, self.world.actor(), self.key, PROJECT)
        for task, task_id in zip(gone, ids, strict=True):
            with pytest.raises(NotFound):
                await self.world.detail(*task)
            with contextlib.suppress(NotFound):  # it may be removed already
                row = await self.world.db.read(lambda tx, task_id=task_id: tx.tasks.row(task_id))
                assert (row.status, row.revoker) in (("cancelling", "system"), ("cancelled", "system")), row
        self.started = [task for task in self.started if task not in gone]
        self.deleted = list(zip(gone, ids, strict=True))

    async def do_removed(self, given: dict[str, Any]) -> None:
        """Wait until nothing is left of the deleted tasks: neither processes nor rows, logs or artifacts."""

        def left(tx: "Tx") -> bool:
            ids = {task_id for _, task_id in self.deleted}
            running = any(row.task_id in ids for row in tx.executions.list_executions())
            stored = select(workflow_task.c.id).where(workflow_task.c.id.in_(ids))
            return running or bool(tx.connection.execute(stored).all())  # type: ignore[attr-defined]

        async with asyncio.timeout(60.0):
            while await self.world.db.read(left) or any(  # noqa: ASYNC110 - nobody tells when a house is kept
                self.world.has_files(*task) for task, _ in self.deleted
            ):
                await asyncio.sleep(0.05)

    async def do_kill(self, given: dict[str, Any]) -> None:
        await self.world.kill()

    async def do_boot(self, given: dict[str, Any]) -> None:
        await self.world.boot()

    async def do_restart(self, given: dict[str, Any]) -> None:
        await self.world.restart()

    async def do_pass_s(self, given: dict[str, Any]) -> None:
        await asyncio.sleep(given["value"])

    async def judge(self) -> None:
        expected = self.script["expect"]
        if isinstance(expected, list):
            assert len(expected) == len(self.started)
            for task, ends in zip(self.started, expected, strict=True):
                await self.judge_task(task, ends)
        elif self.started:
            await self.judge_task(self.started[-1], expected)
        if order := self.script.get("started_in_order"):
            starts = [(await self.world.detail(*self.started[one - 1])).row.start_at for one in order]
            assert starts == sorted(starts), starts
        if isinstance(expected, dict) and "tasks" in expected:
            rows = await self.world.db.read(lambda tx: tx.workflows.find(self.key) and tx.tasks.count(self.key))
            assert rows == expected["tasks"]

    async def judge_task(self, task: tuple[str, int], ends: Mapping[str, Any]) -> None:
        detail = await self.world.done(*task, within_s=self.script.get("within_s", 120.0))
        await check_replay(self.world.db, *task)
        jobs = {job.row.name: job for stage in detail.stages for job in stage.jobs}
        shown = describe(detail)
        assert detail.row.status == ends.get("status", "passed"), shown
        if "stages" in ends:
            assert [stage.status for stage in detail.stages] == ends["stages"], shown
        if "jobs" in ends:
            assert {name: job.row.status for name, job in jobs.items()} == ends["jobs"], shown
        for name, error in ends.get("errors", {}).items():
            assert error in jobs[name].row.error, shown
        for name, outputs in ends.get("outputs", {}).items():
            for key, value in outputs.items():
                assert jobs[name].row.outputs.get(key) == value, (name, jobs[name].row.outputs)
        for name, count in ends.get("attempts", {}).items():
            assert jobs[name].row.attempt == count, shown
        for name, counted in ends.get("retry_count", {}).items():
            assert jobs[name].row.retry_count == counted, shown
        for name, facts in ends.get("results", {}).items():
            assert {key: jobs[name].row.result.get(key) for key in facts} == facts, jobs[name].row.result
        for name, texts in ends.get("log", {}).items():
            log = self.world.log(*task, name, jobs[name].row.attempt)
            for text in texts:
                assert text in log, f"{name}: {text!r} is not in\n{log}"
        for name, texts in ends.get("not_in_log", {}).items():
            log = self.world.log(*task, name, jobs[name].row.attempt)
            assert log, f"{name} has no log"
            for text in texts:
                assert text not in log, f"{name}: {text!r} is in\n{log}"
        for text in ends.get("warnings", ()):
            assert any(text in warning for warning in detail.warnings), detail.warnings
        if "retry_num" in ends:
            assert detail.row.retry_num == ends["retry_num"]
        if "revoker" in ends:
            assert detail.row.revoker == ends["revoker"]
        if "error" in ends:
            assert detail.row.error == ends["error"], shown
        if "remark" in ends:
            assert detail.row.remark == ends["remark"]
        if "number" in ends:
            assert detail.row.number == ends["number"]
        if "started" in ends:
            assert (detail.row.start_at is not None) == ends["started"]
        if "took_s" in ends:
            low, high = ends["took_s"]
            assert low <= detail.row.end_at - detail.row.create_at <= high, shown


def _reasons(detail: TaskDetail) -> list[str]:
    """Why a task waits in the queue."""
    return [wait.reason for wait in detail.queue.waits] if detail.queue is not None else []


@pytest.mark.parametrize("name", names("virtual"))
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_on_the_virtual_clock(name: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = ""
    if kind == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.create()

    async def play() -> None:
        world = await World.virtual(tmp_path, url)
        try:
            await Play(world, *load(name)).run(tmp_path)
        finally:
            await world.close()

    virtual_loop.run(play(), limit_s=7 * 86_400.0)


@pytest.mark.real
@pytest.mark.anyio
@pytest.mark.parametrize("name", names("real"))
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_in_real_time(name: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = ""
    if kind == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.create()
    world = await World.real(tmp_path, url)
    try:
        await Play(world, *load(name)).run(tmp_path)
    finally:
        await world.close()
