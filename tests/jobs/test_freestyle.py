"""Job type ``freestyle``: shapes, run-time input, environment, and real runs."""

from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Invalid, NotStartable
from cador.domain.variables import JobFacts
from cador.jobs.freestyle import FREESTYLE
from cador.jobs.values import repos_of_plan
from cador.ports.executor import Keep
from jobs import snapshots
from jobs.running import World, one_job, resource, run_folder, workflow

GITHUB = resource("codehost", "github", ident=23, type="github", address="https://github.example.com")
DOCUMENTED = {
    "properties": {
        "timeout": 45,
        "res_req": "define",
        "res_req_spec": {"cpu_limit": 1000, "memory_limit": 512},
        "build_os": "focal",
        "envs": [
            {"key": "key1", "value": "val1", "type": "string", "is_credential": False},
            {"key": "token", "value": "sealed:t0p-secret", "type": "string", "is_credential": True},
            {"key": "size", "value": "s", "type": "choice", "choice_option": ["s", "m"]},
            {"key": "never", "value": "old", "source": "fixed"},
        ],
    },
    "steps": [
        {"name": "tools", "type": "tools", "spec": {"installs": [{"name": "go", "version": "1.19.3"}]}},
        {"name": "git", "type": "git", "spec": {"repos": [{"codehost_id": 23, "repo_owner": "o", "repo_name": "my.app",
         "branch": "main", "checkout_path": "src", "source": "GitHub"}]}},
        {"name": "shell", "type": "shell", "spec": {"script": "#!/bin/bash\nset -e\necho hello"}},
        {"name": "keep", "type": "archive", "spec": {"upload_detail": [
            {"file_path": "$WORKSPACE/out/$key1", "dest_path": "/files"}, {"file_path": ""}]}},
    ],
    "outputs": [{"name": "RESULT", "description": ""}],
}  # fmt: skip


@pytest.fixture
def world() -> World:
    from cador.jobs.base import CodeHostAccess

    access = CodeHostAccess(23, "github", "https://github.example.com", token="gh-token", disable_ssl=True)
    return World([GITHUB], {23: access})


def test_the_documented_shape_compiled(world: World) -> None:
    given = {"kv": [{"key": "key1", "value": "it's $HOME"}, {"key": "token", "value": "n3w-secret"}]}
    [plan] = world.expand(one_job("freestyle", DOCUMENTED), {"job": given})["job"]
    repos_of = plan.plan["steps"][1]["spec"]["repos"][0]
    repos_of.update(commit_id="a" * 40, commit_message="x #ENV_X=1# #PATH=/evil# #key1=evil# #LD_PRELOAD=x#")
    folder = world.compile("freestyle", plan, params={"P": "param", "key1": "hidden by the job's own"})
    snapshots.check("freestyle-documented", folder)
    assert plan.timeout_s == 45 * 60
    assert plan.repos == ("steps.1.spec.repos",)
    assert folder.env["key1"] == "it's $HOME"
    assert folder.env["ENV_X"] == "1"
    assert "LD_PRELOAD" not in folder.env
    assert folder.secrets == ("n3w-secret", "gh-token")
    assert folder.keep == (Keep("out/it's $HOME", "archive/files", required=True),)


def test_the_newer_shape_compiled(world: World) -> None:
    spec = {
        "freestyle_type": "",
        "repos": [{"codehost_id": 23, "repo_namespace": "o", "repo_name": "1app", "branch": "main", "prs": [4, 5]}],
        "envs": [{"key": "A", "value": "1"}],
        "script": "make\r\nmake test\r\n",
        "object_storage_upload": {"enabled": True, "upload_detail": [{"file_path": "out/", "dest_path": ""}]},
        "runtime": {"build_os": "my/image:1", "image_from": "custom", "installs": [{"name": "node", "version": "18"}]},
        "advanced_setting": {"timeout": 0, "res_req": "high", "outputs": [{"name": "X"}]},
    }
    [plan] = world.expand(one_job("freestyle", spec), {"job": {}})["job"]
    assert plan.timeout_s == 600 * 60
    snapshots.check("freestyle-newer", world.compile("freestyle", plan))


