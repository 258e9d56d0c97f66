"""``cador run``: start a workflow task."""

import json as json_
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from cyclopts import Parameter

from cador.cli.client import Client, connect
from cador.cli.follow import follow
from cador.cli.options import Json, Project
from cador.cli.output import FAILED, INTERRUPTED, USAGE, Failure, plain, result, result_json, say
from cador.cli.task_names import project_of, task_detail
from cador.cli.workflows import definition
from cador.client.shapes import Started

_Pairs = list[str] | None


def run(
    workflow: Annotated[
        str, Parameter(help="Key of the workflow; with --local optional if the file has just one.")
    ] = "",
    /,
    *,
    project: Project = "",
    param: Annotated[
        _Pairs, Parameter(negative="", help="NAME=VALUE of a workflow parameter; of a repository: NAME=BRANCH.")
    ] = None,
    input_: Annotated[
        _Pairs,
        Parameter(
            name="--input",
            negative="",
            help="JOB.KEY=VALUE of a job's variable; JOB.KEY:=JSON sets what the API documents call its parameters.",
        ),
    ] = None,
    only: Annotated[_Pairs, Parameter(negative="", help="Run these jobs alone: JOB,JOB.")] = None,
    ticket: Annotated[str, Parameter(help="Number of the approval ticket that allows this.")] = "",
    remark: Annotated[str, Parameter(help="A word that lists show with the task.")] = "",
    auto_cancel: Annotated[
        str,
        Parameter(help="A word: unfinished older tasks of the workflow that were started with it are cancelled."),
    ] = "",
    follow_: Annotated[bool, Parameter(name=["--follow", "-f"], negative="", help="Show it until the end.")] = False,
    wait: Annotated[bool, Parameter(negative="", help="Wait for the end without showing logs.")] = False,
    local: Annotated[
        Path | None,
        Parameter(help="Run a workflow of this file here, without a server; the repository is this folder."),
    ] = None,
    repo: Annotated[
        _Pairs, Parameter(negative="", help="With --local: NAMESPACE/NAME=FOLDER, if a repository is another folder.")
    ] = None,
    json: Json = False,
) -> int:
    """Start a workflow task.

    Prints its name, WORKFLOW/NUMBER. With -f or --wait the exit status says whether it passed.

    $ cador run release --param VERSION=1.4 --input build.DEBUG=1 -f

    $ cador run release --auto-cancel pr:12 --remark "fix the price"

    $ cador run --local cador.yaml
    """
    if local is not None:
        from cador.cli.local import run_local

        if project or ticket or wait or remark or auto_cancel:
            needing = "--project, --ticket, --wait, --remark and --auto-cancel"
            raise Failure(f"{needing} need a server; --local follows by itself", USAGE)
        return run_local(local, workflow, Choice.of(param, input_, only), repo or [])
    if not workflow:
        raise Failure("which workflow? cador workflow list shows those there are", USAGE)
    if repo:
        raise Failure("--repo needs --local", USAGE)
    choice = Choice.of(param, input_, only)
    client = connect()
    project = project or project_of(client, workflow)
    more = {"approval_id": ticket, "remark": remark, "auto_cancel": auto_cancel}
    reply = start(client, workflow, project, choice, more)
    number = int(reply["task_id"])
    if not json:
        result(f"{workflow}/{number}")
    if not (follow_ or wait):
        if json:
            result_json(reply)
        return 0
    return finish(client, workflow, number, quiet=wait and not follow_, json=json)


def finish(client: Client, workflow: str, number: int, *, quiet: bool, json: bool) -> int:
    """Follow a task to its end. Returns the exit status."""
    try:
        detail = _wait(client, workflow, number) if quiet or json else follow(client, workflow, number)
    except KeyboardInterrupt:
        say(f"\n{workflow}/{number} goes on; cador task cancel {workflow}/{number} stops it")
        return INTERRUPTED
    if json:
        result_json(detail)
    return 0 if detail["status"] == "passed" else FAILED


def _wait(client: Client, workflow: str, number: int) -> dict[str, Any]:
    import time

    from cador.cli.follow import LOOK_S
    from cador.cli.task_view import FINAL

    while (detail := task_detail(client, workflow, number))["status"] not in FINAL:
        time.sleep(LOOK_S)  # the documented way to wait: look again
    return detail


class Choice:
    """What a start was asked to do: parameters, inputs by job, jobs."""

    def __init__(
        self, params: Mapping[str, str], inputs: Sequence[tuple[str, str, str, bool]], only: Sequence[str]
    ) -> None:
        self.params, self.inputs, self.only = params, inputs, only

    @classmethod
    def of(cls, param: _Pairs, input_: _Pairs, only: _Pairs) -> "Choice":
        """Raises: Failure (usage) when a pair is none."""
        params = dict(_pair(text, "--param", "NAME=VALUE") for text in param or [])
        inputs = []
        for text in input_ or []:
            name, value = _pair(text, "--input", "JOB.KEY=VALUE")
            verbatim = name.endswith(":")
            job, dot, key = name.rstrip(":").partition(".")
            if not dot or not key or not job:
                raise Failure(f"--input {text!r} is not of the form JOB.KEY=VALUE", USAGE)
            inputs.append((job, key, value, verbatim))
        jobs = [job.strip() for text in only or [] for job in text.split(",") if job.strip()]
        return cls(params, inputs, jobs)


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Failure(f"{option} {text!r} is not of the form {form}", USAGE)
    return name, value


