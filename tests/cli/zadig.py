"""A Zadig for tests: a real HTTP server with the replies of the API documents and, where they have none, replies in
the shapes of Zadig's own pages."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from support.http_peer import Asked, Peer, peer, reply
from support.world import PROJECT

TOKEN = "zadig-api-token-of-the-tests"
IMAGE_ID, REGISTRY_ID, DB_ID = "62a2f0a3d6e4b5d1f0c8f001", "630c7ad700430c131062e245", "650000000000000000000001"
HOST, UID = 4, "1c9d5b1e-0000-4000-8000-000000000001"
REPO = {
    "source": "gitee",
    "repo_owner": "liyue326",
    "repo_namespace": "liyue326",
    "repo_name": "picture",
    "remote_name": "origin",
    "branch": "master",
    "codehost_id": HOST,
    "oauth_token": "oauth-in-clear",
    "is_primary": True,
    "hidden": False,
}
MANIFEST = "kind: Deployment\nspec: {template: {spec: {containers: [{name: service1, image: $Namespace$/x:1}]}}}\n"


def documented(name: str) -> Any:
    """The reply of an example of the newest edition."""
    text = (Path(__file__).parents[1] / "documents" / "edition_E.yaml").read_text(encoding="utf-8")
    found = next(one for one in yaml.load(text, Loader=yaml.CSafeLoader) if one["name"] == name)
    return found["reply"]["body"]


def full_workflow() -> dict[str, Any]:
    """As Zadig's own pages get it: with ids, what a run fills in, and secrets in clear."""
    say = {
        "name": "say",
        "type": "freestyle",
        "skipped": False,
        "spec": {
            "properties": {
                "timeout": 5,
                "build_os": "focal",
                "image_id": IMAGE_ID,
                "image_from": "koderover",
                "cluster_id": "0123456789abcdef12345678",
                "envs": [
                    {"key": "WHO", "value": "$USER", "type": "string", "is_credential": False},
                    {"key": "KEY", "value": "workflow-key-in-clear", "type": "string", "is_credential": True},
                ],
            },
            "steps": [
                {"name": "git", "type": "git", "spec": {"repos": []}},
                {"name": "shell", "type": "shell", "spec": {"script": 'echo "hello from ${WHO:-nobody}"'}},
            ],
        },
    }
    migrate = {"name": "migrate", "type": "sql", "spec": {"id": DB_ID, "type": "mysql", "sql": "select 1;"}}
    approval = {
        "enabled": True,
        "type": "native",
        "native_approval": {
            "timeout": 5,
            "needed_approvers": 1,
            "approve_users": [{"type": "user", "user_id": UID, "user_name": "Lilian Li"}],
        },
    }
    return {
        "id": "650000000000000000000009",
        "name": "talk",
        "display_name": "Talk",
        "project": PROJECT,
        "hash": "x",
        "concurrency_limit": -1,
        "params": [
            {"name": "P", "type": "string", "value": "v", "default": "v", "is_credential": False},
            {"name": "CODE", "type": "repo", "repo": REPO},
        ],
        "stages": [
            {"name": "talk", "parallel": False, "approval": {"enabled": False}, "jobs": [say]},
            {"name": "later", "parallel": False, "approval": approval, "jobs": [migrate]},
        ],
        "hook_ctls": [{"name": "on-push"}],
        "notify_ctls": [
            {
                "enabled": True,
                "webhook_type": "dingding",
                "notify_type": ["failed"],
                "dingding_notification_config": {"hook_address": "https://oapi.example.com/robot?key=hook-in-clear"},
            }
        ],
        "share_storages": None,
    }


def build() -> dict[str, Any]:
    return {
        "name": "openapi-build",
        "product_name": PROJECT,
        "timeout": 30,
        "desc": "two\nlines",
        "targets": [{"product_name": PROJECT, "service_name": "service1", "service_module": "service1"}],
        "repos": [REPO],
        "pre_build": {
            "res_req": "define",
            "res_req_spec": {"cpu_limit": 2000, "memory_limit": 1024, "gpu_limit": ""},
            "build_os": "focal",
            "image_id": IMAGE_ID,
            "image_from": "koderover",
            "installs": [{"name": "go", "version": "1.20"}],
            "envs": [
                {"key": "TOKEN", "value": "build-token-in-clear", "type": "string", "is_credential": True},
                {"key": "MODE", "value": "a", "type": "choice", "choice_option": ["a", "b"], "is_credential": False},
            ],
            "cluster_id": "",
        },
        "scripts": "#!/bin/bash\nmake ${X} $$\n",
        "post_build": {
            "docker_build": {"work_dir": ".", "docker_file": "Dockerfile", "build_args": "", "source": "local"},
            "scripts": "echo done",
        },
    }


def test_module() -> dict[str, Any]:
    return {
        "name": "smoke-test",
        "product_name": PROJECT,
        "timeout": 10,
        "repos": [{**REPO, "branch": ""}],
        "pre_test": {"image_id": "unknown", "build_os": "windows", "envs": [], "installs": []},
        "scripts": "make test",
        "test_result_path": "report/",
        "artifact_paths": ["out/"],
        "hook_ctl": {"enabled": True, "items": [{}]},
    }