@pytest.mark.real
def test_a_run(world: World, tmp_path: Path) -> None:
    script = (
        'RESULT="$A * \\"q\\" $(printf "l1\\nl2")"; echo "$PROJECT $WORKFLOW $TASK_ID $CI $ZADIG $P"; '
        'echo "in: {{.job.before.output.O}}"; mkdir -p out; echo x > out/f; exit 0'
    )
    spec = {
        "properties": {"envs": [{"key": "A", "value": "a'b {{.Values.x}}"}]},
        "steps": [
            {"name": "one", "type": "shell", "spec": {"script": script}},
            {"name": "two", "type": "shell", "spec": {"scripts": ['echo "got: $RESULT"', "test -f out/f"]}},
        ],
        "outputs": [{"name": "RESULT"}],
    }
    [plan] = world.expand(one_job("freestyle", spec), {"job": {}})["job"]
    earlier = [JobFacts("before", "before", "passed", 1.0, {"O": "{{.project}} $HOME"})]
    ended = run_folder(world.compile("freestyle", plan, params={"P": "pp"}, earlier=earlier), tmp_path)
    assert ended.exit_code == 0, ended.log
    assert "shop ship 26 true true pp" in ended.log
    value = 'a\'b {{.Values.x}} * "q" l1\nl2'
    assert ended.outputs["RESULT"] == value
    assert f"got: {value}" in ended.log
    conclusion = FREESTYLE.conclude(plan.plan, ended.outputs, True, None)  # type: ignore[arg-type]
    assert conclusion.error == ""


@pytest.mark.real
@pytest.mark.parametrize(
    ("script", "code"), [("false\ntrue", 0), ("true\nfalse", 1), ("set -e\nfalse\ntrue", 1), ("exit 3", 3)]
)
def test_the_last_command_decides(world: World, tmp_path: Path, script: str, code: int) -> None:
    spec = {"steps": [{"name": "s", "type": "shell", "spec": {"script": script}}], "outputs": [{"name": "X"}]}
    [plan] = world.expand(one_job("freestyle", spec), {"job": {}})["job"]
    assert run_folder(world.compile("freestyle", plan), tmp_path).exit_code == code


def test_values_of_a_start(world: World) -> None:
    definition = one_job("freestyle", DOCUMENTED)
    given = {"kv": [{"key": "size", "value": "xl"}, {"key": "never", "value": "new"}, {"key": "nope", "value": "1"}]}
    [plan] = world.expand(definition, {"job": given})["job"]
    values = {item["key"]: item["value"] for item in plan.plan["envs"]}
    assert values == {"key1": "val1", "token": "sealed:t0p-secret", "size": "xl", "never": "old"}
    assert world.notes == ["job job: the value of size is none of its options"]
    assert world.warnings == [
        "job job: variable never is fixed in the workflow, the given value is not used",
        "job job: there is no variable nope",
    ]
    [masked] = world.expand(definition, {"job": {"kv": [{"key": "token", "value": "********"}]}})["job"]
    assert masked.plan["envs"][1]["value"] == "sealed:t0p-secret"


def test_repositories_of_a_start_replace_the_configured_ones(world: World) -> None:
    definition = one_job("freestyle", DOCUMENTED)
    given = [
        {"codehost_name": "github", "repo_namespace": "x", "repo_name": "new", "branch": "b", "submodules": True},
        {"codehost_name": "github", "repo_namespace": "o", "repo_name": "my.app", "branch": "dev", "prs": [1]},
    ]
    [plan] = world.expand(definition, {"job": {"repo_info": given}})["job"]
    repos = repos_of_plan(plan.plan)
    assert [(r["repo_name"], r["branch"], r.get("checkout_path"), r.get("prs")) for r in repos] == [
        ("new", "b", None, None),
        ("my.app", "dev", "src", [1]),
    ]
    with pytest.raises(
        Invalid, match=r"^failed to update jobspec for job: job, err: failed to find code host with name:no"
    ):
        world.expand(definition, {"job": {"repo_info": [{**given[0], "codehost_name": "no"}]}})
    bare = {**DOCUMENTED, "steps": [DOCUMENTED["steps"][2]]}
    [plan] = world.expand(one_job("freestyle", bare), {"job": {"repo_info": given[:1]}})["job"]
    assert [step["type"] for step in plan.plan["steps"]] == ["git", "shell"]


