"""A workflow of the short form. A job has short keys of its type, or ``spec`` with the API's own JSON, verbatim."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from cador.operations.declarative import shapes
from cador.operations.declarative.documents import UNSUPPORTED
from cador.operations.declarative.notifications import NOTIFICATIONS, notification
from cador.operations.declarative.pieces import (
    REPOSITORIES,
    REPOSITORY,
    RESOURCES,
    TOOLS,
    VARIABLES,
    environment,
    module,
    repositories,
    repository,
    resources,
    tools,
)
from cador.operations.declarative.reader import Reader, scalar_text
from cador.operations.declarative.shapes import Shape, either, keyed, many, schema_of, within

APPROVAL_MIN: Final = 60
JOB_MIN: Final = 60
_APPROVAL: Final[Shape] = {
    "type": shapes.choice("native", "approval"),
    "users": shapes.texts("Accounts."),
    "groups": shapes.texts("Names of user groups."),
    "needed": shapes.number("How many of them must agree."),
    "timeout": shapes.duration(),
    "description": shapes.text(),
}
_MANUAL: Final[Shape] = {
    "users": shapes.texts(),
    "groups": shapes.texts(),
    "inputs": shapes.flag("They may change the inputs of its jobs."),
}
_ENVELOPE: Final[Shape] = {
    "name": shapes.text(needed=True),
    "type": shapes.text(needed=True),
    "run_policy": shapes.text(),
    "error_policy": shapes.anything(),
    "execute_policy": shapes.anything(),
}
_PARAM: Final[Shape] = {
    "type": shapes.text("string, text, choice, multi-select, repo ..."),
    "description": shapes.text(),
    "required": shapes.flag(),
    "default": shapes.secret(),
    "value": shapes.secret(),
    "options": shapes.texts(),
    "secret": shapes.flag(),
}
_REPO_PARAM: Final[Shape] = {"type": shapes.choice("repo"), "description": shapes.text(), "required": shapes.flag()}


def workflow_spec(name: str, entry: Reader) -> dict[str, Any]:
    """The body of "Create a Workflow"; names stand where ids will."""
    if "triggers" in entry:
        raise entry.misfit(f"triggers {UNSUPPORTED}", "triggers")
    entry.only(*WORKFLOW)
    spec: dict[str, Any] = {
        "display_name": entry.text("name", name),
        "concurrency_limit": entry.number("concurrency", -1),
        "stages": [_stage(stage) for stage in entry.items("stages")],
    }
    if "description" in entry:
        spec["description"] = entry.text("description")
    if "params" in entry:
        spec["params"] = [_param(key, param) for key, param in entry.entries("params")]
    if "notify" in entry:
        spec["notify_ctls"] = [notification(one) for one in entry.items("notify")]
    for key, field in (
        ("disabled", "disabled"),
        ("remark_required", "remark_required"),
        ("approval_ticket", "enable_approval_ticket"),
    ):
        if key in entry:
            spec[field] = entry.flag(key)
    if "task_timeout" in entry:
        spec["task_timeout"] = entry.minutes("task_timeout", 0)
    if "type" in entry:
        spec["workflow_type"] = entry.text("type")
    return spec


def _param(name: str, entry: Reader) -> dict[str, Any]:
    if entry.text("type") == "repo":
        keys = tuple(REPOSITORY)
        entry.only(*_REPO_PARAM, *keys)
        inner = entry.node
        repo = repository(
            Reader(
                type(inner)({k: entry.child(k) for k in keys if k in entry}, inner.mark, keys=inner.keys), entry.place
            )
        )
        param: dict[str, Any] = {"name": name, "type": "repo", "repo": repo}
    else:
        entry.only(*_PARAM)
        options = entry.texts("options")
        default = entry.text("default")
        param = {
            "name": name,
            "type": entry.text("type", "choice" if options else "string"),
            "value": entry.text("value", default),
            "default": default,
            "is_credential": entry.flag("secret"),
        }
        if options:
            param["choice_option"] = options
    if "description" in entry:
        param["description"] = entry.text("description")
    if "required" in entry:
        param["required"] = entry.flag("required")
    return param


def _stage(entry: Reader) -> dict[str, Any]:
    entry.only(*_STAGE)
    stage: dict[str, Any] = {"name": entry.need("name"), "parallel": entry.flag("parallel")}
    if "approval" in entry:
        inner = Reader(entry.child("approval"), f"{entry.place}.approval").only(*_APPROVAL)
        stage["approval"] = {"enabled": True, **_approval(inner)}
    if "manual" in entry:
        inner = Reader(entry.child("manual"), f"{entry.place}.manual").only(*_MANUAL)
        stage["manual_exec"] = {
            "enabled": True, "modify_params": inner.flag("inputs"), "manual_exec_users": _people(inner),
        }  # fmt: skip
    stage["jobs"] = [_job(job) for job in entry.items("jobs")]
    return stage


def _approval(entry: Reader) -> dict[str, Any]:
    kind = entry.text("type", "native")
    if kind not in ("native", "approval"):
        raise entry.misfit(f"approval of type {kind} {UNSUPPORTED}", "type")
    people = _people(entry)
    if not people:
        raise entry.misfit("'users' or 'groups' is missing")
    return {
        "type": "native",
        "description": entry.text("description"),
        "native_approval": {
            "approve_users": people,
            "timeout": entry.minutes("timeout", APPROVAL_MIN),
            "needed_approvers": entry.number("needed", 1),
        },
    }


def _people(entry: Reader) -> list[dict[str, str]]:
    users = [{"type": "user", "user_name": account} for account in entry.texts("users")]
    return users + [{"type": "group", "group_name": name} for name in entry.texts("groups")]


def _job(entry: Reader) -> dict[str, Any]:
    job: dict[str, Any] = {"name": entry.need("name"), "type": entry.need("type")}
    if "run_policy" in entry:
        job["run_policy"] = entry.text("run_policy")
    for key in ("error_policy", "execute_policy"):
        if key in entry:
            job[key] = entry.raw(key)
    if "spec" in entry:
        entry.only(*_ENVELOPE, "spec")
        job["spec"] = entry.raw("spec")
        return job
    short = SHORT_JOBS.get(job["type"])
    if short is None:
        known = ", ".join(SHORT_JOBS)
        raise entry.misfit(f"type {job['type']} has no short form (only {known} have): give its 'spec'", "type")
    shape, make = short
    entry.only(*_ENVELOPE, *shape)
    job["spec"] = make(entry)
    return job


def _build(entry: Reader) -> dict[str, Any]:
    spec: dict[str, Any] = {"docker_registry_id": entry.text("registry")}
    if "from" in entry:
        spec |= {"source": "fromjob", "job_name": entry.text("from")}
    spec["service_and_builds"] = []
    for number, node in enumerate(entry.nodes("services")):
        place = f"{entry.place}.services[{number}]"
        if node.mapping is None:
            spec["service_and_builds"].append(module(scalar_text(node, place)))
            continue
        service = Reader(node, place).only(*_TARGET)
        target: dict[str, Any] = dict(module(service.need("service")))
        if "build" in service:
            target["build_name"] = service.text("build")
        if "image" in service:
            target["image_name"] = service.text("image")
        if "env" in service:
            target["key_vals"] = environment(service)
        if "repos" in service:
            target["repos"] = repositories(service)
        spec["service_and_builds"].append(target)
    return spec


def _test(entry: Reader) -> dict[str, Any]:
    tests = [{"name": name} for name in entry.texts("tests")]
    if not tests:
        raise entry.misfit("'tests' is missing")
    if "services" not in entry and "from" not in entry:
        return {"test_type": "", "test_modules": tests}
    spec: dict[str, Any] = {"test_type": "service_test", "source": "runtime"}
    if "from" in entry:
        spec |= {"source": "fromjob", "job_name": entry.text("from")}
    spec["service_and_tests"] = [{**module(text), **test} for text in entry.texts("services") for test in tests]
    return spec


def _scan(entry: Reader) -> dict[str, Any]:
    scans = [{"name": name} for name in entry.texts("scans")]
    if not scans:
        raise entry.misfit("'scans' is missing")
    if "services" not in entry and "from" not in entry:
        return {"scanning_type": "", "scannings": scans}
    spec: dict[str, Any] = {"scanning_type": "service_scanning", "source": "runtime"}
    if "from" in entry:
        spec |= {"source": "fromjob", "job_name": entry.text("from")}
    spec["service_and_scannings"] = [{**module(text), **scan} for text in entry.texts("services") for scan in scans]
    return spec


def _deploy(entry: Reader) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "env": entry.need("env"),
        "production": entry.flag("production"),
        "deploy_contents": entry.texts("contents") or ["image"],
        "source": "runtime",
    }
    if "from" in entry:
        spec |= {"source": "fromjob", "job_name": entry.text("from")}
    spec["service_and_images"] = [module(text) for text in entry.texts("services")]
    return spec


def _approval_job(entry: Reader) -> dict[str, Any]:
    approval = _approval(entry)
    return {"timeout": approval["native_approval"]["timeout"], **approval}


def _freestyle(entry: Reader) -> dict[str, Any]:
    """Tools, checkout, script, artifacts: one step each, in this order."""
    if "image" in entry and "os" in entry:
        raise entry.misfit("'image' and 'os' exclude each other", "image")
    properties: dict[str, Any] = {
        "timeout": entry.minutes("timeout", JOB_MIN),
        "res_req": "low",
        "cluster_id": "",
        "build_os": entry.text("image", entry.text("os")),
        "image_id": "",
        "image_from": "custom" if "image" in entry else "koderover",
        "envs": environment(entry),
        "cache_enable": entry.flag("cache"),
        "cache_dir_type": "workspace",
        "cache_user_dir": "",
    }
    if "resources" in entry:
        properties |= {"res_req": "define", "res_req_spec": resources(entry)}
    steps: list[dict[str, Any]] = []
    if "tools" in entry:
        steps.append({"name": "tools", "type": "tools", "spec": {"installs": tools(entry)}})
    if "repos" in entry:
        steps.append({"name": "git", "type": "git", "spec": {"repos": repositories(entry)}})
    steps.append({"name": "shell", "type": "shell", "spec": {"script": entry.need("script")}})
    if "artifacts" in entry:
        details = [{"file_path": path, "dest_path": ""} for path in entry.texts("artifacts")]
        steps.append({"name": "archive", "type": "archive", "spec": {"upload_detail": details}})
    return {
        "properties": properties,
        "steps": steps,
        "outputs": [{"name": name, "description": ""} for name in entry.texts("outputs")],
    }


def _plugin(entry: Reader) -> dict[str, Any]:
    """A plugin of the server with values of its inputs."""
    properties: dict[str, Any] = {"timeout": entry.minutes("timeout", JOB_MIN)}
    if "resources" in entry:
        properties |= {"res_req": "define", "res_req_spec": resources(entry)}
    inputs = [
        {"name": one["key"], "value": one["value"], **({"is_credential": True} if one["is_credential"] else {})}
        for one in environment(entry, "inputs")
    ]
    return {"plugin": {"name": entry.need("plugin"), "inputs": inputs}, "properties": properties}


_TARGET: Final[Shape] = {
    "service": shapes.text("service/module, or service: all of its modules.", needed=True),
    "build": shapes.text("Name of a build; else the one whose `for` holds the module."),
    "image": shapes.text(),
    "env": VARIABLES,
    "repos": REPOSITORIES,
}
_MODULES: Final = shapes.texts("service/module, or service: all of its modules.")
_FROM: Final = shapes.text("A job whose modules these are.")
_FREESTYLE: Final[Shape] = {
    "script": shapes.text(),
    **shapes.file_keys(["scriptFile"]),
    "interpolate": shapes.flag(),
    "env": VARIABLES,
    "repos": REPOSITORIES,
    "outputs": shapes.texts(),
    "image": shapes.text(),
    "os": shapes.text("Label of a base image."),
    "timeout": shapes.duration(),
    "tools": TOOLS,
    "resources": within(RESOURCES),
    "artifacts": shapes.texts("Files to keep."),
    "cache": shapes.flag(),
}

SHORT_JOBS: Final[Mapping[str, tuple[Shape, Callable[[Reader], Mapping[str, Any]]]]] = {
    "zadig-build": (
        {
            "registry": shapes.text(),
            "services": either(
                {"type": "array", "items": {"anyOf": [shapes.SCALAR, schema_of(_TARGET)]}}, shapes.SCALAR
            ),
            "from": _FROM,
        },
        _build,
    ),
    "zadig-deploy": (
        {
            "env": shapes.text(needed=True),
            "production": shapes.flag(),
            "from": _FROM,
            "services": _MODULES,
            "contents": shapes.texts("image, vars, config"),
        },
        _deploy,
    ),
    "zadig-test": ({"tests": shapes.texts(needed=True), "services": _MODULES, "from": _FROM}, _test),
    "zadig-scanning": ({"scans": shapes.texts(needed=True), "services": _MODULES, "from": _FROM}, _scan),
    "freestyle": (_FREESTYLE, _freestyle),
    "plugin": (
        {
            "plugin": shapes.text("Name of a plugin.", needed=True),
            "inputs": VARIABLES,
            "timeout": shapes.duration(),
            "resources": within(RESOURCES),
        },
        _plugin,
    ),
    "approval": ({key: part for key, part in _APPROVAL.items() if key != "type"}, _approval_job),
}
"""Job types with short keys of their own: the keys, and what the spec becomes."""


def _job_schema() -> dict[str, Any]:
    """A job: ``spec``, or the short keys of its type."""
    envelope = {key: part for key, part in _ENVELOPE.items() if key != "type"}
    kinds = [
        schema_of({**envelope, "type": shapes.Part({"const": kind}, needed=True), **shape})
        for kind, (shape, _) in SHORT_JOBS.items()
    ]
    verbatim = schema_of({**_ENVELOPE, "spec": shapes.Part({"type": "object"}, needed=True)})
    return {"anyOf": [verbatim, *kinds]}


_STAGE: Final[Shape] = {
    "name": shapes.text(needed=True),
    "parallel": shapes.flag("Its jobs run at the same time."),
    "approval": within(_APPROVAL, "People who must agree before it begins."),
    "manual": within(_MANUAL, "It waits until somebody has it go on."),
    "jobs": shapes.Part({"type": "array", "items": _job_schema()}),
}
WORKFLOW: Final[Shape] = {
    "name": shapes.text("As shown."),
    "description": shapes.text(),
    "concurrency": shapes.number("Tasks at once; -1 unlimited, 0 none."),
    "params": keyed({"anyOf": [schema_of(_PARAM), schema_of({**_REPO_PARAM, **REPOSITORY}), {"type": "null"}]}),
    "stages": many(_STAGE),
    "notify": shapes.Part({"type": "array", "items": NOTIFICATIONS}),
    "disabled": shapes.flag(),
    "remark_required": shapes.flag(),
    "task_timeout": shapes.duration(),
    "approval_ticket": shapes.flag(),
    "type": shapes.choice("custom", "product"),
}
