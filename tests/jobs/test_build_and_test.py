"""Job types ``zadig-build`` and ``zadig-test``: from configuration and request to names, folders and verdicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Invalid, NotStartable
from cador.jobs.base import NUMBER, CodeHostAccess, JobTaskPlan
from cador.jobs.values import repos_of_plan
from cador.jobs.zadig_build import BUILD
from cador.jobs.zadig_test import TEST
from cador.ports.executor import Keep
from jobs import snapshots
from jobs.running import World, one_job, resource, run_folder, workflow

REPO = {
    "codehost_name": "gitee",
    "repo_namespace": "kr",
    "repo_name": "zadig",
    "branch": "main",
    "remote_name": "origin",
}
CONFIGURATION = {
    "name": "build-a",
    "build_os": "ubuntu 22.04",
    "repo_info": [REPO, {**REPO, "repo_name": "docs"}],
    "parameters": [
        {"key": "username", "default_value": "admin", "type": "string"},
        {"key": "password", "default_value": "sealed:zadig-pw", "is_credential": True},
    ],
    "build_script": "#!/bin/bash\nset -e\nmkdir -p dist\necho pkg > dist/$PKG_FILE\nVERSION=$(echo $IMAGE)",
    "advanced_settings": {"timeout": 30, "outputs": ["VERSION"]},
    "post_build": {"file_archive": {"file_location": "dist"}, "scripts": "echo done $VERSION"},
}


@pytest.fixture
def world() -> World:
    return World(
        [
            resource("codehost", "gitee", ident=4, type="gitee", address="https://gitee.com"),
            resource("registry", "main", uid="r1", address="https://reg.example.com", namespace="ns", is_default=True,
                     access_key="ak", secret_key="sealed:registry-sk"),
            resource("registry", "other", uid="r2", address="https://Other.example.com/", namespace="test"),
            resource("baseimage", "ubuntu", label="ubuntu 22.04", value="ghcr.io/build-base:22.04"),
            resource("build", "build-a", "shop", **CONFIGURATION),
            resource("service", "a", "shop", containers=[{"name": "myapp-1", "image_name": "my-app"}]),
        ],
        {4: CodeHostAccess(4, "gitee", "https://gitee.com", token="gitee-token")},
    )  # fmt: skip


def entry(module: str = "myapp-1", **more: Any) -> dict[str, Any]:
    return {"service_name": "a", "service_module": module, "build_name": "build-a", "image_name": "", **more}


def one_build(
    world: World, given: Mapping[str, Any] | None = None, *entries: dict[str, Any], **spec: Any
) -> list[JobTaskPlan]:
    document = {"docker_registry_id": "", "service_and_builds": list(entries) or [entry(), entry("myapp-2")], **spec}
    return world.expand(one_job("zadig-build", document, "build-myapps"), {"build-myapps": given or {}})["build-myapps"]


def test_names_images_and_variables(world: World) -> None:
    plans = one_build(world)
    assert [plan.name for plan in plans] == ["a-myapp-1-build-myapps", "a-myapp-2-build-myapps"]
    assert [plan.plan["predefined"]["IMAGE"] for plan in plans] == [
        f"reg.example.com/ns/my-app:20231114221320-{NUMBER}-main",
        f"reg.example.com/ns/myapp-2:20231114221320-{NUMBER}-main",
    ]
    assert plans[0].plan["predefined"]["PKG_FILE"] == f"my-app-20231114221320-{NUMBER}-main.tar.gz"
    assert plans[0].timeout_s == 1800
    variables = plans[0].variables
    prefix = "job.build-myapps.a.myapp-1."
    assert {key.removeprefix(prefix): value for key, value in variables.items() if key.startswith(prefix)} == {
        "username": "admin",
        "password": "sealed:zadig-pw",
        "SERVICE_NAME": "a",
        "SERVICE_MODULE": "myapp-1",
        "BRANCH": "main",
        "GITURL": "https://gitee.com/kr/zadig",
        "REPONAME": "zadig",
        "PRE_MEGRE_BRANCHES": "main",
        "PRE_MERGE_BRANCHES": "main",
    }
    assert variables["job.build-myapps.SERVICES"] == "myapp-1/a,myapp-2/a"
    assert variables["job.build-myapps.BRANCHES"] == "main,main"


def test_compiled(world: World) -> None:
    [plan] = one_build(world, None, entry())
    folder = world.compile("zadig-build", plan, params={"IMAGE": "user's", "P": "1"})
    snapshots.check("build", folder)
    assert set(folder.secrets) == {"zadig-pw", "registry-sk", "gitee-token"}


def test_a_build_from_a_template_is_the_template_with_the_modules_own(world: World) -> None:
    [plain] = one_build(world, None, entry())
    template = {key: value for key, value in CONFIGURATION.items() if key not in ("name", "repo_info")}
    target = {
        "service_name": "a",
        "service_module": "myapp-1",
        "repo_info": CONFIGURATION["repo_info"],
        "inputs": [{"key": "username", "value": "else"}, {"key": "password", "value": ""}, {"key": "no", "value": "x"}],
    }
    own = {"name": "build-a", "template_name": "t", "target_services": [target], "services": []}
    world.resources = [one for one in world.resources if one.kind != "build"]
    world.resources.append(resource("build", "build-a", "shop", **own))
    with pytest.raises(NotStartable, match="find build: build-a error: its template t is not there"):
        one_build(world, None, entry())
    world.resources.append(resource("buildtemplate", "t", **template))
    [made] = one_build(world, None, entry())
    values = {one["key"]: one["value"] for one in made.plan["envs"]}
    assert values == {"username": "else", "password": "sealed:zadig-pw"}
    assert {**made.plan, "envs": []} == {**plain.plan, "envs": []}
    assert made.timeout_s == plain.timeout_s == 1800


@pytest.mark.real
def test_a_run(world: World, tmp_path: Path) -> None:
    [plan] = one_build(world, None, entry(repos=[]))
    plan.plan["steps"] = [step for step in plan.plan["steps"] if step["type"] != "git"]
    ended = run_folder(world.compile("zadig-build", plan), tmp_path)
    assert ended.exit_code == 0, ended.log
    image, package = plan.plan["predefined"]["IMAGE"], plan.plan["predefined"]["PKG_FILE"]
    assert ended.outputs["IMAGE"] == ended.outputs["VERSION"] == image
    assert f"done {image}" in ended.log
    assert ended.files[f"dist/{package}"] == "pkg\n"
    conclusion = BUILD.conclude(plan.plan, ended.outputs, True, Artifacts({f"archive/{package}": b"pkg"}))
    assert conclusion.outputs == {"IMAGE": image, "PKG_FILE": package, "imageTag": image.rpartition(":")[2]}
    assert conclusion.result == {"package": f"archive/{package}"}
    view = BUILD.view(plan.plan, ended.outputs, {}, True)
    assert (view["image"], view["package"]) == (image, package)


def test_outputs_of_the_script_win(world: World) -> None:
    [plan] = one_build(world, None, entry())
    nothing = Artifacts({})
    changed = BUILD.conclude(plan.plan, {"IMAGE": "r:5000/x:9"}, True, nothing)
    assert (changed.outputs["IMAGE"], changed.outputs["imageTag"]) == ("r:5000/x:9", "9")
    assert BUILD.conclude(plan.plan, {}, False, nothing).outputs == {}
    assert BUILD.conclude(plan.plan, {}, True, nothing).outputs["IMAGE"] == plan.plan["predefined"]["IMAGE"]


def test_a_start_chooses_and_overrides(world: World) -> None:
    given = {
        "registry": "other.example.com/test/",
        "service_list": [
            {
                "service_name": "a",
                "service_module": "myapp-2",
                "inputs": [{"key": k, "value": v} for k, v in (("username", "bob"), ("password", "pw2"), ("x", "y"))],
                "repo_info": [
                    {"codehost_name": "gitee", "repo_namespace": "kr", "repo_name": "zadig", "branch": "dev", "pr": 7},
                    {"codehost_name": "gitee", "repo_namespace": "kr", "repo_name": "unknown", "branch": "dev"},
                ],
            },
            {"service_name": "a", "service_module": "nope"},
        ],
    }  # fmt: skip
    [plan] = one_build(world, given)
    assert plan.key == "build-myapps.a.myapp-2"
    values = {item["key"]: item["value"] for item in plan.plan["envs"]}
    assert values == {"username": "bob", "password": "sealed:pw2"}
    zadig, docs = repos_of_plan(plan.plan)
    assert (zadig["branch"], zadig["prs"], docs["branch"]) == ("dev", [7], "main")
    image = plan.plan["predefined"]["IMAGE"]
    assert image == f"Other.example.com/test/myapp-2:20231114221320-{NUMBER}-dev-pr-7"
    assert world.warnings == [
        "job build-myapps: there is no variable x",
        "job build-myapps: repository kr/unknown is not configured",
        "job build-myapps: a/nope is not in the configured service build list",
    ]


def test_enable_commit_takes_effect(world: World) -> None:
    repo = {**REPO, "enable_commit": True, "commit_id": "c" * 40}
    given = {"service_list": [{"service_name": "a", "service_module": "myapp-1", "repo_info": [repo]}]}
    [plan] = one_build(world, given)
    folder = world.compile("zadig-build", plan)
    git = next(step for step in folder.steps if step.type == "git")
    assert f"kind=commit\nvalue={'c' * 40}" in git.text


def test_values_of_the_workflow_hide_those_of_the_build(world: World) -> None:
    repo = {"codehost_id": 4, "repo_owner": "kr", "repo_name": "zadig", "branch": "release", "is_primary": True}
    stored = {"key_vals": [{"key": "username", "value": "wf"}, {"key": "surplus", "value": "1"}], "repos": [repo]}
    [plan] = one_build(world, None, entry(**stored))
    assert [item["value"] for item in plan.plan["envs"]] == ["wf", "sealed:zadig-pw"]
    assert plan.plan["predefined"]["IMAGE"].endswith("-release")


def test_nothing_chosen_and_newer_lists(world: World) -> None:
    assert one_build(world, {"service_list": []}) == []
    options = {"service_and_builds_options": [entry(), entry("myapp-2"), entry("myapp-3")]}
    assert [p.plan["service_module"] for p in one_build(world, None, entry("myapp-2"), **options)] == ["myapp-2"]
    given = {"service_list": [{"service_name": "a", "service_module": "myapp-3"}]}
    assert [p.plan["service_module"] for p in one_build(world, given, entry("myapp-2"), **options)] == ["myapp-3"]


def test_a_retry_gets_new_names(world: World) -> None:
    [plan] = one_build(world, None, entry())
    stored = {**plan.plan, "naming": {**plan.plan["naming"], "number": "26"}}
    renewed = BUILD.renew(stored, "20250101000000")
    assert renewed["predefined"]["IMAGE"] == "reg.example.com/ns/my-app:20250101000000-26-main"
    assert renewed["predefined"]["SERVICE"] == "a"


def test_rules_of_the_project(world: World) -> None:
    rules = {"custom_image_rule": {"branch_rule": "{{.SERVICE}}-{{.IMAGE_NAME}}:{{.REPO_BRANCH}}-{{.TASK_ID}}"},
             "custom_tar_rule": {"branch_rule": "{{.SERVICE}}:{{.TIMESTAMP}}"}}  # fmt: skip
    world.resources.append(resource("project", "shop", "shop", **rules))
    [plan] = one_build(world, None, entry())
    assert plan.plan["predefined"]["IMAGE"] == f"reg.example.com/ns/a-my-app:main-{NUMBER}"
    assert plan.plan["predefined"]["PKG_FILE"] == "a-20231114221320.tar.gz"


@pytest.mark.parametrize(
    ("branch", "tag"),
    [("fix/#1 it's", f"fix--1-it-s-{NUMBER}"), ("b" * 122, "b" * 122 + "-"), ("b" * 119, "b" * 119 + f"-{NUMBER}")],
)
def test_rules_make_tags_that_a_registry_takes(world: World, branch: str, tag: str) -> None:
    rule = {"custom_image_rule": {"branch_rule": "{{.IMAGE_NAME}}:{{.REPO_BRANCH}}-{{.TASK_ID}}"}}
    world.resources.append(resource("project", "shop", "shop", **rule))
    repo = {"codehost_id": 4, "repo_owner": "kr", "repo_name": "zadig", "branch": branch}
    [plan] = one_build(world, None, entry(repos=[repo]))
    assert plan.plan["predefined"]["IMAGE"] == f"reg.example.com/ns/my-app:{tag}"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"build_name": "nope"}, "find build: nope error: not found in project shop"),
        ({"build_name": "needy"}, "variable must is required"),
    ],
)
def test_what_cannot_start(world: World, change: dict[str, Any], reason: str) -> None:
    world.resources += [
        resource("build", "needy", "shop", parameters=[{"key": "must", "required": True}]),
    ]
    with pytest.raises(NotStartable, match=reason):
        one_build(world, None, entry(**change))


def test_building_images_fails_when_it_is_reached(world: World) -> None:
    world.resources.append(resource("build", "docker", "shop", docker_build_step={"dockerfile_source": "local"}))
    [plan] = one_build(world, None, entry(build_name="docker"))
    reason = "building images needs a Docker executor, which this server does not have"
    assert [note.endswith(reason) for note in world.notes] == [True]
    with pytest.raises(Invalid, match=reason):
        world.compile("zadig-build", plan)


def test_registries(world: World) -> None:
    with pytest.raises(
        Invalid, match=r"^failed to update jobspec for job: build-myapps, err: didn't find the specified"
    ):
        one_build(world, {"registry": "https://nowhere.example.com/x"})
    with pytest.raises(NotStartable, match=r"^failed to find docker registry: zzz$"):
        one_build(world, None, docker_registry_id="zzz")
    world.resources = [r for r in world.resources if r.kind != "registry"]
    [plan] = one_build(world, None, entry())
    assert plan.plan["predefined"]["IMAGE"] == f"my-app:20231114221320-{NUMBER}-main"


class Artifacts:
    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def names(self, prefix: str) -> list[str]:
        return [name for name in self._files if name.startswith(f"{prefix}/")]

    def open(self, name: str, most: int) -> bytes:
        return self._files[name][:most]


# -- tests

TESTING = {
    "script": "mkdir -p report html out",
    "report_path": "report/",
    "html_report_path": "html/index.html",
    "artifact_paths": ["out/$TESTING_NAME", ""],
    "pass_rate": 50,
    "repo_info": [REPO],
    "parameters": [{"key": "username", "default_value": ""}],
}


def one_test(world: World, spec: dict[str, Any], given: Mapping[str, Any] | None = None) -> list[JobTaskPlan]:
    world.resources += [
        resource("test", "unit", "shop", **TESTING),
        resource("test", "smoke", "shop", script="true"),
        resource("test", "else", "voting-app", script="true"),
    ]
    return world.expand(one_job("zadig-test", spec, "check"), {"check": given or {}})["check"]


def test_a_list_of_tests(world: World) -> None:
    spec = {"test_modules": [{"name": "unit"}, {"name": "smoke"}, {"name": "else", "project_name": "voting-app"}]}
    given = {
        "testing_list": [
            {"testing_name": "unit", "inputs": [{"key": "username", "value": "me"}]},
            {"testing_name": "no"},
        ]
    }
    plans = one_test(world, spec, given)
    assert [(p.name, p.key) for p in plans] == [
        ("unit-check", "check.unit"),
        ("smoke-check", "check.smoke"),
        ("else-check", "check.else"),
    ]
    assert plans[0].variables["job.check.unit.username"] == "me"
    assert world.warnings == ["job check: test no is not configured"]
    folder = world.compile("zadig-test", plans[0])
    snapshots.check("test", folder)
    assert folder.keep == (
        Keep("html/index.html", "html-report", on_failure=True),
        Keep("out/unit", "test-result", on_failure=True),
        Keep("report", "junit", on_failure=True),
    )


def test_tests_of_services(world: World) -> None:
    pairs = [("a", "x", "unit"), ("a", "x", "smoke"), ("b", "y", "unit")]
    tests = [{"service_name": s, "service_module": m, "name": n, "project_name": "shop"} for s, m, n in pairs]
    spec = {"test_type": "service_test", "service_and_tests": tests}
    plans = one_test(world, spec, {"service_list": [{"service_name": "a", "service_module": "x"}]})
    assert [(p.name, p.plan["test_name"]) for p in plans] == [("a-x-check", "unit"), ("a-x-check", "smoke")]
    folder = world.compile("zadig-test", plans[0])
    assert {k: folder.env[k] for k in ("TESTING_TYPE", "SERVICE", "SERVICE_MODULE")} == {
        "TESTING_TYPE": "service_test",
        "SERVICE": "a",
        "SERVICE_MODULE": "x",
    }


def test_tests_of_what_was_built(world: World) -> None:
    world.resources.append(resource("test", "unit", "shop", **TESTING))
    tests = [{"service_name": "a", "service_module": m, "name": "unit"} for m in ("myapp-2", "myapp-9")]
    spec = {
        "test_type": "service_test",
        "source": "fromjob",
        "job_name": "b",
        "ref_repos": True,
        "service_and_tests": tests,
    }
    build = {"service_and_builds": [entry(), entry("myapp-2")]}
    definition = workflow(
        {"name": "s", "jobs": [{"name": "b", "type": "zadig-build", "spec": build}]},
        {"name": "t", "jobs": [{"name": "t", "type": "zadig-test", "spec": spec}]},
    )
    asked = {"service_list": [{"service_name": "a", "service_module": "myapp-2",
                               "repo_info": [{**REPO, "branch": "dev"}]}]}  # fmt: skip
    [plan] = world.expand(definition, {"b": asked, "t": {}})["t"]
    assert plan.key == "t.a.myapp-2"
    assert repos_of_plan(plan.plan)[0]["branch"] == "dev"
    skipped = world.expand(definition, {"t": {}})["t"]
    assert [plan.key for plan in skipped] == ["t.a.myapp-2"]


BELOW = "test pass rate 33% is below required 50% (1/3 cases passed)"
MISSING = "failed to merge test result: test result files not found in path report/"
GOOD = b'<testsuite><testcase name="a"/><testcase name="b"/></testsuite>'
HALF = b'<testsuite><testcase name="a"/><testcase name="b"><failure message="no"/></testcase></testsuite>'
BAD = b'<testsuite><testcase name="b"><failure/></testcase></testsuite>'


@pytest.mark.parametrize(
    ("files", "passed", "error"),
    [
        ({"junit/a.xml": GOOD}, True, ""),
        ({"junit/a.xml": HALF}, True, ""),
        ({"junit/a.xml": HALF, "junit/b.xml": BAD}, True, BELOW),
        ({"junit/b.xml": BAD}, False, ""),
        ({}, True, MISSING),
        ({"junit/sub/a.xml": GOOD, "junit/a.txt": GOOD}, True, MISSING),
        ({}, False, ""),
        ({"junit/a.xml": b"<testsuite/>"}, True, "no test cases found"),
        ({"junit/a.xml": b"junk"}, True, "no test cases found"),
    ],
)  # fmt: skip
def test_verdicts(world: World, files: dict[str, bytes], passed: bool, error: str) -> None:
    [plan] = one_test(world, {"test_modules": [{"name": "unit"}]})
    collected = Artifacts({**files, "html-report/index.html": b"<html>"})
    conclusion = TEST.conclude(plan.plan, {}, passed, collected)
    assert conclusion.error == error
    view = TEST.view(plan.plan, {}, conclusion.result, True)
    read = any(name.count("/") == 1 and name.endswith(".xml") for name in files)
    assert (view["junit_report"], view["archive"], view["html_report"]) == (read, False, True)
    assert ("junit/merged.xml" in conclusion.files) is read
    early = TEST.view(plan.plan, {}, conclusion.result, False)
    assert (early["junit_report"], early["archive"], early["html_report"]) == (False, False, False)


def test_without_reports_the_script_decides(world: World) -> None:
    [plan] = one_test(world, {"test_modules": [{"name": "smoke"}]})
    assert TEST.conclude(plan.plan, {}, True, Artifacts({})).error == ""
    with pytest.raises(NotStartable, match="find testing: gone error"):
        one_test(world, {"test_modules": [{"name": "gone"}]})


def test_a_part_of_the_reports_judges_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit could hold the tests that failed."""
    monkeypatch.setattr("cador.jobs.zadig_test._LARGEST_REPORT", len(GOOD))
    [plan] = one_test(world, {"test_modules": [{"name": "unit"}]})
    fits = TEST.conclude(plan.plan, {}, True, Artifacts({"junit/a.xml": GOOD}))
    assert (fits.error, fits.result["junit"]["tests"]) == ("", 2)
    told = "the test reports in report/ are more than 0 MiB together"
    for passed in (True, False):
        both = TEST.conclude(plan.plan, {}, passed, Artifacts({"junit/a.xml": GOOD, "junit/b.xml": BAD}))
        assert (both.error or both.lines[0], "junit" in both.result) == (told, False)
