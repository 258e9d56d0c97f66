"""Every documented request of all five editions, sent to one running application.

``edition_<x>.yaml`` hold what the editions of the API documents show, ``setup/`` what their examples presuppose.
Replies are compared by shape; errors, and replies that only say "success", exactly, to the last key. What cannot be
served yet is named in ``left_out.yaml`` with the reason; it is sent all the same: the list cannot outlive the reason.

Jobs run on the scripted executor and code hosts are answered by a function: the documents' repositories and registries
do not exist.
"""

import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from cador.api.app import create_app
from cador.executors.scripted import Script, ScriptedExecutor, ScriptedWorld
from cador.operations.first_start import bootstrap_data
from cador.ports.code_hosts import Resolved
from cador.storage.database import open_database
from documents.shapes import differences, unmasked
from openapi.conformity import reply_faults
from support.world import World

HERE = Path(__file__).parent
EDITIONS = ("A", "B", "C", "D", "E")
SETS = (
    "base",
    "helm",
    "demo",
    "lilian-test",
    "simple-service-demo",
    "infra",
    "autoproject",
    "test-project",
    "my-workflow",
    "history",
)
TOKEN = "token-of-the-administrator"
STRANGER = {"account": "stranger", "name": "stranger", "email": "stranger@example.com", "password": "Replace-me-1"}
LEGACY_TASKS = {"autoproject-workflow-dev": "autoproject", "test-project-workflow-dev": "test-project"}
"""Projects of the workflows whose tasks the legacy routes ask for."""
STANDARD = frozenset({"code", "description", "extra", "message", "type"})
ANSWERS = frozenset({"code", "message", "resultCode", "errorMsg"})
"""A reply with none but these keys is compared exactly."""
FRAMES = re.compile(r"(?:event:message\ndata:[^\n]*\n\n)+")
DEADLINE_S = 30.0

pytestmark = pytest.mark.anyio


def load(name: str) -> Any:
    return yaml.load((HERE / name).read_text(), Loader=yaml.CSafeLoader)


LEFT_OUT: Mapping[str, str] = load("left_out.yaml") or {}
OUTSIDE: Mapping[str, str] = load("setup/left_out.yaml") or {}


