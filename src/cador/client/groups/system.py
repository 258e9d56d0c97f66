"""What administrators set up: code hosts, registries, clusters, databases; and the server itself."""

import builtins
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from cador.client import shapes
from cador.client.errors import ApiError, TimedOut, Unreachable
from cador.client.methods import Call, Group, Mode
from cador.client.wire import RETRY_S, Pause, Request, Steps, segment

MOST_ENTRIES: Final = 1000
"""Of the audit record in one reply."""
_SECRETS: Final = "/api/v1/secrets"
Shown = TypeVar("Shown")


class _OfSystem(Group[Mode], Generic[Mode, Shown]):
    """Objects of the system, all served alike. *ident*: of each, its id or its name."""

    _path: str

    @Call
    def list(self) -> Steps[builtins.list[Shown]]:
        """All of them, by name."""
        reply: builtins.list[Shown] = yield Request("GET", self._path)
        return reply

    @Call
    def get(self, ident: str | int) -> Steps[Shown]:
        """One of them; secrets are left out or masked."""
        reply: Shown = yield Request("GET", f"{self._path}/{segment(ident)}")
        return reply

    @Call
    def create(self, body: Mapping[str, Any]) -> Steps[None]:
        """Add one. *body*: as ``/openapi.json`` describes it."""
        yield Request("POST", self._path, body=body)

    @Call
    def replace(self, ident: str | int, body: Mapping[str, Any]) -> Steps[None]:
        """Replace one. Secrets that are left out, or sent as ``********``, stay."""
        yield Request("PUT", f"{self._path}/{segment(ident)}", body=body, repeatable=True)

    @Call
    def delete(self, ident: str | int) -> Steps[None]:
        """Delete one that nothing uses."""
        yield Request("DELETE", f"{self._path}/{segment(ident)}")


class CodeHosts(_OfSystem[Mode, shapes.CodeHost]):
    """Git servers."""

    _path = "/openapi/system/codehost"


class Registries(_OfSystem[Mode, shapes.Registry]):
    """Image registries."""

    _path = "/openapi/system/registry"


class Clusters(_OfSystem[Mode, shapes.Cluster]):
    """Where jobs and services run. *ident* is an id here."""

    _path = "/openapi/system/cluster"


class Databases(_OfSystem[Mode, shapes.Database]):
    """Databases of ``sql`` jobs."""

    _path = "/openapi/system/dbinstance"


class Configuration(Group[Mode]):
    """The whole configuration as documents of ``cador.yaml``."""

    @Call
    def apply(
        self,
        documents: str | Mapping[str, Any],
        *,
        dry_run: bool = False,
        prune: bool = False,
        diff: bool = False,
        set: str = "",
    ) -> Steps[shapes.ApplyResult]:
        """Make the server say what *documents* (YAML, or one object) say: all of them, or none.

        *dry_run*: only tell. *diff*: with what changes, line by line. *prune*: delete what an earlier apply of the same
        *set* made and is no longer there. Doing it twice is doing it once, so a lost reply is asked for again.
        """
        query = {"dryRun": dry_run or None, "prune": prune or None, "diff": diff or None, "set": set}
        reply: shapes.ApplyResult = yield Request("POST", "/openapi/apply", query, documents, repeatable=True)
        return reply

    @Call
    def delete(self, documents: str | Mapping[str, Any], *, dry_run: bool = False) -> Steps[shapes.ApplyResult]:
        """Delete what *documents* name, the dependent ones first: all of them, or none."""
        query = {"delete": True, "dryRun": dry_run or None}
        reply: shapes.ApplyResult = yield Request("POST", "/openapi/apply", query, documents, repeatable=True)
        return reply

    @Call
    def export(self, project: str = "", *, with_ids: bool = False) -> Steps[str]:
        """A project (or without one the system) as YAML; secrets are ``${NAME}``."""
        query = {"projectKey": project, "withIds": with_ids or None}
        reply: str = yield Request("GET", "/openapi/export", query, text=True)
        return reply