def test_once_per_service(world: World) -> None:
    spec = {
        "freestyle_type": "service_freestyle",
        "envs": [{"key": "V", "value": "1"}, {"key": "IMG", "value": "{{.job.b.<SERVICE>.<MODULE>.output.IMAGE}}"}],
        "script": "echo $SERVICE_NAME",
        "services": [{"service_name": "a", "service_module": "m"}],
    }
    given = {"services": [
        {"service_name": "web", "service_module": "nginx", "inputs": [{"key": "V", "value": "2"}]},
        {"service_name": "web", "service_module": "php"},
    ]}  # fmt: skip
    plans = world.expand(one_job("freestyle", spec), {"job": given})["job"]
    assert [(p.name, p.key, p.display_name) for p in plans] == [
        ("web-nginx-job", "job.web.nginx", "job-web-nginx"),
        ("web-php-job", "job.web.php", "job-web-php"),
    ]
    assert plans[0].variables["job.job.web.nginx.V"] == "2"
    assert plans[1].variables["job.job.web.php.IMG"] == "{{.job.b.web.php.output.IMAGE}}"
    assert plans[0].variables["job.job.SERVICES"] == "nginx/web,php/web"
    folder = world.compile("freestyle", plans[0], earlier=[JobFacts("b.web.nginx", "b", outputs={"IMAGE": "r/n:1"})])
    assert (folder.env["SERVICE_NAME"], folder.env["SERVICE_MODULE"], folder.env["IMG"]) == ("web", "nginx", "r/n:1")
    assert [p.name for p in world.expand(one_job("freestyle", spec), {"job": {}})["job"]] == ["a-m-job"]


def test_no_service_is_not_the_usual_ones(world: World) -> None:
    usual = [{"service_name": "a", "service_module": "m"}]
    spec = {"freestyle_type": "service_freestyle", "script": "x", "services": [], "default_services": usual}
    assert [plan.key for plan in world.expand(one_job("freestyle", spec), {"job": {}})["job"]] == ["job.a.m"]
    assert world.expand(one_job("freestyle", spec), {"job": {"services": []}})["job"] == []


def test_a_service_cannot_make_a_credential_of_the_job_a_plain_value(world: World) -> None:
    """What is one is said by the job; the value of a service is sealed with it."""
    spec = {
        "freestyle_type": "service_freestyle",
        "script": "x",
        "envs": [{"key": "T", "value": "", "is_credential": True}],
        "services": [{"service_name": "a", "service_module": "m", "key_vals": [{"key": "T", "value": "s3cr3t"}]}],
    }
    [plan] = world.expand(one_job("freestyle", spec), {"job": {}})["job"]
    assert (plan.plan["envs"][0]["value"], plan.plan["envs"][0]["is_credential"]) == ("sealed:s3cr3t", True)
    assert plan.variables["job.job.a.m.T"] == "sealed:s3cr3t"
    assert FREESTYLE.view(plan.plan, {}, {}, False)["envs"][0]["value"] == "********"


def test_services_of_an_earlier_job(world: World) -> None:
    first = {"freestyle_type": "service_freestyle", "script": "x"}
    second = {
        **first,
        "source": "fromjob",
        "job_name": "a",
        "services": [{"service_name": "gone", "service_module": "m"}],
    }
    definition = workflow(
        {"name": "s", "jobs": [{"name": n, "type": "freestyle", "spec": s} for n, s in (("a", first), ("b", second))]}
    )
    services = {"services": [{"service_name": "x", "service_module": "y"}]}
    plans = world.expand(definition, {"a": services, "b": {}})
    assert [plan.key for plan in plans["b"]] == ["b.x.y"]
    assert world.warnings == ["job b: gone/m is not made by the job it refers to, left out"]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"type": "perforce"}, "perforce is not supported"),
        ({"type": "powershell"}, "script type powershell is not supported on kubernetes infrastructure"),
        ({"type": "junit_report"}, "freestyle job step type junit_report not supported"),
        (
            {"type": "git", "spec": {"repos": [{"codehost_id": 99, "repo_name": "x"}]}},
            "job job: code host 99 not found",
        ),
        (
            {"type": "git", "spec": {"repos": [{"source_from": "param", "param_name": "p"}]}},
            "job job: workflow param p of type repo not found",
        ),
    ],
)
def test_what_cannot_start(world: World, step: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotStartable) as refused:
        world.expand(one_job("freestyle", {"steps": [step]}), {"job": {}})
    assert str(refused.value) == reason