def cases() -> Iterator[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Id, entry, what its request differs in, what is expected: destructive ones last."""
    found = []
    for edition in EDITIONS:
        for entry in load(f"edition_{edition}.yaml"):
            name = f"{edition}/{entry['name']}"
            found.append((name, entry, {}, entry["reply"]))
            for variant in entry.get("variants", ()):
                change = {key: value for key, value in variant.items() if key != "name"}
                found.append((f"{name} {variant['name']}", entry, change, entry["reply"]))
            for error in entry.get("errors", ()):
                if not error.get("unreachable"):
                    wanted = {"status": error["status"], "error": error["body"], "also": error.get("also", {})}
                    found.append((f"{name} {error['when']}", entry, error["request"], wanted))
    yield from sorted(found, key=lambda case: (bool(case[1].get("destroys")), _order(case)))


def _order(case: tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]) -> int:
    """What changes a task comes after those who look at it."""
    route = case[1]["name"].split("-")[0]
    late = {"L2": 1, "L3": 1, "C8": 1, "C7": 2, "C6": 3, "C9": 4, "C10": 5}
    return late.get(route, 0) if "error" not in case[3] else 0


CASES = list(cases())


class Documents:
    """The server with all its set-up, and what the examples' ids became."""

    def __init__(self, world: World, client: httpx2.AsyncClient) -> None:
        self.world, self.client = world, client
        self.ids: dict[str, Any] = {}
        self.stranger = ""
        self.hold = False

    async def send(self, method: str, path: str, *, who: str = "", **options: Any) -> httpx2.Response:
        """*who*: ``nobody`` sends no token, a ``stranger`` has no roles, ``X-API-KEY`` is the scheme of edition A."""
        token = f"Bearer {self.stranger if who == 'stranger' else TOKEN}"
        if who == "X-API-KEY":
            token = f"X-API-KEY {TOKEN}"
        headers = {**({} if who == "nobody" else {"Authorization": token}), **options.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **options)

    def filled(self, value: Any) -> Any:
        """``${name}`` replaced; a text that is one reference takes the value's own type."""
        match value:
            case str() if value.startswith("${") and value.endswith("}"):
                return self.ids.get(value[2:-1], value)
            case Mapping():
                return {key: self.filled(member) for key, member in value.items()}
            case list():
                return [self.filled(member) for member in value]
            case _:
                return value

    async def prepare(self) -> None:
        for name in SETS:
            wanted = load(f"setup/{name}.yaml")
            for request in wanted["requests"]:
                await self._prepare(request)
            for task in wanted.get("tasks", ()):
                await self._tasks(task["body"], task["times"], task["then"])
        user = (await self.send("POST", "/openapi/users", json=STRANGER)).json()
        reply = await self.send("POST", f"/openapi/users/{user['uid']}/tokens", json={"name": "test"})
        self.stranger = reply.json()["token"]

    async def _prepare(self, request: Mapping[str, Any]) -> None:
        method, path = request["send"].split(" ")
        reply = await self.send(method, path, params=request.get("query"), json=self.filled(request["body"]))
        outside = OUTSIDE.get(path) or OUTSIDE.get(request["what"])
        if outside:
            assert reply.status_code != 200, f"{request['what']} is served now: take it from setup/left_out.yaml"
            return
        existed = request.get("may_exist") and reply.status_code == 400
        assert reply.status_code == 200 or existed, (request["what"], reply.text)
        for capture in request.get("captures", ()):
            self.ids[capture["name"]] = await self._captured(capture)

    async def _captured(self, capture: Mapping[str, Any]) -> Any:
        found = (await self.send("GET", capture["get"], params=capture.get("query"))).json()
        if capture.get("list"):
            found = found[capture["list"]]
        wanted = capture["where"] if isinstance(capture["where"], list) else [capture["where"]]
        for entry in found:
            if any(where.items() <= entry.items() for where in wanted):
                return entry[capture["take"]]
        raise AssertionError(f"{capture['name']}: nothing fits {wanted} in {found}")

    async def start(self, body: Mapping[str, Any], *, hold: bool = False) -> int:
        """Start a task; its jobs end at once unless they are to *hold* on."""
        self.hold = hold
        reply = await self.send("POST", "/openapi/workflows/custom/task", json=self.filled(body))
        assert reply.status_code == 200, reply.text
        number: int = reply.json()["task_id"]
        return number

    async def _tasks(self, body: Mapping[str, Any], times: int, then: str) -> None:
        key = body["workflow_key"]
        for one in range(times):
            cancelled = "fail" in then or (then == "cancel the last" and one == times - 1)
            number = await self.start(body, hold=cancelled)
            if cancelled:
                await self.world.cancel(key, number)
            elif then.startswith(("approve", "leave")):
                await self.waits(key, number)
            if then.startswith("approve"):
                vote = {"task_id": number, "workflow_key": key, "stage_name": "Deploy", "approve": True}
                path = "/openapi/workflows/custom/task/approve"
                reply = await self.send("POST", path, json={**vote, "comment": "LGTM"})
                assert reply.status_code == 200, reply.text
            if not then.startswith("leave"):
                await self.world.done(key, number, within_s=DEADLINE_S)

    async def waits(self, key: str, number: int) -> None:
        """Until the task waits for an approval."""
        await self.world.until(key, number, lambda d: d.row.waiting_for == "approval", within_s=DEADLINE_S)


async def _answered(repos: Sequence[Any], within_s: float) -> list[Resolved]:
    facts = {
        "commit_id": "a13120997b95d8b63f2b5b29c700f89d38a5de54",
        "commit_message": "update",
        "author_name": "grandy",
        "address": "https://gitee.com",
    }
    return [Resolved(facts) for _ in repos]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def documents(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Documents]:
    folder = tmp_path_factory.mktemp("documents")
    db = await open_database(f"sqlite:///{folder / 'cador.db'}", pool=2)
    held = ScriptedWorld(time.time)
    world = World(folder, db, time.time, ScriptedExecutor(held))
    world.scripted, world.resolve = held, _answered
    site: Documents | None = None

    def script(key: str, job: Any) -> Script | None:
        return Script(after_s=600.0 if site is not None and site.hold else 0.0, lines=((0.0, "log message line 1"),))

    world.scripts = {"every job": Script()}
    world._script = script  # type: ignore[method-assign]
    await world.boot()
    try:
        await bootstrap_data(world.ctx, admin_token=TOKEN)
        app = create_app(world.ctx, access_log=False)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as client:
            site = Documents(world, client)
            await site.prepare()
            yield site
    finally:
        await world.close()


async def replay(
    site: Documents, entry: Mapping[str, Any], change: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Send one documented request; fails where the answer is not the documented one."""
    request = {**entry["request"], **change}
    language = {"Accept-Language": request["language"]} if request["language"] else {}
    body = site.filled(request.get("body"))
    reply = await site.send(
        request["method"],
        request["path"],
        who=request.get("as", ""),
        params=request.get("query"),
        json=body,
        headers=language,
    )
    assert reply.status_code == wanted["status"], reply.text
    kind = reply.headers["content-type"]
    parsed = reply.json() if kind.startswith("application/json") else None
    assert reply_faults(request["method"], request["path"], reply.status_code, kind, parsed) == []
    if "error" in wanted:
        _same_error(reply.json(), wanted["error"], wanted["also"])
        return
    if isinstance(wanted["body"], list) and entry["name"].startswith("G"):
        assert reply.headers["content-type"].split(";")[0] == wanted["content_type"].split(";")[0]
        assert FRAMES.fullmatch(reply.text) if entry["name"] == "G1" else reply.text.endswith("\n")
        return
    found = reply.json()
    if isinstance(wanted["body"], dict) and wanted["body"].keys() <= ANSWERS:
        assert found == wanted["body"]
        return
    assert differences(wanted["body"], found, free=wanted.get("free", ()), enums=wanted.get("enums")) == []
    assert unmasked(found, wanted.get("masked", ())) == []
    assert "choice_否" not in reply.text


def _same_error(found: Mapping[str, Any], documented: Mapping[str, Any], also: Mapping[str, Any]) -> None:
    """The documented body and nothing else. *also*: keys that the legacy routes add to the documents' bodies.

    Edition A shows only those keys; the standard ones stand beside them.
    """
    if documented.keys() <= {"resultCode", "errorMsg"}:
        assert set(found) - documented.keys() == STANDARD
        found = {key: found[key] for key in documented}
    assert found == {**documented, **also}


@pytest.mark.parametrize(("name", "entry", "change", "wanted"), CASES, ids=[case[0] for case in CASES])
async def test_documented_request(
    documents: Documents, name: str, entry: dict[str, Any], change: dict[str, Any], wanted: dict[str, Any]
) -> None:
    reason = LEFT_OUT.get(name) or LEFT_OUT.get(entry["name"])
    if "error" not in wanted:
        change = {**change, **await _fresh(documents, entry)}
    try:
        await replay(documents, entry, change, wanted)
    except AssertionError:
        if reason is None:
            raise
        return
    assert reason is None, f"{name} is served now: take it from left_out.yaml"


async def _fresh(site: Documents, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Bring about what a request needs and an earlier edition's has used up; what of the request changes by that."""
    request = entry["request"]
    route = entry["name"].split("-")[0]
    if route == "C7":
        body = {"project_key": "simple-service-demo", "workflow_key": "build-images"}
        number = await site.start({**body, "inputs": [{"job_name": "echo-hello"}]}, hold=True)
        await site.world.cancel("build-images", number)
        await site.world.done("build-images", number, within_s=DEADLINE_S)
        return {"path": request["path"].rpartition("/")[0] + f"/{number}"}
    if route == "C8":
        body = {"project_key": "infra", "workflow_key": "infra-dev-workflow"}
        number = await site.start({**body, "inputs": [{"job_name": "deploy"}]})
        await site.waits("infra-dev-workflow", number)
        parts = [part for part in ("query", "body") if "task_id" in request.get(part, ())]
        return {part: {**request[part], "task_id": number} for part in parts}
    if route in ("L2", "L3", "L5"):
        key = request["path"].split("/")[7]
        number = await _legacy_task(site, key, hold=route != "L5")
        return {"path": re.sub(r"/id/[0-9]+/", f"/id/{number}/", request["path"])}
    if route == "V2":
        query = {"projectKey": request["body"]["project_key"]}
        await site.send("DELETE", f"/openapi/workflows/view/{request['body']['name']}", params=query)
    elif route == "V4":
        await _sent_again(site, "view-test-view")
    if route == "C9":
        query = {"workflowKey": "workflow-demo", "projectKey": "demo"}
        await site.send("DELETE", "/openapi/workflows/custom", params=query)
    elif route == "C11":
        await _sent_again(site, "workflow-just-deploy")
    return {}


async def _sent_again(site: Documents, what: str) -> None:
    """Make anew what an earlier edition's request has deleted; where it exists, the server says so."""
    again = next(other for other in load("setup/lilian-test.yaml")["requests"] if other["what"] == what)
    method, path = again["send"].split(" ")
    await site.send(method, path, params=again.get("query"), json=site.filled(again["body"]))


async def _legacy_task(site: Documents, key: str, *, hold: bool) -> int:
    """A task of a product workflow: cancelled while it runs if it is to *hold*, else ended by itself."""
    detail = await site.send("GET", f"/openapi/workflows/custom/{key}/detail", params={"projectKey": LEGACY_TASKS[key]})
    jobs = [job["name"] for stage in detail.json()["stages"] for job in stage["jobs"] if job["name"] != "release"]
    inputs = [{"job_name": name, "job_type": "", "parameters": {}} for name in jobs]
    body = {"project_key": LEGACY_TASKS[key], "workflow_key": key, "inputs": inputs}
    number = await site.start(body, hold=hold)
    if hold:
        await site.world.cancel(key, number)
    detail = await site.world.done(key, number, within_s=DEADLINE_S)
    # Scripted jobs leave no files: what the server would have read in the reports of the tests is put down here.
    facts = {"tests": 24, "successes": 24, "failures": 0, "skips": 0, "errors": 0, "time": 0.0, "cases": []}
    tests = [job.row.id for stage in detail.stages for job in stage.jobs if job.row.type == "zadig-test"]
    for job_id in tests:
        await site.world.db.write(lambda tx, job_id=job_id: tx.tasks.merge_result(job_id, {"junit": facts}))
    return number


def test_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Print how much of each edition is replayed, and what is not."""
    names = {case[0] for case in CASES} | {case[1]["name"] for case in CASES}
    assert set(LEFT_OUT) <= names, "left_out.yaml names requests that are none"
    sent = Counter(case[0][0] for case in CASES)
    missing = Counter(case[0][0] for case in CASES if case[0] in LEFT_OUT or case[1]["name"] in LEFT_OUT)
    with capsys.disabled():
        print()
        for edition in EDITIONS:
            print(f"{edition}: {sent[edition] - missing[edition]}/{sent[edition]}")
        for name, reason in LEFT_OUT.items():
            print(f"  left out: {name}: {reason}")
        for name, reason in OUTSIDE.items():
            print(f"  set-up left out: {name}: {reason}")
