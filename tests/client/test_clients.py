"""Both clients against a real server over a socket: the same calls with the same results, by one definition."""

import asyncio
import inspect
import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from api.site import ADMIN, Site, definition, site
from cador.client import ApiError, AsyncClient, Client, OddReply, TimedOut, Unreachable
from cador.client.groups import Groups
from cador.client.methods import Call, Stream
from cador.client.wire import Event, Request, Source
from support.http_peer import peer, reply
from support.world import PROJECT

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Site, str]]:
    async with site(tmp_path_factory.mktemp("clients")) as server, server.served() as url:
        yield server, url


class Both:
    """Calls of either client, awaited."""

    def __init__(self, url: str, token: str, *, awaited: bool, **options: Any) -> None:
        self.client: Any = AsyncClient(url, token, **options) if awaited else Client(url, token, **options)
        self.awaited = awaited

    async def __call__(self, choose: Callable[[Any], Callable[..., Any]], *args: Any, **kwargs: Any) -> Any:
        call = choose(self.client)
        if self.awaited:
            return await call(*args, **kwargs)
        return await asyncio.to_thread(call, *args, **kwargs)

    async def events(self, stream: Any) -> list[Event]:
        if self.awaited:
            return [event async for event in stream]
        return await asyncio.to_thread(list, stream)

    async def close(self) -> None:
        if self.awaited:
            await self.client.close()
        else:
            self.client.close()


@pytest.fixture(params=["sync", "async"])
async def both(request: pytest.FixtureRequest, served: tuple[Site, str]) -> AsyncIterator[Both]:
    made = Both(served[1], ADMIN, awaited=request.param == "async")
    yield made
    await made.close()


async def test_from_a_definition_to_the_end_of_its_task(both: Both) -> None:
    key = f"made-{'async' if both.awaited else 'sync'}"
    assert await both(lambda c: c.workflows.validate, definition(key)) == []
    await both(lambda c: c.workflows.create, definition(key))
    assert key in {line["workflow_key"] for line in await both(lambda c: c.workflows.list, PROJECT)}
    assert (await both(lambda c: c.workflows.get, key, PROJECT))["workflow_key"] == key
    started = await both(lambda c: c.tasks.start, key, PROJECT, inputs=[{"job_name": "say"}], remark="by a client")
    number = started["task_id"]
    task = await both(lambda c: c.tasks.wait, key, number, timeout_s=30)
    assert (task["status"], task["task_id"]) == ("passed", number)
    page = await both(lambda c: c.tasks.list, key, PROJECT)
    assert (page["total"], page["workflow_tasks"][0]["remark"]) == (1, "by a client")
    job = task["stages"][0]["jobs"][0]["name"]
    events = await both.events(both.client.logs.follow(key, number, job))
    assert any("hello" in event.data for event in events)
    assert events[-1].event == "end"
    assert json.loads(events[-1].data)["status"] == "passed"
    assert "hello" in await both(lambda c: c.logs.read, key, number, job)
    behind = next(event.id for event in events if "hello" in event.data)
    again = await both.events(both.client.logs.follow(key, number, job, last_id=behind))
    assert not any("hello" in event.data for event in again)
    assert await both(lambda c: c.tasks.artifacts, key, number) == []
    await both(lambda c: c.workflows.delete, key, PROJECT)


async def test_a_start_with_one_key_happens_once(both: Both) -> None:
    key = f"once-{'async' if both.awaited else 'sync'}"
    await both(lambda c: c.workflows.create, definition(key))
    starts = [
        await both(lambda c: c.tasks.start, key, PROJECT, inputs=[{"job_name": "say"}], idempotency_key=f"{key}-1")
        for _ in range(2)
    ]
    assert starts[0]["task_id"] == starts[1]["task_id"]


