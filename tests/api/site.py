"""A server for tests: the real application on a real engine and SQLite, reached in memory or over a socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from argon2 import PasswordHasher

from cador.api.app import create_app
from cador.api.health import Check, database_check
from cador.api.metrics import Metrics
from cador.api.routing import DEFAULT_LIMITS, Limits
from cador.operations.first_start import bootstrap_data
from cador.operations.sessions import Sessions, token_hash
from cador.ports.stores import Token, Tx
from support.world import PROJECT, World

ADMIN = "cador_admin_token_of_the_tests"
QUICK_HASHES = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
DEADLINE_S = 20.0

WHO: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    # token: account, roles in the project, scopes of the token
    "stranger-token-0000": ("eve", (), ()),
    "reader-token-000000": ("ann", ("read-only",), ()),
    "sees-token-00000000": ("cid", ("read-project-only",), ()),
    "runner-token-000000": ("ben", ("project-admin",), ("get_workflow", "run_workflow")),
    "manager-token-00000": ("ben", ("project-admin",), ()),
}


class Site:
    """*client* speaks to the application as the administrator."""

    def __init__(self, world: World, app: Any, client: httpx2.AsyncClient, metrics: Metrics) -> None:
        self.world, self.app, self.client, self.metrics = world, app, client, metrics

    async def call(self, method: str, path: str, token: str | None = ADMIN, **options: Any) -> httpx2.Response:
        """One request. *token* None: none is sent. English unless ``language`` says otherwise."""
        headers = {"Accept-Language": options.pop("language", "en"), **options.pop("headers", {})}
        if token is not None:
            headers.setdefault("Authorization", f"Bearer {token}")
        return await self.client.request(method, path, headers=headers, **options)

    async def get(self, path: str, token: str | None = ADMIN, **options: Any) -> httpx2.Response:
        return await self.call("GET", path, token, **options)

    async def post(self, path: str, token: str | None = ADMIN, **options: Any) -> httpx2.Response:
        return await self.call("POST", path, token, **options)

    async def create(self, key: str, script: str = "echo hello", **fields: Any) -> None:
        """A workflow of one freestyle job ``say``."""
        reply = await self.post("/api/aslan/workflow/v4", json=definition(key, script, **fields))
        assert reply.status_code == 200, reply.text

    async def run(self, key: str, *jobs: str) -> int:
        body = {
            "workflow_key": key,
            "project_key": PROJECT,
            "inputs": [{"job_name": job, "job_type": "freestyle", "parameters": {}} for job in jobs or ("say",)],
        }
        reply = await self.post("/openapi/workflows/custom/task", json=body)
        assert reply.status_code == 200, reply.text
        number = reply.json()["task_id"]
        assert isinstance(number, int)
        return number

    async def done(self, key: str, number: int) -> dict[str, Any]:
        """The task's detail once it has ended."""
        await self.world.done(key, number, within_s=DEADLINE_S)
        return await self.task(key, number)

    async def task(self, key: str, number: int) -> dict[str, Any]:
        reply = await self.get("/openapi/workflows/custom/task", params={"taskId": number, "workflowKey": key})
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """The application on a port of this host; yields its URL."""
        config = uvicorn.Config(self.app, port=0, log_config=None, lifespan="off", ws="none")
        server = _Server(config)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve())
            while not server.started:
                assert not serving.done()
                await asyncio.sleep(0.005)
            port = server.servers[0].sockets[0].getsockname()[1]
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                server.should_exit = True
                await asyncio.wait([serving])


class _Server(uvicorn.Server):
    """Leaves the signals of the test process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def definition(key: str, script: str = "echo hello", **fields: Any) -> dict[str, Any]:
    job = {
        "name": "say",
        "type": "freestyle",
        "spec": {
            "properties": {"timeout": 5, "envs": [{"key": "WHO", "value": "me", "type": "string"}]},
            "steps": [{"name": "shell", "type": "shell", "spec": {"script": script}}],
        },
    }
    stages = [{"name": "talk", "parallel": False, "jobs": [job]}]
    base = {"name": key, "display_name": f"The {key}", "project": PROJECT, "concurrency_limit": -1, "stages": stages}
    return {**base, **fields}


@contextlib.asynccontextmanager
async def site(
    folder: Path,
    *,
    url: str = "",
    identities: Any = None,
    limits: Limits = DEFAULT_LIMITS,
    checks: tuple[Check, ...] = (),
    **options: Any,
) -> AsyncIterator[Site]:
    """A whole server on *folder*. *url*: of a database, by default SQLite in the folder."""
    world = await World.real(folder, url)
    world.identities = identities
    await world.boot()
    try:
        await bootstrap_data(world.ctx)
        await world.db.write(_people)
        metrics = Metrics()
        sessions = Sessions(world.ctx, hasher=QUICK_HASHES)
        app = create_app(
            world.ctx,
            sessions=sessions,
            metrics=metrics,
            limits=limits,
            checks=(database_check(world.ctx), *checks),
            access_log=False,
            **options,
        )
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield Site(world, app, client, metrics)
    finally:
        await world.close()


def _people(tx: Tx) -> None:
    admin = tx.people.by_account("admin")
    assert admin is not None
    tokens: dict[str, tuple[str, tuple[str, ...]]] = {ADMIN: (admin.uid, ())}
    for text, (account, roles, scopes) in WHO.items():
        tokens[text] = (account, scopes)
        tx.people.set_roles(account, PROJECT, roles)
    for text, (uid, scopes) in tokens.items():
        tx.people.add_token(
            Token(id=0, uid=uid, name=text, hash=token_hash(text), prefix="", create_at=1.0, scopes=scopes)
        )
