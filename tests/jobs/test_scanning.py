"""Job type ``zadig-scanning``: configurations, run-time input, expansion, and real runs."""

from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Invalid, NotStartable
from cador.domain.workflow import Workflow
from cador.jobs.base import JobTaskPlan
from cador.jobs.steps.sonar import properties
from cador.operations.models.scans import ScanBody
from cador.ports.executor import Keep
from jobs.running import TYPES, World, one_job, resource, run_folder, workflow

SCANNING = TYPES["zadig-scanning"]
HOST = resource("codehost", "github", ident=23, type="github", address="https://github.example.com")
REPO = {"codehost_name": "github", "repo_namespace": "o", "repo_name": "r", "branch": "main"}
SECOND = {**REPO, "repo_name": "second", "branch": "dev"}
SONAR = resource("sonar", "sq", server_address="https://sonar.example.com", token="sealed:squ_t0ken")


def scan(name: str, project: str = "shop", **fields: Any) -> Any:
    base = {
        "name": name, "project_key": project, "scanner_type": "other", "image_name": "ubuntu 22.04",
        "parameters": [{"key": "LEVEL", "default_value": "low"}], "script": "echo scanned",
    }  # fmt: skip
    return resource("scan", name, project, **ScanBody(**{**base, **fields}).document())


def sonar_scan(name: str, **fields: Any) -> Any:
    base = {"scanner_type": "sonarQube", "sonar_system": "sq", "sonar_parameter": "sonar.projectKey=shop:$LEVEL"}
    return scan(name, **{**base, **fields})


@pytest.fixture
def world() -> World:
    settings = {"cluster_name": "local", "timeout": 7, "outputs": ["FOUND"]}
    lint = scan("lint", repo_info=[REPO, SECOND], advanced_settings=settings)
    return World([HOST, SONAR, lint, scan("audit"), scan("elsewhere", "other")])


def listed(*names: str, **fields: Any) -> Workflow:
    entries = [{"name": name, "project_name": "shop", **fields} for name in names]
    return one_job("zadig-scanning", {"scanning_type": "", "scannings": entries})


def by_service(*entries: tuple[str, str, str], **spec: Any) -> Workflow:
    chosen = [{"service_name": s, "service_module": m, "name": n, "project_name": "shop"} for s, m, n in entries]
    return one_job("zadig-scanning", {"scanning_type": "service_scanning", "service_and_scannings": chosen, **spec})


def expand(world: World, definition: Workflow, given: dict[str, Any] | None = None) -> list[JobTaskPlan]:
    return world.expand(definition, {"job": given or {}})["job"]


def test_a_list_of_scans_overridden_at_the_start(world: World) -> None:
    stored = {"codehost_id": 23, "repo_namespace": "o", "repo_name": "r", "branch": "stored"}
    given = {
        "scanning_list": [
            {
                "scanning_name": "lint",
                "inputs": [{"key": "LEVEL", "value": "high"}, {"key": "NO", "value": "1"}],
                "repo_info": [{**REPO, "branch": "feature"}, {**REPO, "repo_name": "unknown"}],
            },
            {"scanning_name": "gone"},
        ]
    }
    lint, audit = expand(world, listed("lint", "audit", repos=[stored]), given)
    assert [(plan.name, plan.key, plan.display_name) for plan in (lint, audit)] == [
        ("lint-job", "job.lint", "job-lint"),
        ("audit-job", "job.audit", "job-audit"),
    ]
    assert world.warnings == [
        "job job: there is no variable NO",
        "job job: repository o/unknown is not configured",
        "job job: scan gone is not configured",
    ]
    view = SCANNING.view(lint.plan, {}, {}, False)
    assert [repo["branch"] for repo in view["repos"]] == ["feature", "dev"]
    assert view["envs"] == [{"key": "LEVEL", "value": "high", "type": "string", "is_credential": False}]
    assert {key: view[key] for key in ("scanning_type", "scanning_name", "service_name", "service_module")} == {
        "scanning_type": "", "scanning_name": "lint", "service_name": "", "service_module": "",
    }  # fmt: skip
    assert (view["sonar_metrics"], view["link_url"], view["is_has_artifact"]) == (None, "", False)
    assert (lint.timeout_s, audit.timeout_s) == (420, 3600)
    assert lint.plan["outputs"] == ["FOUND"]
    assert lint.variables["job.job.lint.LEVEL"] == "high"
    assert [repo["branch"] for repo in SCANNING.view(audit.plan, {}, {}, True)["repos"]] == []