async def test_what_else_is_there(both: Both) -> None:
    me = await both(lambda c: c.server.me)
    assert me["account"] == "admin"
    await both(lambda c: c.server.wait_until_ready)
    assert await both(lambda c: c.server.version)
    made = await both(lambda c: c.tokens.create, me["uid"], "of a test", expires_in_days=1)
    assert made["token"].startswith("cador_")
    await both(lambda c: c.tokens.delete, me["uid"], made["id"])
    assert made["id"] not in {token["id"] for token in await both(lambda c: c.tokens.list, me["uid"])}
    await both(lambda c: c.views.create, PROJECT, "mine", [{"workflow_key": "w", "workflow_type": "custom"}])
    assert [view["name"] for view in await both(lambda c: c.views.list, PROJECT)] == ["mine"]
    await both(lambda c: c.views.delete, PROJECT, "mine")
    await both(lambda c: c.secrets.put, "kept", {"token": "planted-4711"})
    assert "planted-4711" not in str(await both(lambda c: c.secrets.list))
    await both(lambda c: c.secrets.delete, "kept")
    text = await both(lambda c: c.configuration.export, PROJECT)
    applied = await both(lambda c: c.configuration.apply, text, dry_run=True)
    assert {one["error"] for one in applied["results"]} == {""}
    projects = await both(lambda c: c.resources.get, "/openapi/projects/project", pageSize=10)
    assert projects["projects"][0]["project_key"] == PROJECT


MANIFEST = "kind: Deployment\nspec: {template: {spec: {containers: [{name: api, image: a/api:1}]}}}\n"


async def test_projects_and_what_belongs_to_them(both: Both) -> None:
    key = "of-async" if both.awaited else "of-sync"
    await both(lambda c: c.projects.create, key, "Of a client", description="one", public=True)
    await both(lambda c: c.projects.change, key, description="two")
    project = await both(lambda c: c.projects.get, key)
    assert (project["project_name"], project["desc"], project["is_public"]) == ("Of a client", "two", True)
    assert key in {one["project_key"] for one in await both(lambda c: c.projects.list)}
    await both(lambda c: c.projects.set_variables, key, [{"key": "A", "value": "1"}])
    assert (await both(lambda c: c.projects.variables, key))["variables"][0]["value"] == "1"

    registry = {"name": key, "provider": "native", "address": "https://r.example.com", "namespace": key}
    await both(lambda c: c.registries.create, registry)
    for production in (False, True):
        of = {"production": production}
        await both(lambda c: c.services.create, key, "api", MANIFEST, variables=[{"key": "P", "value": "1"}], **of)
        await both(lambda c: c.services.replace, key, "api", MANIFEST.replace("api:1", "api:2"), **of)
        await both(lambda c: c.services.set_variables, key, "api", [{"key": "P", "value": "2"}], **of)
        service = await both(lambda c: c.services.get, key, "api", **of)
        assert (service["revision"], service["containers"][0]["image"]) == (3, "a/api:2")
        assert [one["service_name"] for one in await both(lambda c: c.services.list, key, **of)] == ["api"]
        name = f"{key}-{'prod' if production else 'dev'}"
        where = {"cluster_name": "local", "namespace": name, "registry_id": key}
        await both(lambda c: c.environments.create, key, name, where, **of)
        state = await both(lambda c: c.environments.add_services, key, name, [{"service_name": "api"}], **of)
        assert state[0]["env_name"] == name
        await both(lambda c: c.environments.update_services, key, name, [{"service_name": "api"}], **of)
        await both(lambda c: c.environments.set_variables, key, name, [{"key": "G", "value": "1"}], **of)
        await both(lambda c: c.environments.change, key, name, name="Shown", **of)
        env = await both(lambda c: c.environments.get, key, name, **of)
        assert (env["env_name"], [one["service_name"] for one in env["services"]]) == ("Shown", ["api"])
        assert env["production"] is production
        await both(lambda c: c.environments.remove_services, key, name, ["api"], **of)
        assert [one["env_key"] for one in await both(lambda c: c.environments.list, key, **of)] == [name]
        await both(lambda c: c.environments.delete, key, name, **of)
        await both(lambda c: c.services.delete, key, "api", **of)

    script = {"build_os": "ubuntu 22.04", "advanced_settings": {"cluster_name": "local"}}
    bodies = {
        "builds": {**script, "build_script": "make"},
        "tests": {**script, "script": "make test"},
        "scans": {"image_name": "ubuntu 22.04", "scanner_type": "other", "script": "make lint",
                  "advanced_settings": {"cluster_name": "local"}},
    }  # fmt: skip
    for kind, body in bodies.items():
        name = f"{key}-{kind}"
        await both(lambda c, k=kind: getattr(c, k).create, key, {**body, "name": name})
        await both(lambda c, k=kind: getattr(c, k).replace, key, {**body, "name": name, "description": "new"})
        assert [one["name"] for one in await both(lambda c, k=kind: getattr(c, k).list, key)] == [name]
        assert (await both(lambda c, k=kind: getattr(c, k).get, key, name))["update_by"] == "Admin"
        if kind != "builds":
            run = await both(lambda c, k=kind: getattr(c, k).run, key, name)
            assert (await both(lambda c, k=kind: getattr(c, k).result, key, name, run["task_id"]))["task_id"] == 1
        await both(lambda c, k=kind: getattr(c, k).delete, key, name)
    await both(lambda c: c.projects.delete, key)
    await both(lambda c: c.registries.delete, key)
    assert key not in {one["project_key"] for one in await both(lambda c: c.projects.list)}