class Secrets(Group[Mode]):
    """Secrets kept for the configuration, of a project or (without one) of the system. They are written only."""

    @Call
    def list(self, project: str = "") -> Steps[Any]:
        """Names of all secrets and what uses them."""
        return (yield Request("GET", _SECRETS, {"projectKey": project}))

    @Call
    def put(self, name: str, data: Mapping[str, str], project: str = "") -> Steps[None]:
        """Add or replace a secret. *data*: its values by key; ``********`` keeps one."""
        path = f"{_SECRETS}/{segment(name)}"
        yield Request("PUT", path, {"projectKey": project}, {"data": dict(data)}, repeatable=True)

    @Call
    def delete(self, name: str, project: str = "") -> Steps[None]:
        """Delete a secret that nothing names."""
        yield Request("DELETE", f"{_SECRETS}/{segment(name)}", {"projectKey": project})


class Server(Group[Mode]):
    """The server itself."""

    @Call
    def version(self) -> Steps[str]:
        """Its version; needs no token."""
        reply = yield Request("GET", "/api/v1/version")
        return str(reply["version"])

    @Call
    def me(self) -> Steps[shapes.Me]:
        """Whom the token belongs to."""
        reply: shapes.Me = yield Request("GET", "/api/v1/me")
        return reply

    @Call
    def login(self, account: str, password: str) -> Steps[str]:
        """A token for the session of somebody with a password; needs no token."""
        reply = yield Request("POST", "/api/v1/login", body={"account": account, "password": password})
        return str(reply["token"])

    @Call
    def settings(self) -> Steps[builtins.list[shapes.Setting]]:
        """Settings that can be changed while the server works."""
        reply = yield Request("GET", "/api/v1/settings")
        return reply["settings"]  # type: ignore[no-any-return]

    @Call
    def change_settings(self, changes: Mapping[str, int | None]) -> Steps[builtins.list[shapes.Setting]]:
        """Change settings on all servers at once; None gives one back to the configuration. Returns all."""
        reply = yield Request("PUT", "/api/v1/settings", body=changes, repeatable=True)
        return reply["settings"]  # type: ignore[no-any-return]

    @Call
    def wait_until_ready(self, *, timeout_s: float = 60.0) -> Steps[None]:
        """Wait until the server answers that it can work. Raises: TimedOut."""
        waited = 0.0
        while True:
            try:
                yield Request("GET", "/readyz")
                return
            except (Unreachable, ApiError) as error:
                if waited >= timeout_s:
                    raise TimedOut(f"the server is not ready: {error}") from error
            yield Pause(RETRY_S)
            waited += RETRY_S


class Audit(Group[Mode]):
    """Who changed what; for administrators."""

    @Call
    def list(
        self, *, account: str = "", project: str = "", action: str = "", limit: int = 0
    ) -> Steps[builtins.list[shapes.AuditEntry]]:
        """Entries, newest first: *limit* of them, 0 for all."""
        found: builtins.list[shapes.AuditEntry] = []
        query: dict[str, Any] = {"account": account, "project": project, "action": action, "before": None}
        while True:
            query["limit"] = min(limit - len(found), MOST_ENTRIES) if limit else MOST_ENTRIES
            reply = yield Request("GET", "/api/v1/audit", query)
            found += reply["entries"]
            query["before"] = reply["next_before"]
            if query["before"] is None or (limit and len(found) >= limit):
                return found

    @Call
    def verify(self, known_id: int = 0, known_hash: str = "") -> Steps[shapes.AuditCheck]:
        """Whether every entry is as it was written. *known_id*, *known_hash*: the newest of an earlier check."""
        query = {"known_id": known_id or None, "known_hash": known_hash}
        reply: shapes.AuditCheck = yield Request("GET", "/api/v1/audit/verify", query)
        return reply


class Resources(Group[Mode]):
    """Everything else, by its path: mail servers, SonarQube, object storages, templates ... ``/openapi.json`` describes
    each."""

    @Call
    def get(self, /, path: str, **query: Any) -> Steps[Any]:
        """Read *path*, such as ``/openapi/environments``."""
        return (yield Request("GET", path, query, text=True))

    @Call
    def create(self, /, path: str, body: Any = None, **query: Any) -> Steps[Any]:
        """POST *body* to *path*; not repeated when its reply is lost."""
        return (yield Request("POST", path, query, body, text=True))

    @Call
    def replace(self, /, path: str, body: Any = None, **query: Any) -> Steps[Any]:
        """PUT *body* to *path*."""
        return (yield Request("PUT", path, query, body, repeatable=True, text=True))

    @Call
    def delete(self, /, path: str, **query: Any) -> Steps[Any]:
        """DELETE *path*."""
        return (yield Request("DELETE", path, query, text=True))