def test_what_the_workflow_stores_is_used_without_input(world: World) -> None:
    stored = {"codehost_id": 23, "repo_namespace": "o", "repo_name": "r", "branch": "stored"}
    [plan] = expand(world, listed("lint", repos=[stored], key_vals=[{"key": "LEVEL", "value": "wf"}]))
    view = SCANNING.view(plan.plan, {}, {}, False)
    assert ([repo["branch"] for repo in view["repos"]], view["envs"][0]["value"]) == (["stored", "dev"], "wf")


def test_scans_of_services(world: World) -> None:
    definition = by_service(("a", "x", "lint"), ("a", "y", "lint"), ("a", "y", "audit"))
    given = {"service_list": [{"service_name": "a", "service_module": "y", "inputs": [{"key": "LEVEL", "value": "9"}]},
                              {"service_name": "b", "service_module": "z"}]}  # fmt: skip
    plans = expand(world, definition, given)
    assert [(plan.name, plan.key) for plan in plans] == [("a-y-job", "job.a.y"), ("a-y-job", "job.a.y")]
    assert world.warnings == ["job job: b/z has no scan configured"]
    assert plans[0].plan["predefined"] == {
        "SCANNING_TYPE": "service_scanning", "SCANNING_NAME": "lint", "BRANCH": "main",
        "SERVICE_NAME": "a", "SERVICE_MODULE": "y",
    }  # fmt: skip
    assert [plan.plan["envs"][0]["value"] for plan in plans] == ["9", "9"]
    assert plans[0].variables["job.job.SERVICES"] == "y/a,y/a"
    assert len(expand(world, by_service(("a", "x", "lint"), ("a", "y", "lint"), target_services=[
        {"service_name": "a", "service_module": "x"}]))) == 1  # fmt: skip
    assert expand(world, definition, {"service_list": []}) == []


def test_services_of_another_job(world: World) -> None:
    world.resources.append(resource("build", "b", "shop"))
    first = {"scanning_type": "service_scanning", "service_and_scannings": [
        {"service_name": "a", "service_module": "x", "name": "lint"},
        {"service_name": "c", "service_module": "d", "name": "lint"}]}  # fmt: skip
    second = {
        "scanning_type": "service_scanning", "source": "fromjob", "job_name": "one", "ref_repos": True,
        "service_and_scannings": [{"service_name": "a", "service_module": "x", "name": "lint"}],
    }  # fmt: skip
    jobs = [{"name": n, "type": "zadig-scanning", "spec": s} for n, s in (("one", first), ("two", second))]
    given = {"service_name": "a", "service_module": "x", "repo_info": [{**REPO, "branch": "f"}]}
    other = {"service_name": "c", "service_module": "d"}
    plans = world.expand(workflow({"name": "s", "jobs": jobs}), {"one": {"service_list": [given, other]}, "two": {}})
    [plan] = plans["two"]
    assert [repo["branch"] for repo in SCANNING.view(plan.plan, {}, {}, False)["repos"]] == ["f", "dev"]
    assert world.warnings == ["job two: c/d has no scan configured, left out"]