async def test_people(both: Both) -> None:
    account = "zoe.async" if both.awaited else "zoe.sync"
    made = await both(lambda c: c.users.create, account, "Replace-me-1", name="Zoe")
    uid = made["uid"]
    await both(lambda c: c.users.change, uid, email="zoe@example.com")
    assert (await both(lambda c: c.users.get, uid))["email"] == "zoe@example.com"
    assert (await both(lambda c: c.users.find, account))["uid"] == uid
    assert await both(lambda c: c.users.find, account[:3]) is None
    assert account in {one["account"] for one in await both(lambda c: c.users.list)}
    token = await both(lambda c: c.server.login, account, "Replace-me-1")
    assert token.startswith("cador_")
    sessions = await both(lambda c: c.tokens.list, uid)
    assert [one["kind"] for one in sessions] == ["session"]
    assert uid in {one["uid"] for one in await both(lambda c: c.tokens.of_all)}
    made = await both(lambda c: c.tokens.create, uid, "one")
    again = await both(lambda c: c.tokens.rotate, uid, made["id"])
    assert again["token"] != made["token"]
    await both(lambda c: c.tokens.delete, uid, made["id"])

    group = await both(lambda c: c.groups.create, f"of {account}", [uid])
    ident = group["id"]
    assert (await both(lambda c: c.groups.remove, ident, uid))["users"] == []
    assert [one["account"] for one in (await both(lambda c: c.groups.add, ident, [uid]))["users"]] == [account]
    assert (await both(lambda c: c.groups.change, ident, description="all"))["user_total"] == 1
    assert (await both(lambda c: c.groups.find, f"of {account}"))["id"] == ident
    assert (await both(lambda c: c.groups.get, ident))["description"] == "all"
    assert ident in {one["id"] for one in await both(lambda c: c.groups.list)}

    role = f"tester-{account[4:]}"
    await both(lambda c: c.roles.create, role, ["get_test"], PROJECT)
    await both(lambda c: c.roles.change, role, PROJECT, actions=["get_test", "run_test"])
    verbs = [verb for rule in (await both(lambda c: c.roles.get, role, PROJECT))["rules"] for verb in rule["verbs"]]
    assert sorted(verbs) == ["get_test", "run_test"]
    assert role in {one["name"] for one in await both(lambda c: c.roles.list, PROJECT)}
    assert "run_test" in {one["action"] for kind in await both(lambda c: c.roles.actions) for one in kind["rules"]}
    await both(lambda c: c.roles.give, role, PROJECT, uids=[uid], groups=[ident])
    have = await both(lambda c: c.roles.members, PROJECT)
    assert sum(role in one["roles"] for one in have) == 2
    await both(lambda c: c.roles.set_user, uid, [], PROJECT)
    await both(lambda c: c.roles.set_group, ident, [], PROJECT)
    await both(lambda c: c.roles.delete, role, PROJECT)
    await both(lambda c: c.groups.delete, ident)
    await both(lambda c: c.users.delete, uid)
    entries = await both(lambda c: c.audit.list, limit=3)
    assert entries[0]["action"] == "delete_user"
    assert (await both(lambda c: c.audit.verify))["ok"]


