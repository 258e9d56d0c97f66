"""Reading a live Zadig over HTTP: its documented routes, and those of its own pages where it documents none.

The client is the command line's own: it speaks to the address that the user named, as ``curl`` would, from the user's
machine. The guard of the server's outgoing calls is for addresses that other people gave.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cador.cli.client import Client, NoServer, Refused, Unreached, segment
from cador.cli.output import NOT_ALLOWED, USAGE, Failure

PAGE: Final = 100
MAX_PAGES: Final = 1_000
TRIES: Final = 3
PAUSE_S: Final = 0.2

Doc = dict[str, Any]


@dataclass(slots=True)
class Reader:
    """``missing``: what could not be read, with the reason. ``tell``: progress."""

    client: Client
    tell: Callable[[str], None]
    missing: list[str] = field(default_factory=list)

    # -- requests

    def get(self, path: str, **query: Any) -> Any:
        """Raises: Failure, Refused, Unreached."""
        for left in reversed(range(TRIES)):
            try:
                return self.client.get(path, **query)
            except Refused as error:
                if error.status == 401:
                    place = self.client.place
                    raise Failure(f"{place.url} does not know this token (--token)", NOT_ALLOWED) from error
                if error.status not in (429, 502, 503, 504) or not left:
                    raise
            except Unreached:
                if not left:
                    raise
            time.sleep(PAUSE_S)  # a server that is busy: asked again a little later
        raise AssertionError

    def optional(self, what: str, path: str, **query: Any) -> Any:
        """A reply, or None where this server or this token has none, which is told."""
        try:
            return self.get(path, **query)
        except (Refused, NoServer) as error:
            self.missing.append(f"{what}: {_reason(error)}")
            return None

    def paged(self, what: str, path: str, key: str, **query: Any) -> list[Doc]:
        """All elements of a list with ``pageNum`` and ``pageSize``, whether or not the server heeds them."""
        found: list[Doc] = []
        for number in range(1, MAX_PAGES + 1):
            reply = self.optional(what, path, **query, pageNum=number, pageSize=PAGE)
            page = _list(reply.get(key)) if isinstance(reply, Mapping) else _list(reply)
            if not page or page[0] in found:
                return found
            found += page
            total = reply.get("total") if isinstance(reply, Mapping) else None
            if (isinstance(total, int) and len(found) >= total) or (len(page) < PAGE and not isinstance(total, int)):
                return found
        self.missing.append(f"{what}: more than {MAX_PAGES * PAGE}, the rest is left out")
        return found

    # -- of the system

    def system(self) -> Doc:
        """Lists by what they are; those that this token may not read are empty."""
        self.tell("reading the system")
        return {
            "codehosts": _list(self.optional("code hosts", "/api/v1/codehosts")),
            "registries": _list(self.optional("image registries", "/openapi/system/registry")),
            "images": _list(self.optional("base images", "/api/aslan/system/basicImages")),
            "clusters": _list(self.optional("clusters", "/openapi/system/cluster")),
            "databases": _list(self.optional("databases", "/api/aslan/system/dbinstance/detail")),
            "users": self.paged("users", "/openapi/users", "users"),
            "groups": self.paged("user groups", "/openapi/user-groups", "group_list"),
        }

    # -- of a project

    def projects(self, wanted: tuple[str, ...]) -> list[Doc]:
        """All that the token may see, or those named. Raises: Failure: one is not there."""
        listed = self.paged("projects", "/openapi/projects/project", "projects")
        known = {str(one.get("project_key")): one for one in listed}
        for key in wanted:
            if key in known:
                continue
            detail = self.optional(f"project {key}", "/openapi/projects/project/detail", projectKey=key)
            if not isinstance(detail, Mapping) or detail.get("project_key") != key:
                raise Failure(f"there is no project {key} there, or the token may not see it", USAGE)
            known[key] = {**detail, "description": detail.get("desc") or ""}
        if not known:
            reason = self.missing[-1] if self.missing else "this token sees no project there"
            raise Failure(reason, NOT_ALLOWED)
        return [known[key] for key in sorted(wanted or known)]

    def project(self, key: str) -> Doc:
        """Everything of one project, in the shapes of its replies."""
        found: Doc = {"key": key}
        for name, read in (
            ("services", self._services),
            ("production", self._production),
            ("builds", self._builds),
            ("tests", self._tests),
            ("scans", self._scans),
            ("environments", self._environments),
            ("workflows", self._workflows),
            ("views", self._views),
            ("members", self._members),
        ):
            found[name] = list(read(key))
        counts = ", ".join(f"{len(found[name])} {name}" for name in found if name != "key" and found[name])
        self.tell(f"project {key}: {counts or 'empty'}")
        return found

    def _services(self, key: str, kind: str = "yaml") -> Iterator[Doc]:
        where = "/openapi/service/yaml"
        listed = f"{where}/production/services" if kind == "production" else f"{where}/services"
        for one in self._all(f"{key}: {kind} services", listed, "service_name", projectKey=key):
            name = str(one["service_name"])
            path = f"{where}/production/{segment(name)}" if kind == "production" else f"{where}/{segment(name)}"
            if one.get("type") not in (None, "", "k8s"):
                self.missing.append(f"{key}: service {name}: its type {one['type']} is not known here")
                continue
            if isinstance(full := self.optional(f"{key}: service {name}", path, projectKey=key), Mapping):
                yield {**one, **full, "service_name": name}

    def _production(self, key: str) -> Iterator[Doc]:
        return self._services(key, "production")

    def _builds(self, key: str) -> Iterator[Doc]:
        for one in self.paged(f"{key}: builds", "/openapi/build", "builds", projectKey=key):
            name = str(one.get("name") or "")
            full = self._first(
                f"{key}: build {name}",
                (f"/api/aslan/build/build/{segment(name)}", {"projectName": key, "productName": key}),
                (f"/openapi/build/{segment(name)}/detail", {"projectKey": key}),
            )
            if full is not None:
                yield {**full, "name": name}

    def _tests(self, key: str) -> Iterator[Doc]:
        query = {"projectName": key, "productName": key}
        for one in self._all(f"{key}: tests", "/api/aslan/testing/test", "name", **query):
            name = str(one["name"])
            full = self.optional(f"{key}: test {name}", f"/api/aslan/testing/test/{segment(name)}", **query)
            if isinstance(full, Mapping):
                yield {**full, "name": name}

    def _scans(self, key: str) -> Iterator[Doc]:
        reply = self.optional(f"{key}: scans", "/api/aslan/testing/scanning", projectName=key)
        listed = reply.get("scannings", reply.get("scanning")) if isinstance(reply, Mapping) else reply
        for one in _list(listed):
            path = f"/api/aslan/testing/scanning/{segment(str(one.get('id')))}"
            full = self.optional(f"{key}: scan {one.get('name')}", path, projectName=key)
            if isinstance(full, Mapping):
                yield dict(full)

    def _environments(self, key: str) -> Iterator[Doc]:
        for path, production in (("/openapi/environments", False), ("/openapi/environments/production", True)):
            what = f"{key}: {'production ' if production else ''}environments"
            for one in self._all(what, path, "env_key", projectKey=key):
                yield {**one, "production": production}

    def _workflows(self, key: str) -> Iterator[Doc]:
        for one in self._all(f"{key}: workflows", "/openapi/workflows", "workflow_key", projectKey=key):
            name = str(one["workflow_key"])
            if one.get("type") == "product":
                self.missing.append(
                    f"{key}: workflow {name}: product workflows of old releases have no definition to read"
                )
                continue
            full = self._first(
                f"{key}: workflow {name}",
                (f"/api/aslan/workflow/v4/name/{segment(name)}", {"projectName": key}),
                (f"/openapi/workflows/custom/{segment(name)}/detail", {"projectKey": key}),
            )
            if full is not None:
                yield {**full, "name": name}

    def _views(self, key: str) -> list[Doc]:
        return self._all(f"{key}: views", "/openapi/workflows/view", "name", projectKey=key)

    def _members(self, key: str) -> list[Doc]:
        return _list(self.optional(f"{key}: members", "/openapi/policy/role-bindings", namespace=key))

    def _all(self, what: str, path: str, name: str, **query: Any) -> list[Doc]:
        """A bare list, or the one list of an object; elements without *name* are left out. By name."""
        reply = self.optional(what, path, **query)
        if isinstance(reply, Mapping):
            reply = next((value for value in reply.values() if isinstance(value, list)), [])
        return sorted((one for one in _list(reply) if one.get(name)), key=lambda one: str(one[name]))

    def _first(self, what: str, *ways: tuple[str, Mapping[str, Any]]) -> Doc | None:
        """The first of several routes that answers with an object."""
        reason = "no route for it answers"
        for path, query in ways:
            try:
                reply = self.get(path, **query)
            except (Refused, NoServer) as error:
                reason = _reason(error)
                continue
            if isinstance(reply, Mapping) and reply:
                return dict(reply)
        self.missing.append(f"{what}: {reason}")
        return None


def _reason(error: Refused | NoServer) -> str:
    if isinstance(error, NoServer):
        return "there is a page for people and no such route"
    if error.status == 403:
        return "the token may not read it"
    if error.status in (404, 405):
        return "this server has no such route or object"
    return f"the server answered {error.status}: {error.message}"


def _list(value: Any) -> list[Doc]:
    return [dict(one) for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
