"""``cador demo``: a server, git repositories and a workflow from build to release, on this machine, in a minute."""

import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from cyclopts import Parameter

import cador
from cador.cli.apply import send
from cador.cli.client import Client, segment
from cador.cli.embedded import with_server
from cador.cli.git_server import GitServer, snapshot
from cador.cli.local import see_through
from cador.cli.manifest import read_documents
from cador.cli.output import Failure, moment, on_terminal, result, say
from cador.cli.run import Choice, start
from cador.cli.task_names import task_detail
from cador.cli.task_view import OpenApproval, span
from cador.cli.terminal import ask
from cador.client.shapes import Artifact

PROJECT: Final = "shop"
WORKFLOW: Final = "release"
REPOSITORIES: Final = ("api", "web", "tools")


def demo(
    *,
    keep: Annotated[bool, Parameter(negative="", help="Leave the server running until Ctrl-C.")] = False,
) -> int:
    """Show the whole thing: build two modules, test them, ask for approval, release.

    Everything is real and on this machine alone: a server on a temporary folder and a free port, git repositories
    over HTTP, processes, reports. Nothing is left behind.

    $ cador demo
    """

    def drive(client: Client, folder: Path, stop: threading.Event) -> int:
        with GitServer(folder / "git") as server:
            return _show(client, folder, server, stop, keep)

    return with_server(drive)


def examples() -> Path:
    """The folder ``examples/shop``: inside an installed package, else beside the sources. Raises: Failure."""
    package = Path(cador.__file__).parent
    for place in (package / "examples" / "shop", package.parent.parent / "examples" / "shop"):
        if (place / "cador.yaml").is_file():
            return place
    raise Failure("the example shop is not part of this installation; reinstall cador")


def _show(client: Client, folder: Path, server: GitServer, stop: threading.Event, keep: bool) -> int:
    began = time.monotonic()
    shop = examples()
    say(f"server         {client.place.url} (data in {folder / 'data'})")
    for name in REPOSITORIES:
        repository = folder / "git" / "shop" / f"{name}.git"
        repository.parent.mkdir(parents=True, exist_ok=True)
        commit = snapshot(shop / name, repository, f"{name} of the demo shop")
        say(f"repository     {server.url}/shop/{name}.git at {commit[:8]}")
    variables = {"SHOP_GIT_URL": server.url, "SHOP_GIT_TOKEN": server.token, "SHOP_API_TOKEN": _reader(client)}
    reply = send(client, read_documents([shop / "cador.yaml"], variables))
    say(f"configuration  {shop / 'cador.yaml'}: {len(reply['results'])} objects")
    number = int(start(client, WORKFLOW, PROJECT, Choice({}, [], []))["task_id"])
    say(f"task           {WORKFLOW}/{number}\n")
    code = see_through(client, WORKFLOW, number, stop, _decide)
    detail = task_detail(client, WORKFLOW, number)
    _summary(client, detail, time.monotonic() - began)
    if keep and not stop.is_set():
        _keep(client, folder, stop)
    return code


def _reader(client: Client) -> str:
    """A token for the release job: it may read workflows and nothing else."""
    return client.tokens.create(client.server.me()["uid"], "release job", scopes=["get_workflow"])["token"]


def _decide(approval: OpenApproval, stop: threading.Event) -> bool | None:
    if not on_terminal(sys.stdin):
        say("nobody sits at this terminal: the demo approves by itself")
        return True
    return ask("Approve the release?", stop)


def _summary(client: Client, detail: dict[str, Any], took_s: float) -> None:
    """What happened, in the end, on stdout."""
    base = f"/api/v1/tasks/{segment(WORKFLOW)}/{detail['task_id']}/artifacts"
    files = client.tasks.artifacts(WORKFLOW, detail["task_id"])
    result("")
    result(f"status    {detail['status']}, {took_s:.1f} s altogether")
    for stage in detail["stages"]:
        for job in stage["jobs"]:
            result(f"          {stage['name']:<8} {job['name']:<16} {job['status']:<8} {span(job, time.time())}")
    counts = _tests(client, base, files)
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    result(f"tests     {counts['tests']} run, {passed} passed, {counts['failures'] + counts['errors']} failed")
    for one in files:
        result(f"file      {one['path']} ({one['size']} bytes)")
    result(f"started   {moment(detail['start_time'])}, ended {moment(detail['end_time'])}")
    result("")
    result("how to go on")
    result("  cador demo --keep              leaves the server running, to look around")
    result("  cador serve                    starts a server of your own")
    result("  cador apply -f cador.yaml      gives it your projects; examples/shop/cador.yaml is one to copy")
    result("  cador run WORKFLOW -f          starts a task and follows it")


def _tests(client: Client, base: str, files: list[Artifact]) -> dict[str, int]:
    """Counts of all JUnit reports among the artifacts."""
    from defusedxml.ElementTree import fromstring

    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for one in files:
        if not one["path"].endswith("/merged.xml"):
            continue
        with client.download(f"{base}/{quote(one['path'])}") as response:
            root = fromstring(response.read())
        for suite in [root] if root.get("tests") else root.iter("testsuite"):
            for key in totals:
                totals[key] += int(suite.get(key) or 0)
    return totals


def _keep(client: Client, folder: Path, stop: threading.Event) -> None:
    result("")
    result(f"the server goes on at {client.place.url} until Ctrl-C; in another terminal:")
    result(f"  export CADOR_DATA={folder / 'data'}")
    result(f"  cador task show {WORKFLOW}/latest")
    stop.wait()
