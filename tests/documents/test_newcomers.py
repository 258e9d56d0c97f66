"""Scripts written from one edition of the API documents each, against a fresh server and a real git server.

They know nothing but their page: what they print is what the page promises.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.git_server import GitServer
from support.server_process import TOKEN, ServerProcess, open_folder

pytestmark = pytest.mark.real

CLIENTS = Path(__file__).parents[2] / "examples" / "clients"
REPOSITORIES = ("voting-app", "dyliu", "hello-gerrit2")
DEADLINE_S = 120


@dataclass
class Installation:
    server: ServerProcess
    commits: dict[str, str]

    def client(self, name: str, *words: str) -> "subprocess.Popen[str]":
        environ = {"PATH": os.environ["PATH"], "CI_URL": self.server.url, "CI_TOKEN": TOKEN}
        command = [sys.executable, "-W", "error", str(CLIENTS / name), *words]
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def said(self, name: str, *words: str) -> list[str]:
        with self.client(name, *words) as client:
            return ended(client)


def ended(client: "subprocess.Popen[str]") -> list[str]:
    try:
        out, mistakes = client.communicate(timeout=DEADLINE_S)
    finally:
        client.kill()
    assert (client.returncode, mistakes) == (0, ""), mistakes
    return out.splitlines()


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """One ``cador.yaml`` applied by the command, as the README of the clients says."""
    with open_folder() as folder:
        (folder / "git").mkdir()
        git = GitServer(folder / "git")
        branch = "refs/heads/master"
        commits = {name: git.repository(f"kr-poc/{name}").commit({"README": name}, ref=branch) for name in REPOSITORIES}
        with git.serving(), ServerProcess(folder) as server:
            done = subprocess.run(
                [str(Path(sys.executable).with_name("cador")), "apply", "-f", str(CLIENTS / "cador.yaml")],
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(folder),
                    "CADOR_URL": server.url,
                    "CADOR_TOKEN": TOKEN,
                    "GIT_URL": git.address,
                    "GIT_TOKEN": git.token,
                },
                capture_output=True,
                text=True,
                check=False,
                timeout=DEADLINE_S,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            yield Installation(server, commits)
            assert "Traceback" not in server.log()


def waits_for_a_person(server: ServerProcess, vote: dict[str, Any]) -> None:
    query = {"workflowKey": vote["workflow_key"], "taskId": vote["task_id"]}
    deadline = time.monotonic() + DEADLINE_S
    while server.call("GET", "/openapi/workflows/custom/task", **query)["status_detail"] != "wait_for_approval":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_client_of_the_oldest_edition(installation: Installation) -> None:
    """It starts by service and repository, knows tasks by their commit, and cannot approve: a person does."""
    vote = {"task_id": 1, "workflow_key": "autoproject-workflow-dev", "stage_name": "release", "approve": True}
    said: list[str] = []
    with installation.client("edition_a.py", installation.commits["dyliu"][:8]) as client:
        assert client.stdout is not None
        while not said or (said[-1] and not said[-1].startswith("Waiting")):
            said.append(client.stdout.readline().rstrip())
        if said[-1]:
            waits_for_a_person(installation.server, vote)
            installation.server.call("POST", "/openapi/workflows/custom/task/approve", vote)
        said += ended(client)
    assert said == [
        "autoproject-workflow-dev:1 running",
        "cancel {'resultCode': 0, 'errorMsg': 'success'} cancelled",
        "restart {'resultCode': 0, 'errorMsg': 'success'} running",
        "Waiting for somebody to approve it",
        "end passed",
    ]


def test_a_client_of_1_15(installation: Installation) -> None:
    said = installation.said("edition_b.py")
    assert said[:2] == ["started autoproject test-openapi 1", "deploy {'message': 'success'}"]
    name, kind, status, image, *commits = said[2].split()
    assert (name, kind, status) == ("redis3-redis3-build-myapps", "zadig-build", "passed")
    assert image.startswith("harbor.example.com/test/redis3:")
    assert commits == [installation.commits[name] for name in REPOSITORIES]
    assert said[3].split() == ["jira-issue-update", "freestyle", "passed"]
    assert said[4].startswith("by admin passed approved by [{'user_name': 'admin'")
    assert "'reject_or_approve': 'approve'" in said[4]


def test_a_client_of_1_18(installation: Installation) -> None:
    success = "{'message': 'success'}"
    assert installation.said("edition_d.py") == [
        f"create {success}",
        f"view {success}",
        "listed ['workflow-of-a-client']",
        "task 1 running",
        f"cancel {success} cancelled",
        "task 2 passed",
        "2 tasks [(2, 'passed'), (1, 'cancelled')]",
        "views ['mine']",
        f"delete {success}",
        f"delete {success}",
    ]


def test_a_client_of_4_2(installation: Installation) -> None:
    said = installation.said("edition_e.py")
    assert said[0] == "stages [('build', ['zadig-build']), ('deploy', ['freestyle'])]"
    assert said[1] == "approve {'message': 'success'}"
    live = [line.removeprefix("live ") for line in said if line.startswith("live ")]
    assert any(line.endswith("ZAD-10126 from none to ToBeReleased on 123") for line in live)
    assert said[-2] == f"log {live}"
    assert said[-1] == "passed {'test': 'zadig', 'abc': '123'}"