def test_building_images_fails_when_it_is_reached(world: World) -> None:
    [plan] = world.expand(one_job("freestyle", {"steps": [{"type": "docker_build"}]}), {"job": {}})["job"]
    reason = "building images needs a Docker executor, which this server does not have"
    assert world.notes == [f"job job: {reason}"]
    with pytest.raises(Invalid, match=reason):
        world.compile("freestyle", plan)


def test_wrong_input_is_told_with_its_place(world: World) -> None:
    with pytest.raises(Invalid) as refused:
        world.expand(one_job("freestyle", DOCUMENTED), {"job": {"kv": [{"key": 1}], "repo_info": {}}})
    assert str(refused.value) == (
        "failed to update jobspec for job: job, err: "
        "parameters.kv[0].key: must be a string; parameters.repo_info: must be a list"
    )


def test_a_repository_of_a_workflow_variable(world: World) -> None:
    spec = {
        "steps": [
            {"type": "git", "spec": {"repos": [{"source_from": "param", "param_name": "code", "checkout_path": "c"}]}}
        ]
    }
    repo = {"codehost_id": 23, "repo_namespace": "o", "repo_name": "r", "branch": "dev", "oauth_token": "x"}
    definition = workflow(
        {"name": "s", "jobs": [{"name": "job", "type": "freestyle", "spec": spec}]},
        params=[{"name": "code", "type": "repo", "repo": repo}],
    )
    [plan] = world.expand(definition, {"job": {}})["job"]
    [found] = repos_of_plan(plan.plan)
    assert (found["branch"], found["checkout_path"], found["address"]) == ("dev", "c", "https://github.example.com")
    assert "oauth_token" not in found


def test_variables_of_registries(world: World) -> None:
    world.resources += [
        resource(
            "registry", "one", address="https://one.example.com/", namespace="team-a", access_key="ak", secret_key=""
        ),
        resource("registry", "two", address="two.example.com:5000", namespace="2b"),
    ]
    [plan] = world.expand(one_job("freestyle", {"script": "true"}), {"job": {}})["job"]
    assert plan.plan["predefined"] == {
        "TEAM_A_REGISTRY_HOST": "one.example.com",
        "TEAM_A_REGISTRY_AK": "ak",
        "CB_REGISTRY_HOST": "two.example.com:5000",
    }


def test_what_clients_see(world: World) -> None:
    [plan] = world.expand(one_job("freestyle", DOCUMENTED), {"job": {}})["job"]
    found = {"repos": [{"commit_id": "b" * 40, "author_name": "Ann", "commit_message": "m"}]}
    view = FREESTYLE.view(plan.plan, {}, found, False)
    assert view == {
        "repos": [
            {
                "source": "github",
                "repo_owner": "o",
                "repo_namespace": "o",
                "repo_name": "my.app",
                "remote_name": "origin",
                "branch": "main",
                "commit_id": "b" * 40,
                "commit_message": "m",
                "address": "https://github.example.com",
                "author_name": "Ann",
            }
        ],
        "image": "",
        "service_name": "",
        "service_module": "",
        "envs": [
            {"key": "key1", "value": "val1", "type": "string", "is_credential": False},
            {"key": "token", "value": "********", "type": "string", "is_credential": True},
            {"key": "size", "value": "s", "type": "choice", "is_credential": False},
            {"key": "never", "value": "old", "type": "string", "is_credential": False},
        ],
    }
    assert FREESTYLE.view(plan.plan, {"IMAGE": "r/x:1"}, {}, True)["image"] == "r/x:1"
