"""Action ``tapd``: set the status of iterations of a project in TAPD.

Arguments: ``address``, ``client_id``, ``client_secret``, ``project_id``, ``project_name``, ``status``, ``iterations``
(objects with ``iteration_id``, ``iteration_name``, ``start_date``, ``end_date``).

All iterations are looked up before the first is changed, so that an unknown one changes nothing. One that was asked to
change is waited for even when the job is cancelled meanwhile: what became of it stands in the result.
"""

import asyncio
import base64
import json
import time
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from cador.jobs.server import FACTS
from cador.ports.actions import ActionFailed, ActionRun
from cador.ports.outgoing import Outgoing, OutgoingError, Reply

REQUEST_S: Final = 30.0
TRIES: Final = 2
AGAIN_S: Final = 1.0
AT_ONCE: Final = 50
"""Iterations asked for in one request."""
A_PAGE: Final = 200
"""Iterations in one answer where all are asked for: the most that TAPD gives."""
MOST_LISTED: Final = 2_000
EARLY_S: Final = 60.0
"""A token is not used so shortly before it expires."""
FINISH_S: Final = 3.0
"""How long a change that was asked for is waited for when the job is to end."""
TOKENS: Final = 100
WHO: Final = "cador"
"""Whom TAPD is told to have made the change."""

R = TypeVar("R")


class Refused(Exception):
    """TAPD said no, or nothing; ``str()`` is what it said."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    until: float


class Tapd:
    """One for all jobs of a server: it keeps tokens until they expire."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._tokens: OrderedDict[tuple[str, str, str], _Token] = OrderedDict()

    async def run(self, run: ActionRun, arguments: Mapping[str, Any]) -> None:
        """See :data:`cador.ports.actions.Action`."""
        told = _Told(run, arguments)
        try:
            await self._change_all(run, _Connection(self, arguments), arguments, told)
        except Refused as error:
            raise ActionFailed(run.mask(str(error))) from error
        finally:
            told.leave()

    async def _change_all(
        self, run: ActionRun, tapd: "_Connection", arguments: Mapping[str, Any], told: "_Told"
    ) -> None:
        project, status = arguments["project_id"], arguments["status"]
        told.project(await tapd.project(project))
        found = await tapd.iterations(project, list(told.iterations))
        for ident, entry in told.iterations.items():
            if ident not in found:
                entry["error"] = f"iteration {ident} not found in project {project}"
                raise Refused(entry["error"])
            told.describe(ident, found[ident])

        async def change(ident: str, entry: dict[str, str]) -> None:
            try:
                await tapd.change(project, ident, status)
            except Refused as error:
                entry["error"] = run.mask(str(error))
                raise Refused(f"iteration {ident}: {error}") from error
            run.line(f"iteration {ident}: done")

        for ident, entry in told.iterations.items():
            run.line(f"iteration {ident} {entry['iteration_name']}: set status {status}")
            await _finished(change(ident, entry))

    async def check(self, arguments: Mapping[str, Any]) -> None:
        """Log in with ``address``, ``client_id`` and ``client_secret``. Raises: Refused."""
        await self.token(_Connection(self, arguments), fresh=True)

    async def projects(self, arguments: Mapping[str, Any], company: str) -> list[Mapping[str, Any]]:
        """All of a company. *arguments*: as of :meth:`check`. Raises: Refused."""
        found = await _Connection(self, arguments).projects(company)
        return [_inner(entry, "Workspace") for entry in found]

    async def iterations(self, arguments: Mapping[str, Any], project: str, status: str) -> list[Mapping[str, Any]]:
        """Of a project, newest first; *status* empty: whatever it is. Raises: Refused."""
        found = await _Connection(self, arguments).all_iterations(project, status)
        return [_inner(entry, "Iteration") for entry in found]

    async def token(self, connection: "_Connection", *, fresh: bool = False) -> str:
        known = self._tokens.get(connection.account)
        if known is not None and not fresh and time.monotonic() < known.until:
            return known.text
        data = await connection.new_token()
        text, lasts_s = data.get("access_token"), data.get("expires_in")
        if not isinstance(text, str) or not text:
            raise Refused("TAPD gave no access token")
        lasts = float(lasts_s) if isinstance(lasts_s, (int, float)) else 0.0
        self._tokens[connection.account] = _Token(text, time.monotonic() + lasts - EARLY_S)
        self._tokens.move_to_end(connection.account)
        if len(self._tokens) > TOKENS:
            self._tokens.popitem(last=False)
        return text

    async def send(self, method: str, url: str, **more: Any) -> Reply:
        """One request, and once more when the other side is in trouble. Raises: Refused: no answer."""
        for number in range(1, TRIES + 1):
            try:
                reply = await self._outgoing(method, url, chosen_by="operator", within_s=REQUEST_S, **more)
            except OutgoingError as error:
                raise Refused(str(error)) from error
            if reply.status < 500 or number == TRIES:
                return reply
            await asyncio.sleep(AGAIN_S)
        raise AssertionError("unreachable")