def replies() -> dict[str, Any]:
    """By path; a list under ``pageNum`` is cut as Zadig does."""
    key = PROJECT
    documented_workflows = documented("C1")
    documented_workflows["workflows"].append({"workflow_key": "build-deploy", "workflow_name": "x", "type": "custom"})
    documented_workflows["workflows"].append({"workflow_key": "talk", "workflow_name": "Talk", "type": "custom"})
    documented_workflows["workflows"].append({"workflow_key": "old", "workflow_name": "Old", "type": "product"})
    return {
        "/openapi/projects/project": {
            "total": 1,
            "projects": [{"project_key": key, "project_name": "Lilian", "description": "a\nb", "deploy_type": "k8s"}],
        },
        "/api/v1/codehosts": [
            {"id": HOST, "type": "gitee", "alias": "main gitee", "address": "https://gitee.com"},
            {"id": 9, "type": "perforce", "alias": "old", "address": "x"},
        ],
        "/openapi/system/registry": [
            {
                "registry_id": REGISTRY_ID,
                "address": "https://registry.example.com",
                "provider": "native",
                "namespace": "ci",
                "region": "",
                "is_default": True,
            }
        ],
        "/api/aslan/system/basicImages": [
            {"id": IMAGE_ID, "value": "focal", "label": "ubuntu 20.04", "image_from": "koderover", "image_type": ""}
        ],
        "/openapi/system/cluster": [
            {"cluster_id": "0123456789abcdef12345678", "name": "local-20", "local": True},
            {"cluster_id": "64d000000000000000000001", "name": "prod", "local": False, "production": True},
        ],
        "/api/aslan/system/dbinstance/detail": [
            {"id": DB_ID, "name": "orders", "type": "mysql", "host": "db", "port": "3306", "username": "ci"}
        ],
        "/openapi/users": {
            "users": [
                {"uid": UID, "account": "lilian", "name": "Lilian Li", "identity_type": "system"},
                {"uid": "u-admin", "account": "admin", "name": "admin", "identity_type": "system"},
            ],
            "total_count": 2,
        },
        "/openapi/policy/role-bindings": [
            {"binding_type": "user", "user_info": {"uid": UID, "account": "lilian"}, "roles": ["project-admin", "own"]}
        ],
        "/openapi/service/yaml/services": [{"service_name": "service1", "source": "spock", "type": "k8s"}],
        "/openapi/service/yaml/service1": {
            "service_name": "service1",
            "type": "k8s",
            "yaml": MANIFEST,
            "service_variable_kvs": [{"key": "port", "type": "string", "value": "80", "options": None, "desc": ""}],
        },
        "/openapi/service/yaml/production/services": [],
        "/openapi/build": {"total": 1, "builds": [{"name": "openapi-build", "project_key": key}]},
        "/api/aslan/build/build/openapi-build": build(),
        "/api/aslan/testing/test": [{"name": "smoke-test"}],
        "/api/aslan/testing/test/smoke-test": test_module(),
        "/api/aslan/testing/scanning": {"scannings": [{"id": "s1", "name": "lint"}], "total": 1},
        "/api/aslan/testing/scanning/s1": {
            "name": "lint",
            "scanner_type": "other",
            "image_id": IMAGE_ID,
            "repos": [REPO],
            "script": "make lint",
            "advanced_settings": {"timeout": 15},
        },
        "/openapi/environments": [
            {
                "env_key": "dev",
                "cluster_id": "",
                "namespace": "shop-dev",
                "registry_id": REGISTRY_ID,
                "production": False,
            }
        ],
        "/openapi/environments/production": [
            {"env_key": "live", "cluster_id": "64d000000000000000000001", "namespace": "shop", "registry_id": ""}
        ],
        "/openapi/workflows": documented_workflows,
        "/openapi/workflows/custom/build-deploy/detail": documented("C2"),
        "/api/aslan/workflow/v4/name/talk": full_workflow(),
        "/openapi/workflows/view": documented("V1"),
    }


@dataclass
class Zadig:
    """``busy``: how many further requests are refused with 503. ``pages``: paths that are answered with a web page."""

    peer: Peer
    routes: dict[str, Any] = field(default_factory=replies)
    busy: int = 0
    pages: set[str] = field(default_factory=set)

    def paths(self) -> list[str]:
        return [urlsplit(asked.path).path for asked in self.peer.asked]


@contextmanager
def zadig() -> Iterator[Zadig]:
    made: list[Zadig] = []

    def answer(asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        server = made[0]
        parts = urlsplit(asked.path)
        query = dict(parse_qsl(parts.query))
        assert asked.method == "GET", "an import changes nothing"
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            reply(handler, 401, {"message": "unauthorized", "code": 401})
        elif server.busy:
            server.busy -= 1
            reply(handler, 503, {"message": "busy"})
        elif unquote(parts.path) in server.pages:
            reply(handler, 200, b"<html>hello</html>", "text/html")
        elif unquote(parts.path) not in server.routes:
            reply(handler, 404, b"404 page not found", "text/plain")
        else:
            reply(handler, 200, _cut(server.routes[unquote(parts.path)], query))

    with peer(answer) as listening:
        made.append(Zadig(listening))
        yield made[0]


def _cut(body: Any, query: Mapping[str, str]) -> Any:
    if "pageNum" not in query or not isinstance(body, dict):
        return body
    size, number = int(query["pageSize"]), int(query["pageNum"])
    return {
        key: value[size * (number - 1) : size * number] if isinstance(value, list) else value
        for key, value in body.items()
    }
