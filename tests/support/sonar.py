"""A small real HTTP server that answers like SonarQube's web API, as far as scans are asked about."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from support.http_peer import Asked, Peer, peer, reply

TOKEN = "squ_t0ken-of-the-tests"
MEASURES = {"ncloc": "1200", "bugs": "0", "vulnerabilities": "1", "code_smells": "7", "coverage": "81.5"}


@dataclass
class SonarQube:
    """*tasks*: what the task of a scan says, one after the other, the last one again and again. *down*: so many
    requests are answered with 503 first."""

    peer: Peer
    tasks: list[dict[str, Any]] = field(default_factory=lambda: [{"status": "SUCCESS", "analysisId": "AN-1"}])
    gate: dict[str, Any] = field(default_factory=lambda: {"status": "OK", "conditions": []})
    measures: dict[str, str] | None = field(default_factory=lambda: dict(MEASURES))
    down: int = 0

    @property
    def url(self) -> str:
        return self.peer.url

    def paths(self) -> list[str]:
        return [asked.path for asked in self.peer.asked]


@contextmanager
def sonarqube() -> Iterator[SonarQube]:
    def answer(asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        status, body = _answer(made, asked)
        reply(handler, status, body)

    with peer(answer) as server:
        made = SonarQube(server)
        yield made


def _answer(sonar: SonarQube, asked: Asked) -> tuple[int, Any]:
    if sonar.down:
        sonar.down -= 1
        return 503, {}
    expected = base64.b64encode(f"{TOKEN}:".encode()).decode()
    known = asked.headers.get("authorization") == f"Basic {expected}"
    parts = urlsplit(asked.path)
    if parts.path == "/api/authentication/validate":
        return 200, {"valid": known}
    if not known:
        return 401, b""
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    match parts.path, query:
        case "/api/ce/task", {"id": "AX-1"}:
            task = sonar.tasks.pop(0) if len(sonar.tasks) > 1 else sonar.tasks[0]
            return 200, {"task": {"id": "AX-1", "type": "REPORT", **task}}
        case "/api/ce/task", _:
            return 404, {"errors": [{"msg": "No activity found for task"}]}
        case "/api/qualitygates/project_status", {"analysisId": "AN-1"}:
            return 200, {"projectStatus": sonar.gate}
        case "/api/measures/component", {"component": "shop:api", "metricKeys": keys, **rest} if set(rest) <= {
            "branch"
        }:
            if sonar.measures is None:
                return 404, {"errors": [{"msg": "Component key 'shop:api' not found"}]}
            found = [{"metric": key, "value": sonar.measures[key]} for key in keys.split(",") if key in sonar.measures]
            return 200, {"component": {"key": "shop:api", "measures": found}}
        case _:
            return 400, {"errors": [{"msg": f"unexpected request {asked.path}"}]}
