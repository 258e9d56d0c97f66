"""Run again what a person chooses of a task, with other values; on the virtual clock, with real tables and engine."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Conflict, Invalid, NotFound, NotStartable, WrongStatus
from cador.operations.retrying import retry_task
from cador.operations.task_values import Edits, JobInput, RetryRequest, TaskDetail
from cador.ports.code_hosts import Resolved
from support import virtual_loop
from support.world import PROJECT, World

KEY = "flow"


def job(name: str, script: str = "sleep 1", *, envs: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    variables = [
        {"key": key, "value": value, "type": "string", "is_credential": key.startswith("SECRET")}
        for key, value in (envs or {}).items()
    ]
    steps = [{"name": "shell", "type": "shell", "spec": {"script": script}}]
    return {
        "name": name,
        "type": "freestyle",
        "spec": {"properties": {"timeout": 60, "envs": variables}, "steps": steps},
        **more,
    }


def flow(*stages: list[dict[str, Any]], params: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "name": KEY,
        "params": [
            {"name": name, "type": "string", "value": value, "is_credential": name.startswith("SECRET")}
            for name, value in (params or {}).items()
        ],
        "stages": [
            {"name": f"s{number}", "parallel": len(jobs) > 1, "jobs": jobs} for number, jobs in enumerate(stages, 1)
        ],
        **more,
    }


def play(folder: Path, act: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        world = await World.virtual(folder)
        try:
            await act(world)
        finally:
            await world.close()

    virtual_loop.run(whole(), limit_s=86_400.0)


async def retry(world: World, number: int = 1, *, by: str = "admin", **request: Any) -> None:
    parameters = tuple({"name": name, "value": value} for name, value in request.pop("params", {}).items())
    inputs = tuple(
        JobInput(name, parameters={"kv": [{"key": key, "value": value} for key, value in variables.items()]})
        for name, variables in request.pop("kv", {}).items()
    )
    request = RetryRequest(edits=Edits(parameters, inputs), **request)
    await retry_task(world.ctx, world.actor(by), KEY, number, PROJECT, request)


def jobs(detail: TaskDetail) -> dict[str, str]:
    return {job.row.name: job.row.status for stage in detail.stages for job in stage.jobs}


def attempts(detail: TaskDetail) -> dict[str, int]:
    return {job.row.name: job.row.attempt for stage in detail.stages for job in stage.jobs}


async def told(world: World, number: int = 1) -> list[dict[str, Any]]:
    """What the history says was changed by the last retry."""
    task_id = await world.db.read(lambda tx: tx.tasks.find_id(KEY, number))
    events = await world.db.read(lambda tx: tx.tasks.events(task_id))
    return [event.data["changes"] for event in events if event.kind == "retry_requested"][-1]


def test_edited_parameters_reach_what_runs_again_and_only_that(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        first = job("first", 'echo "first {{.workflow.params.VERSION}} $VERSION"')
        second = job("second", 'echo "second {{.workflow.params.VERSION}} $VERSION"\nexit {{.workflow.params.CODE}}')
        third = job("third", 'echo "third {{.workflow.params.VERSION}}"')
        await world.define(flow([first], [second], [third], params={"VERSION": "1", "CODE": "7"}))
        await world.boot()
        await world.start(KEY)
        assert jobs(await world.done(KEY, 1)) == {"first": "passed", "second": "failed", "third": ""}
        await retry(world, params={"VERSION": "2", "CODE": "0"})
        detail = await world.done(KEY, 1)
        assert (detail.row.status, attempts(detail)) == ("passed", {"first": 1, "second": 2, "third": 1})
        assert "second 2 2" in world.log(KEY, 1, "second", 2)
        assert "third 2" in world.log(KEY, 1, "third")
        assert "second 1 1" in world.log(KEY, 1, "second", 1), "the log of the first attempt stays"
        assert {param["name"]: param["value"] for param in detail.params} == {"VERSION": "2", "CODE": "0"}
        assert await told(world) == [
            {"name": "VERSION", "before": "1", "after": "2"},
            {"name": "CODE", "before": "7", "after": "0"},
        ]

    play(tmp_path, act)


def test_an_edited_input_changes_that_variable_alone(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        script = 'echo "A=$A B=$B"\nexit {{.job.say.CODE}}'
        await world.define(flow([job("say", script, envs={"A": "1", "B": "2", "CODE": "1"})]))
        await world.boot()
        given = JobInput("say", parameters={"kv": [{"key": "A", "value": "given"}]})
        await world.start(KEY, inputs=(given,))
        await world.done(KEY, 1)
        await retry(world, kv={"say": {"B": "changed", "CODE": "0"}})
        await world.done(KEY, 1)
        assert "A=given B=changed" in world.log(KEY, 1, "say", 2)
        assert await told(world) == [
            {"name": "say.kv.B", "before": "", "after": "changed"},
            {"name": "say.kv.CODE", "before": "", "after": "0"},
        ]

    play(tmp_path, act)


def test_a_second_edit_stands_on_the_first(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("say", 'echo "$A $B"\nexit 1')], params={"A": "1", "B": "1"}))
        await world.boot()
        await world.start(KEY)
        await world.done(KEY, 1)
        await retry(world, params={"A": "2"})
        await world.done(KEY, 1)
        await retry(world, params={"B": "3"})
        await world.done(KEY, 1)
        await retry(world)
        detail = await world.done(KEY, 1)
        said = [world.log(KEY, 1, "say", attempt).splitlines()[1].partition("   ")[2] for attempt in (1, 2, 3, 4)]
        assert said == ["1 1", "2 1", "2 3", "2 3"]
        assert detail.row.edits == 2

    play(tmp_path, act)


def test_what_was_kept_by_an_edited_retry_runs_with_the_new_values_when_it_runs_again(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        first = job("first", 'echo "{{.workflow.params.V}} $V"')
        await world.define(flow([first], [job("second", "exit 1")], params={"V": "old"}))
        await world.boot()
        await world.start(KEY)
        await world.done(KEY, 1)
        await retry(world, params={"V": "new"})
        await world.done(KEY, 1)
        await retry(world, from_job="first")
        detail = await world.done(KEY, 1)
        assert attempts(detail) == {"first": 2, "second": 3}
        assert "new new" in world.log(KEY, 1, "first", 2)

    play(tmp_path, act)


def test_secrets_stay_sealed_and_are_told_to_nobody(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        say = job("say", 'echo "$SECRET_A $SECRET_B"\nexit 1', envs={"SECRET_B": "bbbb-1111"})
        await world.define(flow([say], params={"SECRET_A": "aaaa-1111"}))
        await world.boot()
        await world.start(KEY)
        await world.done(KEY, 1)
        await retry(world, params={"SECRET_A": "aaaa-2222"}, kv={"say": {"SECRET_B": "bbbb-2222"}})
        detail = await world.done(KEY, 1)
        assert "******** ********" in world.log(KEY, 1, "say", 2)
        assert await told(world) == [
            {"name": "SECRET_A", "before": "********", "after": "********"},
            {"name": "say.kv.SECRET_B", "before": "", "after": "********"},
        ]
        task_id = detail.row.id
        stored = await world.db.read(
            lambda tx: repr((tx.tasks.snapshot(task_id), tx.tasks.jobs(task_id), tx.tasks.events(task_id)))
        )
        for secret in ("aaaa-2222", "bbbb-2222"):
            assert secret not in stored

    play(tmp_path, act)


def test_what_was_typed_in_is_never_taken_for_a_reference(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("say", 'echo "{{.workflow.params.A}}"\nexit 1')], params={"A": "x", "B": "y"}))
        await world.boot()
        typed = ({"name": "A", "value": "{{.project}}"},)
        await world.start(KEY, parameters=typed)
        await world.done(KEY, 1)
        await retry(world, params={"B": "{{.workflow.name}}"})
        detail = await world.done(KEY, 1)
        assert "{{.project}}" in world.log(KEY, 1, "say", 2)
        assert {param["name"]: param["value"] for param in detail.params} == {
            "A": "{{.project}}", "B": "{{.workflow.name}}",
        }  # fmt: skip

    play(tmp_path, act)


def test_a_failed_job_runs_again_while_its_neighbour_runs_on(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        quick = job("quick", "exit {{.job.quick.CODE}}", envs={"CODE": "1"})
        await world.define(flow([quick, job("slow", "sleep 100")], [job("last")]))
        await world.boot()
        await world.start(KEY)
        await world.until(KEY, 1, lambda d: jobs(d)["quick"] == "failed")
        await retry(world, jobs=("quick",), kv={"quick": {"CODE": "0"}})
        detail = await world.until(KEY, 1, lambda d: jobs(d)["quick"] == "passed")
        assert (detail.row.status, jobs(detail)["slow"], detail.row.retry_num) == ("running", "running", 0)
        detail = await world.done(KEY, 1, within_s=200)
        assert (detail.row.status, attempts(detail)) == ("passed", {"quick": 2, "slow": 1, "last": 1})

    play(tmp_path, act)


def test_parameters_are_not_changed_under_jobs_that_run(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("quick", "exit 1"), job("slow", "sleep 100")], params={"A": "1"}))
        await world.boot()
        await world.start(KEY)
        before = await world.until(KEY, 1, lambda d: jobs(d)["quick"] == "failed")
        with pytest.raises(Invalid, match="other jobs of the task run with the present parameters"):
            await retry(world, jobs=("quick",), params={"A": "2"})
        with pytest.raises(Invalid, match="job slow does not run, its inputs cannot be changed"):
            await retry(world, jobs=("quick",), kv={"slow": {}})
        after = await world.detail(KEY, 1)
        assert (after.row, jobs(after)) == (before.row, jobs(before))

    play(tmp_path, act)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"params": {"NONE": "1"}}, Invalid, "param NONE not found in workflow"),
    ({"params": {"FIXED": "1"}}, Invalid, "param FIXED is fixed in the workflow, it cannot be changed"),
    ({"params": {"COLOUR": "mauve"}}, Invalid, "invalid choice value mauve for param COLOUR"),
    ({"params": {"COLOUR": "********"}}, Invalid, "the value of param COLOUR is masked"),
    ({"kv": {"none": {"A": "1"}}}, Invalid, "job none is not part of task flow:1"),
    ({"kv": {"say": {"NONE": "1"}}}, Invalid, "NONE"),
    ({"kv": {"say": {"A": "********"}}}, Invalid, "inputs of job say contain a masked value"),
    ({"kv": {"before": {"A": "1"}}}, Invalid, "job before does not run, its inputs cannot be changed"),
    ({"jobs": ("none",)}, NotFound, "job none not found"),
    ({"jobs": ("before",)}, WrongStatus, "task: job before is passed, cannot retry"),
    ({"from_job": "after"}, WrongStatus, "task: job after is not started, cannot retry"),
]


@pytest.mark.parametrize(("wish", "error", "text"), BAD, ids=[str(wish) for wish, _, _ in BAD])
def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    wish: dict[str, Any], error: type[Exception], text: str, tmp_path: Path
) -> None:
    async def act(world: World) -> None:
        definition = flow(
            [job("before", envs={"A": "0"})], [job("say", "exit 1", envs={"A": "0"})], [job("after", envs={"A": "0"})]
        )
        definition["params"] = [
            {"name": "FIXED", "type": "string", "value": "0", "source": "fixed"},
            {"name": "COLOUR", "type": "choice", "value": "red", "choice_option": ["red", "blue"]},
        ]
        await world.define(definition)
        await world.boot()
        await world.start(KEY)
        before = await world.done(KEY, 1)
        with pytest.raises(error, match=text.replace("*", r"\*")):
            await retry(world, **wish)
        after = await world.detail(KEY, 1)
        assert (after.row, jobs(after), after.params) == (before.row, jobs(before), before.params)

    play(tmp_path, act)


def test_an_edit_that_would_change_which_jobs_there_are_is_refused(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        spec = job("per", "exit 1")
        spec["spec"] |= {"freestyle_type": "service_freestyle"}
        await world.define(flow([spec]))
        await world.boot()

        def services(*names: str) -> dict[str, Any]:
            return {"services": [{"service_name": name, "service_module": name} for name in names]}

        await world.start(KEY, inputs=(JobInput("per", parameters=services("a", "b")),))
        await world.done(KEY, 1)
        request = RetryRequest(edits=Edits(inputs=(JobInput("per", parameters=services("c")),)))
        with pytest.raises(Invalid, match="would change which jobs the task has; start a new task instead"):
            await retry_task(world.ctx, world.actor(), KEY, 1, PROJECT, request)
        inputs = {"services": [{"service_name": "a", "service_module": "a", "inputs": []}]}
        await retry_task(
            world.ctx, world.actor(), KEY, 1, PROJECT, RetryRequest(edits=Edits(inputs=(JobInput("per", "", inputs),)))
        )

    play(tmp_path, act)


def test_of_two_edits_at_once_one_is_refused(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.define(flow([job("say", "exit 1")], params={"A": "1"}))
        await world.boot()
        await world.start(KEY)
        before = await world.done(KEY, 1)
        from cador.operations.redrafting import load_original, redraft

        original = await world.db.read(load_original, world.ctx.catalogues, before.row.id)
        late = await redraft(world.ctx, original, Edits(({"name": "A", "value": "late"},)))
        await retry(world, params={"A": "2"})
        await world.done(KEY, 1)
        task = await world.db.read(lambda tx: tx.tasks.load(before.row.id))
        with pytest.raises(Conflict):
            await world.db.write(lambda tx: late.store(tx, task, task))
        await retry(world, params={"A": "3"})
        assert (await world.detail(KEY, 1)).params[0]["value"] == "3"

    play(tmp_path, act)


def test_a_retry_asked_for_too_early_has_new_image_tags(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        build = {"name": "b", "build_script": "sleep 1000\necho $IMAGE", "targets": [], "parameters": []}
        await world.add(
            "registry", "r", {"address": "reg.example.com", "namespace": "n", "is_default": True}, system=True
        )
        await world.add("build", "b", build)
        await world.add("service", "api", {"service_name": "api", "containers": [{"name": "api", "image_name": "api"}]})
        spec = {"service_and_builds": [{"service_name": "api", "service_module": "api", "build_name": "b"}]}
        await world.define(flow([{"name": "build", "type": "zadig-build", "spec": spec}]))
        await world.boot()
        await world.start(KEY)
        await world.until(KEY, 1, lambda d: list(jobs(d).values()) == ["running"])
        image = (await world.detail(KEY, 1)).stages[0].jobs[0].spec["image"]
        await asyncio.sleep(5)  # tags tell seconds
        await world.cancel(KEY, 1)
        await retry(world)
        detail = await world.until(KEY, 1, lambda d: d.row.retry_num == 1 and list(jobs(d).values()) == ["running"])
        renewed = detail.stages[0].jobs[0].spec["image"]
        assert image.split(":")[0] == renewed.split(":")[0]
        assert image != renewed

    play(tmp_path, act)


async def _code_host(world: World) -> int:
    document = {"name": "code", "type": "other", "address": "https://git.example.com"}
    return (await world.add("codehost", "code", document, system=True)).id


def _git_job(name: str, branch: str, host: int) -> dict[str, Any]:
    """A job that checks out two repositories and fails."""
    made = job(name, "exit 1")
    repos = [
        {"source": "other", "codehost_id": host, "repo_owner": "g", "repo_namespace": "g", "repo_name": repo,
         "branch": branch, "remote_name": "origin"}
        for repo in ("api", "web")
    ]  # fmt: skip
    made["spec"]["steps"].insert(0, {"name": "git", "type": "git", "spec": {"repos": repos}})
    return made


def test_commits_stay_frozen_where_the_same_branch_is_asked_for(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        asked: list[str] = []

        async def resolve(repos: Sequence[Any], within_s: float) -> list[Resolved]:
            found = []
            for repo, _ in repos:
                asked.append(f"{repo['repo_name']}@{repo['branch']}")
                found.append(Resolved({"commit_id": f"{len(asked):040x}", "commit_message": asked[-1]}))
            return found

        world.resolve = resolve
        host = await _code_host(world)
        await world.define(flow([_git_job("say", "main", host)], params={"A": "1"}))
        await world.boot()
        await world.start(KEY)
        await world.done(KEY, 1)
        assert asked == ["api@main", "web@main"]
        await retry(world, params={"A": "2"})
        await world.done(KEY, 1)
        assert asked == ["api@main", "web@main"], "nothing was asked again"

        def repo(name: str, branch: str) -> dict[str, Any]:
            return {"codehost_name": "code", "repo_namespace": "g", "repo_name": name, "branch": branch}

        entry = JobInput("say", parameters={"repo_info": [repo("api", "hotfix"), repo("web", "main")]})
        await retry_task(world.ctx, world.actor(), KEY, 1, PROJECT, RetryRequest(edits=Edits(inputs=(entry,))))
        detail = await world.done(KEY, 1)
        assert asked == ["api@main", "web@main", "api@hotfix"]
        shown = {repo["repo_name"]: repo for repo in detail.stages[0].jobs[0].spec["repos"]}
        assert (shown["api"]["branch"], shown["api"]["commit_id"]) == ("hotfix", f"{3:040x}")
        assert (shown["web"]["branch"], shown["web"]["commit_id"]) == ("main", f"{2:040x}")
        assert [(one["name"], one["after"]) for one in await told(world)] == [
            ("say.repo_info.code/g/api.branch", "hotfix"), ("say.repo_info.code/g/web.branch", "main"),
        ]  # fmt: skip

    play(tmp_path, act)


def test_a_build_takes_another_variable_and_keeps_its_services(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        build = {
            "name": "b", "build_script": "echo $MODE\nexit 1", "targets": [],
            "parameters": [{"key": "MODE", "value": "slow", "type": "string"},
                           {"key": "PASS", "value": "", "type": "string", "is_credential": True}],
        }  # fmt: skip
        await world.add("registry", "r", {"address": "reg.example.com", "is_default": True}, system=True)
        await world.add("build", "b", build)
        for name in ("api", "web"):
            await world.add("service", name, {"service_name": name, "containers": [{"name": name}]})
        pairs = [{"service_name": n, "service_module": n, "build_name": "b"} for n in ("api", "web")]
        await world.define(flow([{"name": "build", "type": "zadig-build", "spec": {"service_and_builds": pairs}}]))
        await world.boot()

        def entry(name: str, **values: str) -> dict[str, Any]:
            variables = [{"key": key, "value": value} for key, value in values.items()]
            return {"service_name": name, "service_module": name, "inputs": variables}

        given = JobInput("build", parameters={"service_list": [entry("api", PASS="pw-11111")]})
        await world.start(KEY, inputs=(given,))
        await world.done(KEY, 1)
        edit = JobInput("build", parameters={"service_list": [entry("api", MODE="fast")]})
        await retry_task(world.ctx, world.actor(), KEY, 1, PROJECT, RetryRequest(edits=Edits(inputs=(edit,))))
        detail = await world.done(KEY, 1)
        assert jobs(detail) == {"api-api-build": "failed"}
        assert "fast" in world.log(KEY, 1, "api-api-build", 2)
        assert await told(world) == [{"name": "build.service_list.api/api.inputs.MODE", "before": "", "after": "fast"}]
        edit = JobInput("build", parameters={"service_list": [entry("api", PASS="pw-22222")]})
        await retry_task(world.ctx, world.actor(), KEY, 1, PROJECT, RetryRequest(edits=Edits(inputs=(edit,))))
        await world.done(KEY, 1)
        assert await told(world) == [
            {"name": "build.service_list.api/api.inputs.PASS", "before": "********", "after": "********"}
        ]
        edit = JobInput("build", parameters={"service_list": [entry("web")]})
        with pytest.raises(Invalid, match="would change which jobs the task has"):
            await retry_task(world.ctx, world.actor(), KEY, 1, PROJECT, RetryRequest(edits=Edits(inputs=(edit,))))

    play(tmp_path, act)


def test_a_repository_among_the_parameters_takes_another_branch(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        host = await _code_host(world)
        definition = flow([job("say", 'echo "on {{.workflow.params.SRC.branch}}"\nexit 1')])
        repo = {"codehost_id": host, "repo_namespace": "g", "repo_owner": "g", "repo_name": "api", "branch": "main"}
        definition["params"] = [{"name": "SRC", "type": "repo", "value": "", "repo": repo}]
        await world.define(definition)
        await world.boot()
        await world.start(KEY)
        await world.done(KEY, 1)
        await retry(world, params={"SRC": "hotfix"})
        await world.done(KEY, 1)
        assert "on hotfix" in world.log(KEY, 1, "say", 2)
        assert await told(world) == [{"name": "SRC", "before": "main", "after": "hotfix"}]

    play(tmp_path, act)


def test_a_configuration_that_is_gone_is_said(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.add("build", "b", {"name": "b", "build_script": "exit 1", "targets": [], "parameters": []})
        await world.add("service", "api", {"service_name": "api", "containers": [{"name": "api"}]})
        pairs = [{"service_name": "api", "service_module": "api", "build_name": "b"}]
        build = {"name": "build", "type": "zadig-build", "spec": {"service_and_builds": pairs}}
        await world.define(flow([build], params={"A": "1"}))
        await world.boot()
        await world.start(KEY)
        await world.done(KEY, 1)
        await world.db.write(lambda tx: tx.resources.delete("build", PROJECT, "b"))
        with pytest.raises(NotStartable, match="find build: b error: not found"):
            await retry(world, params={"A": "2"})
        await retry(world)
        assert (await world.done(KEY, 1)).row.retry_num == 1, "as it was it runs again: it has its plan"

    play(tmp_path, act)
