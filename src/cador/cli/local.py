"""``cador run --local``: a workflow of a file, without a server anywhere: the same engine, in a temporary folder."""

import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from cador.cli.apply import send
from cador.cli.client import Client
from cador.cli.embedded import with_server
from cador.cli.follow import Detail, Screen, follow
from cador.cli.git_server import GitServer, git, snapshot
from cador.cli.manifest import Unset, checked, read
from cador.cli.output import FAILED, INTERRUPTED, USAGE, Failure, on_terminal, say
from cador.cli.run import Choice, start
from cador.cli.task_actions import execute_stage
from cador.cli.task_view import FINAL, OpenApproval, open_approvals, paused_stage
from cador.cli.tasks import vote
from cador.cli.terminal import ask
from cador.operations.declarative.documents import Document
from cador.operations.declarative.pipeline import to_wire


def run_local(file: Path, workflow: str, choice: Choice, repos: list[str]) -> int:
    """Apply *file* to a server of its own, run one workflow, show it. Every code host of the file is this machine:
    its repositories are snapshots of the folders *repos* names, else of the working tree around the file.

    Returns 0 when the task passed. Raises: Failure.
    """
    folders = _folders(repos)
    variables = Unset(os.environ, [file])
    documents = checked(read([file], variables))
    hosts = {document.name for document in documents if document.kind == "CodeHost"}
    documents = [document for document in documents if document.kind != "CodeHost"]
    if unset := variables.left_in(to_wire(documents)):
        raise Failure(f"variable {unset[0]} is not set", FAILED)
    references: set[tuple[str, str]] = set()
    for document in documents:
        _find(document.spec, hosts, references)
    workflows = [document.name for document in documents if document.kind == "Workflow"]
    name = workflow or (workflows[0] if len(workflows) == 1 else "")
    if name not in workflows:
        raise Failure(f"which workflow? {file} has: {', '.join(workflows) or 'none'}", USAGE)
    tree = _tree(file.parent)

    def drive(client: Client, folder: Path, stop: threading.Event) -> int:
        with GitServer(folder / "git") as server:
            for (namespace, repo), branches in _branches(references).items():
                source = folders.get(f"{namespace}/{repo}", tree)
                target = folder / "git" / namespace / f"{repo}.git"
                target.parent.mkdir(parents=True, exist_ok=True)
                snapshot(source, target, f"working tree of {source.name}", branches)
                say(f"{namespace}/{repo} is {source}")
            given = [_host(host, server) for host in sorted(hosts)]
            send(client, [*given, *documents])
            project = next(document.project for document in documents if document.name == name)
            number = int(start(client, name, project, choice)["task_id"])
            return see_through(client, name, number, stop, _decide)

    return with_server(drive)


Decide = Callable[[OpenApproval, threading.Event], bool | None]
"""Approve, reject, or (None) leave it to others."""


def see_through(client: Client, workflow: str, number: int, stop: threading.Event, decide: Decide) -> int:
    """Follow a task of our own server to its end and answer its approvals. Returns the exit status.

    Whatever goes wrong or interrupts, no job of the task is left behind. Raises: Failure.
    """

    def on_approval(detail: Detail, screen: Screen) -> None:
        for approval in open_approvals(detail):
            screen.note(f"{approval.name} waits for an approval: {approval.description}")
            with screen.asking():
                approved = decide(approval, stop)
            if approved is not None:
                vote(client, workflow, number, approval.name, "answered by the command line", approved=approved)
                screen.note(f"{approval.name}: {'approved' if approved else 'rejected'}")
        if stage := paused_stage(detail):
            screen.note(f"stage {stage.name} waits to be executed")
            with screen.asking():
                approved = decide(stage, stop)
            if approved:
                execute_stage(client, workflow, number, str(detail["project_key"]), {"stage_name": stage.name})
            elif approved is False:
                client.tasks.cancel(workflow, number)

    ended = False
    try:
        detail = follow(client, workflow, number, stop=stop, on_approval=on_approval)
        ended = detail["status"] in FINAL
    finally:
        if not ended:
            say(f"stopping {workflow}/{number}")
            client.tasks.cancel(workflow, number)
            follow(client, workflow, number, logs=False)
    if not ended:
        return INTERRUPTED
    return 0 if detail["status"] == "passed" else FAILED


def _decide(approval: OpenApproval, stop: threading.Event) -> bool | None:
    """Whoever sits at the terminal; nobody there: nothing of a local run needs protection."""
    if not on_terminal(sys.stdin):
        return True
    return ask(f"Approve {approval.name}?", stop)


def _folders(repos: list[str]) -> dict[str, Path]:
    folders = {}
    for text in repos:
        name, equals, folder = text.partition("=")
        if not equals or "/" not in name or not Path(folder).is_dir():
            raise Failure(f"--repo {text!r} is not of the form NAMESPACE/NAME=FOLDER with a folder that exists", USAGE)
        folders[name] = Path(folder).resolve()
    return folders


def _tree(folder: Path) -> Path:
    """The git working tree around *folder*, else the folder itself."""
    for place in (folder.resolve(), *folder.resolve().parents):
        if (place / ".git").exists():
            return Path(git("rev-parse", "--show-toplevel", cwd=place).strip())
    return folder.resolve()


def _find(value: object, hosts: set[str], references: set[tuple[str, str]]) -> None:
    """Collect the code hosts a document names, and its repositories (``namespace/name``) with their branches."""
    if isinstance(value, list):
        for child in value:
            _find(child, hosts, references)
    if not isinstance(value, Mapping):
        return
    host, name = value.get("codehost_name"), value.get("repo_name")
    if host and name:
        hosts.add(str(host))
        namespace = value.get("repo_namespace") or value.get("repo_owner") or ""
        references.add((f"{namespace}/{name}", str(value.get("branch") or "main")))
    for child in value.values():
        _find(child, hosts, references)


def _branches(references: set[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, ...]]:
    """(namespace, name) -> branches that are asked for, ``main`` first."""
    found: dict[tuple[str, str], set[str]] = {}
    for full, branch in references:
        namespace, _, name = full.rpartition("/")
        found.setdefault((namespace, name), set()).add(branch)
    return {repo: tuple(sorted(branches, key=lambda b: (b != "main", b))) for repo, branches in sorted(found.items())}


def _host(name: str, server: GitServer) -> Document:
    spec = {
        "type": "other",
        "address": server.url,
        "auth_type": "PrivateAccessToken",
        "private_access_token": server.token,
    }
    return Document("CodeHost", name, "", spec)