class _Connection:
    """Calls with the credentials of one integration."""

    def __init__(self, client: Tapd, arguments: Mapping[str, Any]) -> None:
        self._client = client
        self._address = arguments["address"].rstrip("/")
        self._credentials = (arguments["client_id"], arguments["client_secret"])
        self.account = (self._address, *self._credentials)

    async def new_token(self) -> Mapping[str, Any]:
        client, secret = self._credentials
        reply = await self._client.send(
            "POST",
            f"{self._address}/tokens/request_token",
            headers={"Authorization": _basic(client, secret)},
            form={"grant_type": "client_credentials"},
        )
        data = _data(reply, "log in")
        return data if isinstance(data, Mapping) else {}

    async def project(self, ident: str) -> str:
        """The name of a project."""
        found = await self._ask(
            "GET", "/workspaces/get_workspace_info", f"find project {ident}", params={"workspace_id": ident}
        )
        return _text(_inner(found, "Workspace").get("name"))

    async def projects(self, company: str) -> list[Any]:
        what = f"list the projects of company {company}"
        found = await self._ask("GET", "/workspaces/projects", what, params={"company_id": company})
        return found if isinstance(found, list) else []

    async def all_iterations(self, project: str, status: str) -> list[Any]:
        """At most :data:`MOST_LISTED`."""
        query = {"workspace_id": project, "order": "created desc", "limit": str(A_PAGE)}
        if status:
            query["status"] = status
        found: list[Any] = []
        for page in range(1, MOST_LISTED // A_PAGE + 1):
            what = f"list the iterations of project {project}"
            listed = await self._ask("GET", "/iterations", what, params={**query, "page": str(page)})
            more = listed if isinstance(listed, list) else []
            found += more
            if len(more) < A_PAGE:
                break
        return found

    async def iterations(self, project: str, idents: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Those of *idents* that are there, by id."""
        found: dict[str, Mapping[str, Any]] = {}
        for at in range(0, len(idents), AT_ONCE):
            some = idents[at : at + AT_ONCE]
            params = {"workspace_id": project, "id": ",".join(some), "limit": str(AT_ONCE), "page": "1"}
            listed = await self._ask("GET", "/iterations", f"list the iterations of project {project}", params=params)
            for entry in listed if isinstance(listed, list) else []:
                iteration = _inner(entry, "Iteration")
                found[_text(iteration.get("id"))] = iteration
        return {ident: found[ident] for ident in idents if ident in found}

    async def change(self, project: str, ident: str, status: str) -> None:
        form = {"workspace_id": project, "id": ident, "current_user": WHO, "status": status}
        await self._ask("POST", "/iterations", f"set the status of iteration {ident}", form=form)

    async def _ask(self, method: str, path: str, what: str, **more: Any) -> Any:
        for fresh in (False, True):
            token = await self._client.token(self, fresh=fresh)
            headers = {"Authorization": f"Bearer {token}"}
            reply = await self._client.send(method, self._address + path, headers=headers, **more)
            if reply.status != 401:
                break  # else the token was withdrawn before its time: once more with a new one
        return _data(reply, what)


class _Told:
    """What the job left so far: iterations by id, with the names and dates that TAPD told."""

    def __init__(self, run: ActionRun, arguments: Mapping[str, Any]) -> None:
        self._run = run
        self._project_name = arguments["project_name"]
        self.iterations: dict[str, dict[str, str]] = {
            entry["iteration_id"]: {**entry, "error": ""} for entry in arguments["iterations"]
        }

    def project(self, name: str) -> None:
        self._project_name = self._project_name or name

    def describe(self, ident: str, found: Mapping[str, Any]) -> None:
        entry = self.iterations[ident]
        for key, theirs in (("iteration_name", "name"), ("start_date", "startdate"), ("end_date", "enddate")):
            entry[key] = entry[key] or _text(found.get(theirs))

    def leave(self) -> None:
        told = {"project_name": self._project_name, "iterations": list(self.iterations.values())}
        self._run.leave(FACTS, json.dumps(told, ensure_ascii=False))


async def _finished(work: Coroutine[Any, Any, R]) -> R:
    """The result of *work*, which is not broken off with the caller: it gets a little time to end."""
    child = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(child)
    except asyncio.CancelledError:
        await asyncio.wait([child], timeout=FINISH_S)
        child.cancel()
        await asyncio.wait([child])
        if not child.cancelled():
            child.exception()  # it was heard; the job ends as cancelled
        raise


def _data(reply: Reply, what: str) -> Any:
    """``data`` of an answer. Raises: Refused."""
    try:
        answer = reply.json()
    except OutgoingError:
        answer = None
    if isinstance(answer, Mapping):
        if reply.ok and answer.get("status") == 1:
            return answer.get("data")
        if info := _text(answer.get("info")):
            raise Refused(f"TAPD does not {what}: {info[:1000]}")
    raise Refused(f"TAPD does not {what}: it answered {reply.status}")


def _inner(value: Any, name: str) -> Mapping[str, Any]:
    """An object, bare or wrapped in one with its kind's *name*."""
    found = value.get(name, value) if isinstance(value, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