def test_unknown_configurations(world: World) -> None:
    for name in ("nothing", "elsewhere"):
        with pytest.raises(NotStartable, match=f"^find scanning: {name} error: not found in project shop$"):
            expand(world, listed(name))
    world.resources.append(sonar_scan("quality", sonar_system="none"))
    with pytest.raises(NotStartable, match=r"^failed to find sonar system with name: none$"):
        expand(world, listed("quality"))
    with pytest.raises(Invalid, match=r"scanning_list\[0\]\.scanning_name: is required"):
        expand(world, listed("lint"), {"scanning_list": [{}]})


def test_a_real_scan_and_what_it_leaves(world: World, tmp_path: Path) -> None:
    script = (
        "mkdir -p out/deep; echo one >out/deep/report.txt; echo two >'odd  name'; ln -s /etc/passwd out/link\n"
        'FOUND=$LEVEL; echo "scans $SCANNING_NAME [$SCANNING_TYPE]"; exit 3'
    )
    settings = {"cluster_name": "local", "outputs": ["FOUND"]}
    paths = ["out", "./odd  name", "missing", "$LEVEL", "out"]
    world.resources.append(scan("real", script=script, artifact_paths=paths, advanced_settings=settings))
    [plan] = expand(world, listed("real"))
    folder = world.compile("zadig-scanning", plan)
    assert folder.keep == (Keep(".cador-kept/scanning-result", "scanning-result", on_failure=True),)
    ended = run_folder(folder, tmp_path)
    assert ended.exit_code == 3
    assert "scans real []" in ended.log
    assert "missing: not found, left out" in ended.log
    assert "low: not found, left out" in ended.log
    assert ended.outputs["FOUND"] == "low"
    archives = [path for path in ended.files if path.endswith("artifactResultOut.tar.gz")]
    assert archives == [".cador-kept/scanning-result/artifactResultOut.tar.gz"]


def test_the_archive_holds_what_was_asked_for_and_not_itself(world: World, tmp_path: Path) -> None:
    script = "echo a >a.txt; mkdir sub; echo b >sub/b.txt"
    check = "tar -tzf .cador-kept/scanning-result/artifactResultOut.tar.gz"
    world.resources.append(scan("all", script=script, artifact_paths=["$WORKSPACE"]))
    [plan] = expand(world, listed("all"))
    plan.plan["steps"].append({"name": "look", "type": "shell", "spec": {"script": check}})
    ended = run_folder(world.compile("zadig-scanning", plan), tmp_path)
    assert ended.exit_code == 0, ended.log
    assert "./a.txt\n" in ended.log
    assert "./sub/b.txt\n" in ended.log
    assert ".cador-kept" not in ended.log.replace(check, "")
    for path in ("../up", "/etc", "-x/../.."):
        plan.plan["steps"][-2]["spec"]["result_dirs"] = [path]
        with pytest.raises(Invalid):
            world.compile("zadig-scanning", plan)


def test_what_an_ended_scan_shows(world: World) -> None:
    class Kept:
        def names(self, prefix: str) -> list[str]:
            return [f"{prefix}/artifactResultOut.tar.gz"]

        def open(self, name: str, most: int) -> bytes:
            raise AssertionError(name)

    [plan] = expand(world, listed("lint"))
    concluded = SCANNING.conclude(plan.plan, {}, False, Kept())
    assert concluded.error == ""
    assert SCANNING.view(plan.plan, {}, concluded.result, True)["is_has_artifact"] is True
    assert SCANNING.view(plan.plan, {}, concluded.result, False)["is_has_artifact"] is False


def scanner(folder: Path, text: str) -> dict[str, str]:
    """A program ``sonar-scanner`` and the environment that finds it."""
    path = folder / "bin" / "sonar-scanner"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return {"PATH": str(path.parent)}


REPORT = "mkdir .scannerwork; printf 'projectKey=shop:low\\nceTaskId=AX-1\\n' >.scannerwork/report-task.txt"