def start(
    client: Client, workflow: str, project: str, choice: Choice, more: Mapping[str, str] = MappingProxyType({})
) -> Started:
    """Start a task of *workflow* through the documented route; warnings go to stderr. *more*: further fields of the
    request; empty ones are left out. Raises: Failure."""
    body = request_body(definition(client, workflow, project), choice)
    given: dict[str, Any] = {key: value for key, value in more.items() if value}
    reply = client.tasks.start(
        body["workflow_key"], body["project_key"], inputs=body["inputs"], parameters=body["parameters"], **given
    )
    for warning in reply.get("warnings") or []:
        say(plain(f"warning: {warning}"))
    return reply


def request_body(detail: Mapping[str, Any], choice: Choice) -> dict[str, Any]:
    """The body that starts a task of the workflow *detail*: its jobs, with what *choice* changes.

    Raises: Failure (usage): a job or parameter that the workflow does not have, a value that is no JSON.
    """
    jobs = {job["name"]: job for stage in detail["stages"] for job in stage["jobs"]}
    for name in [*choice.only, *(job for job, _, _, _ in choice.inputs)]:
        if name not in jobs:
            raise _unknown("job", name, list(jobs))
    chosen = choice.only or [
        name
        for name, job in jobs.items()
        if job.get("run_policy") not in ("default_not_run", "skip") and not job["skipped"]
    ]
    if missed := [job for job, _, _, _ in choice.inputs if job not in chosen]:
        raise Failure(f"job {missed[0]} has an --input but does not run; add it to --only", USAGE)
    inputs = []
    for name in jobs:
        if name in chosen:
            given = [(key, value, verbatim) for job, key, value, verbatim in choice.inputs if job == name]
            inputs.append(
                {"job_name": name, "job_type": jobs[name]["type"], "parameters": _job_parameters(jobs[name], given)}
            )
    return {
        "workflow_key": detail["workflow_key"],
        "project_key": detail["project_key"],
        "parameters": _parameters(detail.get("params") or [], choice.params),
        "inputs": inputs,
    }


def _parameters(known: Sequence[Mapping[str, Any]], given: Mapping[str, str]) -> list[dict[str, Any]]:
    by_name = {one["name"]: one for one in known}
    parameters = []
    for name, value in given.items():
        if name not in by_name:
            raise _unknown("parameter", name, list(by_name))
        kind = by_name[name]["type"]
        if kind != "repo":
            parameters.append({"name": name, "type": kind, "value": value})
            continue
        configured = by_name[name].get("repo") or {}
        repo = {key: configured.get(key, "") for key in ("codehost_name", "repo_namespace", "repo_name")}
        parameters.append({"name": name, "type": kind, "repo": {**repo, "branch": value}})
    return parameters


def _job_parameters(job: Mapping[str, Any], given: Sequence[tuple[str, str, bool]]) -> dict[str, Any]:
    """``parameters`` of one input: variables where the job's type keeps them, JSON values as they are."""
    parameters: dict[str, Any] = {}
    variables = [{"key": key, "value": value} for key, value, verbatim in given if not verbatim]
    kind, spec = job["type"], job["spec"]
    if variables:
        if kind in ("freestyle", "plugin"):
            parameters["kv"] = variables
        elif kind == "zadig-build":
            modules = spec.get("service_and_builds_options") or spec.get("service_and_builds") or []
            parameters["service_list"] = [_module(one) | {"inputs": variables} for one in modules]
        elif kind in ("zadig-test", "zadig-scanning"):
            parameters |= _list_inputs(kind, spec, variables)
        else:
            fields = {one["key"]: one["value"] for one in variables}
            if kind == "zadig-deploy" and "env" in fields:
                fields["env_name"] = fields.pop("env")
            parameters |= fields
    for key, value, verbatim in given:
        if verbatim:
            try:
                parameters[key] = json_.loads(value)
            except ValueError as error:
                raise Failure(f"--input {job['name']}.{key}: {value!r} is not JSON: {error}", USAGE) from error
    return parameters


def _list_inputs(kind: str, spec: Mapping[str, Any], variables: list[dict[str, str]]) -> dict[str, Any]:
    word = "test" if kind == "zadig-test" else "scanning"
    if spec.get(f"{word}_type"):
        services = spec.get(f"service_and_{word}s") or []
        return {"service_list": [_module(one) | {"inputs": variables} for one in services]}
    modules = spec.get("test_modules" if word == "test" else "scannings") or []
    name = "testing_name" if word == "test" else "scanning_name"
    return {name.replace("_name", "_list"): [{name: one["name"], "inputs": variables} for one in modules]}


def _module(one: Mapping[str, Any]) -> dict[str, Any]:
    return {"service_name": one["service_name"], "service_module": one["service_module"]}


def _unknown(what: str, name: str, known: list[str]) -> Failure:
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join(known) or 'none'}"
    return Failure(f"the workflow has no {what} {name}; {hint}", USAGE)
