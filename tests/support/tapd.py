"""A small TAPD: a real HTTP server that gives tokens, checks them and every body, and keeps iterations."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from support.http_peer import Asked, Peer, peer, reply

PROJECT = "43976133"
SECRET = "tapd-s3cr3t-of-tests"
FORM = "application/x-www-form-urlencoded"


@dataclass
class FakeTapd:
    """*statuses* by iteration; *refuses*: what TAPD says about some; *ails*: how many times it answers 500 first.
    *wrong*: requests that no client of TAPD would send. *held*: a change waits for it before it is carried out."""

    peer: Peer | None = None
    statuses: dict[str, str] = field(default_factory=lambda: {f"114397613300100000{n}": "open" for n in (1, 2, 3)})
    refuses: dict[str, str] = field(default_factory=dict)
    ails: int = 0
    expires_in: int = 7200
    tokens: list[str] = field(default_factory=list)
    withdrawn: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    changes: list[tuple[str, str]] = field(default_factory=list)
    held: threading.Event | None = None
    asked_to_change: threading.Event = field(default_factory=threading.Event)

    @property
    def ids(self) -> list[str]:
        return list(self.statuses)

    @property
    def spec(self) -> dict[str, str]:
        """Of the integration."""
        assert self.peer is not None
        return {
            "tapd_address": self.peer.url,
            "tapd_client_id": "cador-tests",
            "tapd_client_secret": SECRET,
            "tapd_company_id": PROJECT,
        }

    def answer(self, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        if self.ails:
            self.ails -= 1
            reply(handler, 502, b"<html>bad gateway</html>", "text/html")
            return
        parts = urlsplit(asked.path)
        query, form = dict(parse_qsl(parts.query)), dict(parse_qsl(asked.body.decode()))
        if asked.method == "POST" and not asked.headers.get("content-type", "").startswith(FORM):
            self.wrong.append(f"a body of type {asked.headers.get('content-type')}")
        if parts.path == "/tokens/request_token" and asked.method == "POST":
            self._token(asked, form, handler)
            return
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens or token in self.withdrawn:
            reply(handler, 401, {"status": 401, "info": "invalid token", "data": None})
            return
        match asked.method, parts.path:
            case "GET", "/workspaces/get_workspace_info":
                self._project(query, handler)
            case "GET", "/workspaces/projects":
                if query != {"company_id": PROJECT}:
                    self.wrong.append(f"projects {query}")
                project = {"id": PROJECT, "name": "Welcome to TAPD DEMO", "status": "normal", "begin_date": None}
                self._ok(handler, [{"Workspace": project}])
            case "GET", "/iterations" if "id" not in query:
                self._page(query, handler)
            case "GET", "/iterations":
                self._list(query, handler)
            case "POST", "/iterations":
                self._change(form, handler)
            case _:
                self.wrong.append(f"{asked.method} {asked.path}")
                reply(handler, 404, {"status": 404, "info": "no such call"})

    def _token(self, asked: Asked, form: dict[str, str], handler: BaseHTTPRequestHandler) -> None:
        basic = "Basic " + base64.b64encode(f"cador-tests:{SECRET}".encode()).decode()
        if form != {"grant_type": "client_credentials"}:
            self.wrong.append(f"token form {form}")
        if asked.headers.get("authorization") != basic:
            reply(handler, 422, {"status": 422, "info": "invalid client", "data": None})
            return
        self.tokens.append(f"token-{len(self.tokens)}-{'x' * 20}")
        self._ok(handler, {"access_token": self.tokens[-1], "expires_in": self.expires_in, "token_type": "Bearer"})

    def _project(self, query: dict[str, str], handler: BaseHTTPRequestHandler) -> None:
        if query != {"workspace_id": PROJECT}:
            reply(handler, 200, {"status": 404, "info": "workspace not found", "data": []})
            return
        self._ok(handler, {"Workspace": {"id": PROJECT, "name": "Welcome to TAPD DEMO"}})

    def _list(self, query: dict[str, str], handler: BaseHTTPRequestHandler) -> None:
        if set(query) != {"workspace_id", "id", "limit", "page"} or query["workspace_id"] != PROJECT:
            self.wrong.append(f"list {query}")
        found = [ident for ident in query["id"].split(",") if ident in self.statuses][: int(query["limit"])]
        dates: dict[str, Any] = {"startdate": "2025-08-04", "enddate": "2025-09-03"}
        self._ok(handler, [{"Iteration": {"id": ident, "name": f"Iteration {ident[-1]}", **dates}} for ident in found])

    def _page(self, query: dict[str, str], handler: BaseHTTPRequestHandler) -> None:
        """All of them, by pages of at most 200."""
        if not {"workspace_id", "limit", "page"} <= set(query) or int(query["limit"]) > 200:
            self.wrong.append(f"page {query}")
        wanted = [ident for ident, status in self.statuses.items() if query.get("status") in (None, status)]
        first = (int(query["page"]) - 1) * int(query["limit"])
        found = wanted[first : first + int(query["limit"])]
        told = [{"id": ident, "name": f"Iteration {ident[-1]}", "status": self.statuses[ident]} for ident in found]
        self._ok(handler, [{"Iteration": {**one, "startdate": "2025-08-04", "completed": None}} for one in told])

    def _change(self, form: dict[str, str], handler: BaseHTTPRequestHandler) -> None:
        if set(form) != {"workspace_id", "id", "current_user", "status"} or form["workspace_id"] != PROJECT:
            self.wrong.append(f"change {form}")
        self.asked_to_change.set()
        if self.held is not None:
            self.held.wait(30)
        if info := self.refuses.get(form["id"]):
            reply(handler, 200, {"status": 0, "info": info, "data": None})
            return
        self.changes.append((form["id"], form["status"]))
        self.statuses[form["id"]] = form["status"]
        self._ok(handler, {"Iteration": {"id": form["id"], "status": form["status"]}})

    @staticmethod
    def _ok(handler: BaseHTTPRequestHandler, data: Any) -> None:
        reply(handler, 200, {"status": 1, "info": "success", "data": data})


@contextmanager
def serving() -> Iterator[FakeTapd]:
    fake = FakeTapd()
    with peer(fake.answer) as served:
        fake.peer = served
        yield fake
    assert fake.wrong == []