def test_the_scanner_is_run_with_its_properties(world: World, tmp_path: Path) -> None:
    parameter = "sonar.projectKey=shop:$LEVEL\r\nsonar.branch.name=$branch\nsonar.sources=."
    world.resources.append(sonar_scan("quality", sonar_parameter=parameter, prelaunch_script="mkdir -p .; echo before"))
    [plan] = expand(world, listed("quality"))
    folder = world.compile("zadig-scanning", plan, params=scanner(tmp_path, f"cat sonar-project.properties; {REPORT}"))
    assert "squ_t0ken" in folder.secrets
    assert folder.env["SONAR_TOKEN"] == "squ_t0ken"
    assert folder.env["SONAR_URL"] == "https://sonar.example.com"
    assert folder.env["SONAR_LINK"] == "https://sonar.example.com/dashboard?id=shop%3Alow"
    assert not any("squ_t0ken" in step.text for step in folder.steps)
    ended = run_folder(folder, tmp_path / "run")
    assert ended.exit_code == 0, ended.log
    wanted = "sonar.login=squ_t0ken\nsonar.host.url=https://sonar.example.com\nsonar.projectKey=shop:low\n"
    assert wanted + "sonar.branch.name=\nsonar.sources=.\n" in ended.log.replace("\r", "")
    assert "sonar-project.properties" not in ended.files
    assert "ceTaskId=AX-1" in ended.outputs["cador.sonar"]
    assert SCANNING.view(plan.plan, {}, {}, False)["link_url"] == folder.env["SONAR_LINK"]


def test_the_branch_is_that_of_the_first_repository(world: World) -> None:
    parameter = "sonar.projectKey=k\nsonar.branch.name=$branch"
    world.resources.append(sonar_scan("quality", sonar_parameter=parameter, repo_info=[REPO]))
    [plan] = expand(world, listed("quality"))
    assert SCANNING.view(plan.plan, {}, {}, False)["link_url"] == (
        "https://sonar.example.com/dashboard?id=k&branch=main"
    )
    assert plan.plan["sonar"]["check_dir"] == "r"


def test_without_a_scanner_the_job_fails_with_that_reason(world: World, tmp_path: Path) -> None:
    world.resources.append(sonar_scan("quality"))
    [plan] = expand(world, listed("quality"))
    ended = run_folder(world.compile("zadig-scanning", plan), tmp_path)
    assert ended.exit_code == 127
    concluded = SCANNING.conclude(plan.plan, ended.outputs, False, NothingKept())
    assert concluded.error == "sonar-scanner is not installed on the machine that runs the scan"


def test_a_script_that_runs_the_scanner_itself(world: World, tmp_path: Path) -> None:
    fields = {"enable_scanner": False, "sonar_parameter": "", "prelaunch_script": f'echo "to $SONAR_URL"; {REPORT}'}
    world.resources.append(sonar_scan("own", **fields))
    [plan] = expand(world, listed("own"))
    ended = run_folder(world.compile("zadig-scanning", plan), tmp_path)
    assert ended.exit_code == 0, ended.log
    assert "to https://sonar.example.com" in ended.log
    assert "ceTaskId=AX-1" in ended.outputs["cador.sonar"]
    world.resources.append(sonar_scan("none", **{**fields, "prelaunch_script": "true"}))
    [plan] = expand(world, listed("none"))
    ended = run_folder(world.compile("zadig-scanning", plan), tmp_path / "none")
    assert (ended.exit_code, "cador.sonar" in ended.outputs) == (0, False)
    assert "./.scannerwork/report-task.txt was not found" in ended.log


class NothingKept:
    def names(self, prefix: str) -> list[str]:
        return []

    def open(self, name: str, most: int) -> bytes:
        raise AssertionError(name)


def test_properties_are_read_in_one_pass() -> None:
    """A line of blanks with something behind them was gone over once for each of them."""
    blanks = " " * 300_000
    assert properties(f" a.b = x{blanks}y {blanks}\r\nc:\n#d=e\nf\ng = h = i\t") == {
        "a.b": f"x{blanks}y",
        "c": "",
        "g": "h = i",
    }
