"""Workflows of a seed, and what their jobs do."""

import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

from cador.executors.scripted import Script
from cador.jobs.steps.sonar import REPORT
from cador.ports.executor import JobFolder
from cador.ports.stores import Resource
from simulation.dice import dice_of

SCAN: Final = "quality"
DATABASE: Final = "shelves"
PEOPLE: Final = ("ann", "ben", "cid")
_NAMES: Final = "abcdefghijklmnop"


def workflow(dice: random.Random, key: str) -> dict[str, Any]:
    names = iter(_NAMES)
    stages = [_stage(dice, number, names) for number in range(1, dice.choice((1, 1, 2, 2, 3)) + 1)]
    document = {
        "name": key,
        "display_name": key,
        "project": "shop",
        "concurrency_limit": limit(dice),
        "stages": stages,
    }
    if dice.random() < 0.12:
        document["task_timeout"] = 1
    return document


def with_scan(dice: random.Random, document: dict[str, Any]) -> dict[str, Any]:
    """*document*, in which perhaps one job is a scan that a server has to ask after."""
    jobs = [job for stage in document["stages"] for job in stage["jobs"] if job["type"] == "freestyle"]
    if jobs and dice.random() < 0.3:
        spec = {"scanning_type": "", "scannings": [{"name": SCAN, "project_name": "shop"}]}
        dice.choice(jobs).update(type="zadig-scanning", spec=spec)
    return document


def has_deeds(seed: int) -> bool:
    """Whether servers carry out jobs themselves in this run."""
    return dice_of(seed, "deeds").random() < 0.3


def with_deeds(dice: random.Random, document: dict[str, Any]) -> dict[str, Any]:
    """*document*, in which some jobs are carried out by a server itself."""
    for stage in document["stages"]:
        for job in stage["jobs"]:
            if job["type"] == "freestyle" and dice.random() < 0.5:
                sql = {"id": DATABASE, "source": "fixed", "sql": "UPDATE shelf SET full = 1", "timeout": 1}
                job.update(dice.choice(({"type": "sql", "spec": sql}, {"type": "declare", "spec": {"timeout": 1}})))
    return document


def database() -> Resource:
    """What statements need."""
    server = {"type": "mysql", "host": "db.example.com", "port": "3306", "username": "ci", "password": "pa55word"}
    return Resource("database", "", DATABASE, server)


def scan() -> list[Resource]:
    """What scans need."""
    body = {
        "scanner_type": "sonarQube", "sonar_system": "sq", "sonar_parameter": "sonar.projectKey=k", "repo_info": [],
        "enable_scanner": True, "enable_quality_gate": True, "addons": [], "artifact_paths": [], "parameters": [],
        "image_name": "", "advanced_settings": {"timeout": 1},
    }  # fmt: skip
    server = {"server_address": "http://sonar.example.com", "token": "t0ken"}
    return [Resource("sonar", "", "sq", server), Resource("scan", "shop", SCAN, body)]


def limit(dice: random.Random) -> int:
    return dice.choice((-1, -1, 1, 1, 2, 3))


def _stage(dice: random.Random, number: int, names: Any) -> dict[str, Any]:
    jobs = [_job(dice, next(names)) for _ in range(dice.choice((1, 1, 2, 2, 3)))]
    if dice.random() < 0.12:
        jobs = [_question(dice, next(names))]
    stage: dict[str, Any] = {"name": f"s{number}", "parallel": dice.random() < 0.6, "jobs": jobs}
    if dice.random() < 0.2:
        stage["approval"] = {"enabled": True, "type": "native", "native_approval": _asked(dice)}
    if dice.random() < 0.12:
        stage["manual_exec"] = {"enabled": True, "modify_params": False, "manual_exec_users": []}
    return stage


def _asked(dice: random.Random) -> dict[str, Any]:
    people = dice.sample(PEOPLE, dice.choice((1, 2, 3)))
    users = [{"type": "user", "user_id": one, "user_name": one.title()} for one in people]
    return {"approve_users": users, "needed_approvers": dice.randint(1, len(people)), "timeout": 1}


def _question(dice: random.Random, name: str) -> dict[str, Any]:
    spec = {"type": "native", "timeout": 1, "native_approval": _asked(dice)}
    job: dict[str, Any] = {"name": name, "type": "approval", "spec": spec}
    if dice.random() < 0.3:
        job["error_policy"] = _policy(dice)
    return job


def _policy(dice: random.Random) -> dict[str, Any]:
    policy = dice.choice(("ignore_error", "retry", "manual_check", "stop"))
    users = [{"type": "user", "user_id": "ann", "user_name": "Ann"}]
    return {"policy": policy, "maximum_retry": dice.randint(1, 2), "approval_users": users}


def _job(dice: random.Random, name: str) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"name": "shell", "type": "shell", "spec": {"script": "exit 0"}}]
    job: dict[str, Any] = {
        "name": name,
        "type": "freestyle",
        "spec": {"properties": {"timeout": 1, "envs": [{"key": "JOB", "value": name}]}, "steps": steps},
    }
    if dice.random() < 0.35:
        job["error_policy"] = _policy(dice)
    if dice.random() < 0.08:
        rule = {"field": "x", "verb": "=", "value": dice.choice("xy")}
        job["execute_policy"] = {"type": dice.choice(("execute", "skip")), "rules": [rule]}
    return job


def scripts(seed: int) -> Callable[[str, JobFolder], Script]:
    """What the execution *key* does follows from the seed and the key alone."""
    failed: dict[str, int] = {}

    def script(key: str, job: JobFolder) -> Script:
        dice = dice_of(seed, f"script {key}")
        after_s = dice.choice((0.0, 0.05, 0.5, 2.0, 6.0)) * (0.5 + dice.random())
        if dice.random() < 0.04:
            after_s = 200.0
        error: str | Exception | None = None
        if dice.random() < 0.04:
            error = "simulated: not here"
        elif dice.random() < 0.06:
            failed[key] = failed.get(key, 0) + 1
            if failed[key] <= dice.choice((1, 2, 99)):
                error = OSError("simulated: no room on this machine")
        count = dice.choice((0, 1, 3))
        return Script(
            after_s=after_s,
            exit_code=dice.choice((0, 0, 0, 0, 1)),
            lines=tuple((after_s * number / max(count, 1), f"line {number} of {key}") for number in range(count)),
            ignores_term=dice.random() < 0.2,
            start_error=error,
            outputs={REPORT: f"ceTaskId={dice.randrange(1000)}\nprojectKey=k"} if job.after is not None else {},
        )

    return script


def document_of(text: str) -> dict[str, Any]:
    """A stored definition as it may be sent again."""
    document: dict[str, Any] = msgspec.json.decode(text)
    return document