async def test_the_system(both: Both) -> None:
    name = "one.async" if both.awaited else "one.sync"
    host = {"name": name, "type": "other", "address": "file:///srv/git"}
    registry = {"name": name, "provider": "native", "address": "https://r.example.com", "namespace": name}
    database = {"name": name, "type": "mysql", "host": "db", "port": "3306", "username": "u", "password": "p4ss-word"}
    for kind, body, known in (
        ("codehosts", host, "name"), ("registries", registry, "name"), ("databases", database, "name"),
        ("clusters", {"name": name, "type": "kubeconfig", "kube_config": "clusters: []"}, "name"),
    ):  # fmt: skip
        await both(lambda c, k=kind: getattr(c, k).create, body)
        found = [one for one in await both(lambda c, k=kind: getattr(c, k).list) if one[known] == name]
        assert len(found) == 1, kind
        ident = found[0].get("cluster_id") or found[0].get("registry_id") or found[0]["id"]
        assert (await both(lambda c, k=kind: getattr(c, k).get, ident))[known] == name
        assert "p4ss" not in str(found)
        await both(lambda c, k=kind: getattr(c, k).replace, ident, body)
        await both(lambda c, k=kind: getattr(c, k).delete, ident)
    settings = await both(lambda c: c.server.change_settings, {"engine.max_running_tasks": 7})
    assert next(one for one in settings if one["name"] == "engine.max_running_tasks")["value"] == 7
    await both(lambda c: c.server.change_settings, {"engine.max_running_tasks": None})
    assert not any(one["live"] for one in await both(lambda c: c.server.settings))
    text = f"project: {{ key: {PROJECT} }}\nservices: {{ gone: {{ yaml: 'a: 1' }} }}\n"
    await both(lambda c: c.configuration.apply, text)
    done = await both(lambda c: c.configuration.delete, text, dry_run=True)
    assert {one["action"] for one in done["results"]} <= {"deleted", "error"}


async def test_a_refusal_says_which_operation_failed_and_why(both: Both) -> None:
    with pytest.raises(ApiError, match="Find workflow failed") as caught:
        await both(lambda c: c.tasks.start, "no-such", PROJECT)
    assert (caught.value.status, caught.value.code) == (400, 6542)
    assert caught.value.description
    with pytest.raises(ApiError) as caught:
        await both(lambda c: c.tasks.why, "no-such", 1)
    assert (caught.value.status, caught.value.message) == (404, "Not Found")


async def test_waiting_ends_when_it_should(served: tuple[Site, str], both: Both) -> None:
    key = f"long-{'async' if both.awaited else 'sync'}"
    await both(lambda c: c.workflows.create, definition(key, "exec sleep 600"))
    number = (await both(lambda c: c.tasks.start, key, PROJECT, inputs=[{"job_name": "say"}]))["task_id"]
    with pytest.raises(TimedOut) as caught:
        await both(lambda c: c.tasks.wait, key, number, timeout_s=0)
    assert caught.value.last["status"] in ("created", "running")
    await both(lambda c: c.tasks.cancel, key, number)
    assert (await both(lambda c: c.tasks.wait, key, number, timeout_s=30))["status"] == "cancelled"


# -- repetition, against a server that a test writes down


@pytest.fixture(params=["sync", "async"])
def awaited(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "async")


async def test_only_what_may_be_repeated_is(awaited: bool) -> None:
    """The first two replies to each path are lost."""
    seen: dict[str, int] = {}

    def answer(asked: Any, handler: Any) -> None:
        seen[asked.path] = seen.get(asked.path, 0) + 1
        if seen[asked.path] > 2:
            reply(handler, 200, {"task_id": 1})
        else:
            handler.close_connection = True
            handler.connection.close()

    with peer(answer) as server:
        both = Both(server.url, "t", awaited=awaited)
        assert await both(lambda c: c.resources.get, "/read") == {"task_id": 1}
        assert await both(lambda c: c.tasks.start, "w", "p") == {"task_id": 1}
        with pytest.raises(Unreachable):
            await both(lambda c: c.resources.create, "/made")
        await both.close()
    assert seen["/made"] == 1
    starts = [asked for asked in server.asked if asked.path == "/openapi/workflows/custom/task"]
    assert len(starts) == 3
    assert len({asked.headers["idempotency-key"] for asked in starts}) == 1


