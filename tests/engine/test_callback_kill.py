"""``kill -9`` of the real server while it tells how a task ended: it is told again, under the same id."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from cador.operations.resources import LOCAL_CLUSTER
from support.http_peer import Asked, peer, reply
from support.server_process import DEADLINE_S, ServerProcess, open_folder

pytestmark = pytest.mark.real


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


def define(server: ServerProcess) -> None:
    """A product workflow whose one build runs at once and fails: there is no code host."""
    server.project("shop")
    registry = {"address": "https://registry.example.com", "namespace": "ns", "is_default": True, "provider": "native"}
    server.call("POST", "/openapi/system/registry", registry)
    environment = {
        "project_key": "shop", "env_key": "dev", "cluster_id": LOCAL_CLUSTER, "namespace": "dev",
        "registry_id": "registry.example.com/ns",
    }  # fmt: skip
    server.call("POST", "/openapi/environments", environment, projectKey="shop")
    build = {
        "name": "b", "project_key": "shop", "build_os": "ubuntu 22.04", "build_script": "exit 3", "repo_info": [],
        "services": [{"service_name": "svc", "service_module": "api"}],
    }  # fmt: skip
    server.call("POST", "/openapi/build", build, projectKey="shop")
    entry = {"service_name": "svc", "service_module": "api", "build_name": "b", "key_vals": [], "repos": []}
    spec = {"docker_registry_id": "", "service_and_builds": [entry]}
    stages = [{"name": "build", "jobs": [{"name": "build", "type": "zadig-build", "spec": spec}]}]
    workflow = {"name": "run", "display_name": "run", "project": "shop", "concurrency_limit": -1,
                "workflow_type": "product", "stages": stages}  # fmt: skip
    server.call("POST", "/api/aslan/workflow/v4", workflow)


def start(server: ServerProcess, url: str) -> int:
    body = {
        "workflow_name": "run", "env_name": "dev", "targets": [{"name": "svc", "build": {"repos": []}}],
        "callback": {"callback_url": url, "callback_vars": {"k": 1}},
    }  # fmt: skip
    number: int = server.call("POST", "/api/directory/workflowTask/create", body)["task_id"]
    return number


def tries(server: ServerProcess, number: int, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        events = server.call("GET", f"/api/v1/tasks/run/{number}/events")["events"]
        found = [event["data"] for event in events if event["kind"] == "delivery_tried"]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, events
        time.sleep(0.05)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_server_that_is_killed_while_it_tells_tells_again(
    kind: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    database = request.getfixturevalue("postgres_server").create("template0") if kind == "postgres" else ""
    called, killed = threading.Event(), threading.Event()

    def answer(asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        if not called.is_set():
            called.set()
            killed.wait(DEADLINE_S)  # it has heard it, and nobody learns of that
            return
        reply(handler, 200, {})

    environ = {"CADOR_OUTGOING__ALLOW": "127.0.0.1"}
    with peer(answer) as receiver, ServerProcess(folder, database=database, **environ) as server:
        define(server)
        number = start(server, f"{receiver.url}/end")
        assert called.wait(DEADLINE_S)
        server.kill()
        killed.set()
        server.start()
        (data,) = tries(server, number, 1)
        assert (data["ok"], data["number"], data["what"]) == (True, 1, "failed")
        first, second = receiver.asked
        assert first.headers["x-delivery-id"] == second.headers["x-delivery-id"]
        assert first.body == second.body
        server.stop()
        server.start()
        assert len(tries(server, number, 1)) == 1
    assert len(receiver.asked) == 2


def test_without_a_setting_this_machine_is_not_called(folder: Path) -> None:
    with peer(lambda asked, handler: None) as receiver, ServerProcess(folder) as server:
        define(server)
        (data,) = tries(server, start(server, f"{receiver.url}/end"), 1)
        assert (data["ok"], data["again_at"]) == (False, None)
        assert "outgoing.allow" in data["reason"]
    assert not receiver.asked