async def test_a_silent_server_is_asked_once(awaited: bool) -> None:
    over = threading.Event()

    with peer(lambda asked, handler: over.wait(30)) as server:
        both = Both(server.url, "t", awaited=awaited, timeout_s=0.2)
        with pytest.raises(Unreachable) as caught:
            await both(lambda c: c.server.me)
        over.set()
        await both.close()
    assert (caught.value.sent, caught.value.silent, len(server.asked)) == (True, True, 1)


async def test_a_stream_goes_on_where_it_broke_off(awaited: bool) -> None:
    def answer(asked: Any, handler: Any) -> None:
        text = b"id: 6\ndata: one\n\nid: 9\ndata: cut"
        if asked.headers.get("last-event-id") == "6":
            text = b'id: 9\ndata: two\n\nevent: end\ndata: {"status": "passed"}\n\n'
        reply(handler, 200, text, "text/event-stream")

    with peer(answer) as server:
        both = Both(server.url, "t", awaited=awaited)
        events = await both.events(both.client.logs.follow("w", 1, "say"))
        await both.close()
    assert [event.data for event in events][:2] == ["one", "two"]
    assert events[-1].event == "end"


@pytest.mark.parametrize(
    ("status", "kind"), [(200, "text/html"), (302, "text/html"), (200, "application/octet-stream")]
)
async def test_somebody_else_answers(awaited: bool, status: int, kind: str) -> None:
    with peer(lambda asked, handler: reply(handler, status, b"<html>hello</html>", kind)) as server:
        both = Both(server.url, "t", awaited=awaited)
        with pytest.raises(OddReply, match="cador server"):
            await both(lambda c: c.workflows.list, "shop")
        await both.close()
    assert len(server.asked) == 1


async def test_nobody_listens(awaited: bool) -> None:
    with peer(lambda asked, handler: None) as server:
        pass
    both = Both(server.url, "t", awaited=awaited)
    with pytest.raises(Unreachable) as caught:
        await both(lambda c: c.server.me)
    assert not caught.value.sent
    await both.close()


def test_a_stream_that_never_comes_back_ends_with_its_error() -> None:
    source = Source(Request("GET", "/x"), attempts=3)
    error = Unreachable("gone")
    assert source.lost(error) < source.lost(error)
    with pytest.raises(Unreachable, match="gone"):
        source.lost(error)


async def test_connections_are_kept(served: tuple[Site, str]) -> None:
    def several() -> int:
        with Client(served[1], ADMIN) as client:
            ports = set()
            for _ in range(3):
                client.server.me()
                (kept,) = client._idle
                ports.add(kept.sock.getsockname()[1])
            return len(ports)

    assert await asyncio.to_thread(several) == 1


def test_every_call_has_a_docstring_and_is_there_in_both() -> None:
    sync, awaited = Client("http://127.0.0.1:9"), AsyncClient("http://127.0.0.1:9")
    seen = 0
    for name, group in vars(sync).items():
        for called in dir(type(group)):
            if isinstance(getattr(type(group), called), Call | Stream):
                assert inspect.getdoc(getattr(group, called)), (name, called)
                assert callable(getattr(getattr(awaited, name), called))
                seen += 1
    assert seen > 110
    assert isinstance(sync, Groups)


def test_the_page_names_every_call() -> None:
    page = Path(__file__).parents[2].joinpath("docs/client.md").read_text()
    rows = {row.split("|")[1]: row for row in page.splitlines() if row.startswith("| `")}
    for name, group in vars(Client("http://127.0.0.1:9")).items():
        calls = [one for one in dir(type(group)) if isinstance(getattr(type(group), one), Call | Stream)]
        row = next((text for names, text in rows.items() if f"`{name}`" in names), "")
        if name == "scans":
            row += rows[" `builds` "]  # "the same"
        if name == "tests":
            row += rows[" `builds` "]
        missing = [call for call in calls if f"`{call}`" not in row]
        assert not missing, (name, missing)


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://", "http://x:port"])
def test_no_address(url: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="is not an http"):
            kind(url)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "\u4f59"])
def test_no_token(token: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="that is no token") as caught:
            kind("http://127.0.0.1:9", token)
        assert token not in str(caught.value)


def test_importing_it_loads_no_http_library_and_no_server(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, cador.client; print([m for m in ('httpx2', 'pydantic', 'sqlalchemy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.strip() == "[]"
