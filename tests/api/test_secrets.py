"""One secret in every credential field of every kind: it comes out nowhere, in no shape it can be written in."""

import base64
import copy
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import structlog
from structlog.testing import capture_logs

from api.kinds import FIRST, ROWS, changed, place
from api.site import Site, definition, site
from api.test_access import routes_of
from cador.domain.secrets import SECRET_KEYS
from cador.operations.resources import KINDS
from support.world import PROJECT

pytestmark = pytest.mark.anyio

PLANTED = "Zy7/+ä?planted&secret=Q9-4f1c"
OWN = {"projectKey": PROJECT}


def shapes(secret: str) -> Iterator[str]:
    """How it could be written: as it is, URL-encoded, in JSON, and in base64 alone or inside something longer."""
    data = secret.encode()
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield secret.encode("unicode_escape").decode()
    yield secret.replace("ä", "\\u00e4")
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            first, last = -(-before * 8 // 6), (before + len(data)) * 8 // 6
            yield encode(bytes(before) + data)[first:last].decode()
    yield data.hex()


SHAPES = tuple(dict.fromkeys(shapes(PLANTED)))


def leak(text: str) -> str:
    return next((shape for shape in SHAPES if shape in text), "")


def planted(value: Any) -> Any:
    """The same with the secret for each text that stands for one."""
    if isinstance(value, Mapping):
        return {key: planted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [planted(inner) for inner in value]
    if isinstance(value, str) and "planted" in value:
        start = value.index("planted")
        if "\n" in value:  # inside a file
            return value.replace("planted-kube", f"'{PLANTED}'")
        return value[:start] + PLANTED
    return value


def secret_fields(model: Any, at: str = "") -> Iterator[str]:
    """Every credential field of a model and of the models in it, as the models and the list of secret keys say."""
    for name, field in model.model_fields.items():
        place = f"{at}{name}"
        inner = [
            one
            for one in (field.annotation, *getattr(field.annotation, "__args__", ()))
            if isinstance(one, type) and hasattr(one, "model_fields")
        ]
        if inner:
            for one in inner:
                yield from secret_fields(one, f"{place}.")
        elif name in getattr(model, "secrets", ()) or name in SECRET_KEYS:
            yield place


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("secrets")) as made:
        yield made


MORE: tuple[tuple[str, str, Mapping[str, str], dict[str, Any]], ...] = (
    ("codehost", "/openapi/system/codehost", {},
     {"name": "oauth", "type": "gitlab", "address": "https://g.example.com", "access_token": PLANTED}),
)  # fmt: skip


def test_every_credential_field_of_every_kind_is_planted() -> None:
    """A kind or a field that is new needs a value in the table of ``kinds``, or in ``MORE`` here."""
    bodies: dict[str, list[Any]] = {}
    for row in ROWS:
        bodies.setdefault(row.kind, []).append(planted(copy.deepcopy(dict(row.body))))
    for kind, _, _, body in MORE:
        bodies.setdefault(kind, []).append(body)
    empty = []
    for name, kind in KINDS.items():
        for place_ in secret_fields(kind.model):
            key = place_.rpartition(".")[2]
            if not any(holds(body, key) for body in bodies.get(name, ())) and (name, key) not in NOT_IN_USE:
                empty.append(f"{name}: {place_}")
    assert not empty, empty


NOT_IN_USE = {
    ("codehost", key) for key in ("secret_key", "password", "client_secret", "private_access_token", "refresh_token")
} | {("build", "value")}
"""Fields of other types of code hosts and of builds made from a template, which exclude what is planted: the same rule
seals them all."""


def holds(value: Any, key: str) -> bool:
    if isinstance(value, Mapping):
        return any((k == key and leak(str(v))) or holds(v, key) for k, v in value.items())
    return isinstance(value, list) and any(holds(inner, key) for inner in value)


async def test_a_planted_secret_comes_out_nowhere(server: Site, tmp_path: Path) -> None:
    found: list[str] = []

    def look(where: str, text: str) -> None:
        if shape := leak(text):
            found.append(f"{where}: {shape}")

    async def call(method: str, path: str, **options: Any) -> Any:
        reply = await server.call(method, path, **options)
        look(f"{method} {path} -> {reply.status_code}", reply.text + repr(reply.headers))
        return reply

    with capture_logs() as logs:
        structlog.get_logger().info("the capture works")
        await everything(server, call)
        for route in routes_of(server):
            if route.method == "GET":
                path = route.paths[0]
                for name, value in (
                    ("workflow", "w"), ("workflowKey", "w"), ("number", "1"), ("taskID", "1"), ("job", "say"),
                    ("workflow_id", "w"), ("workflow_task_id", "1"), ("workflow_job_task_id", "say"),
                    ("tail_lines", "1000"), ("pipelineName", "w"), ("id", "1"), ("env", "row"), ("name", "row"),
                ):  # fmt: skip
                    path = path.replace("{" + name + "}", value)
                query = {**OWN, "namespace": PROJECT, "workflowKey": "w", "taskId": "1", "at": "9999999999"}
                await call("GET", path, params=query)
        await call("GET", "/openapi/export")
    assert any(entry["event"] == "the capture works" for entry in logs)
    for entry in logs:
        look(f"log {entry.get('event')}", repr(entry))
    for name in server.world.folder.rglob("*"):
        if name.is_file() and name.suffix in (".log", ".txt", ".json", ".jsonl", ".db", ".db-wal"):
            look(f"file {name.name}", name.read_bytes().decode("utf-8", "surrogateescape"))

    def rows(tx: Any) -> None:
        for table in tables():
            for row in tx.connection.execute(table.select()):
                look(f"table {table.name}", repr(tuple(row)))

    await server.world.db.read(rows)
    assert not found, "\n".join(found)


async def everything(server: Site, call: Any) -> None:
    """Make one of each, change it, ask wrongly for it, and run a workflow that is given the secret and prints it."""
    for path, body in FIRST:
        assert (await call("POST", path, json=planted(body))).status_code == 200
    for row in ROWS:
        body = planted(copy.deepcopy(dict(row.body)))
        reply = await call("POST", row.path, params=row.query, json=body)
        assert reply.status_code == 200, (str(row), reply.text)
        await call("POST", row.path, params=row.query, json=body)  # a second one: refused
        wrong = {**body, row.named: 7}
        assert (await call("POST", row.path, params=row.query, json=wrong)).status_code == 400
        await call("GET", row.path, params=row.query)
        await call("GET", await place(server, row), params=row.query)
        await changed(server, row, {**body, row.change[0]: planted(row.change[1])})
        await call("GET", await place(server, row), params=row.query)
    for _, path, query, body in MORE:
        reply = await call("POST", path, params=query, json=body)
        assert reply.status_code == 200, (path, reply.text)
        await call("GET", path, params={**OWN, **query})
    user = {"account": "secretive", "name": "S", "password": f"Aa1{PLANTED}"}
    assert (await call("POST", "/openapi/users", json=user)).status_code == 200
    login = {"account": "secretive", "password": f"Aa1{PLANTED}"}
    assert (await call("POST", "/api/v1/login", token=None, json=login)).status_code == 200
    assert (await call("POST", "/api/v1/login", token=None, json={**login, "account": "x"})).status_code == 401
    secret = {"data": {"token": PLANTED}}
    assert (await call("PUT", "/api/v1/secrets/deploy", params=OWN, json=secret)).status_code == 200
    body = definition("w", 'printf \'%s\\n\' "$HIDDEN" "$GIVEN"; printf %s "$HIDDEN" | base64 -w0; env; exit 1')
    spec = body["stages"][0]["jobs"][0]["spec"]
    spec["properties"]["envs"].append({"key": "HIDDEN", "value": PLANTED, "type": "string", "is_credential": True})
    spec["properties"]["envs"].append(
        {"key": "GIVEN", "value": "{{.workflow.params.P}}", "type": "string", "is_credential": False}
    )
    body["params"] = [{"name": "P", "type": "string", "value": PLANTED, "is_credential": True}]
    reply = await call("POST", "/api/aslan/workflow/v4", json=body)
    assert reply.status_code == 200, reply.text
    given = {"job_name": "say", "job_type": "freestyle", "parameters": {"kv": [{"key": "HIDDEN", "value": PLANTED}]}}
    run = {"workflow_key": "w", "project_key": PROJECT, "inputs": [given], "params": [{"name": "P", "value": PLANTED}]}
    reply = await call("POST", "/openapi/workflows/custom/task", json=run)
    assert reply.status_code == 200, reply.text
    await server.done("w", 1)
    log = await call("GET", "/openapi/logs/log/v4/workflow/w/1/say")
    assert "HIDDEN=********" in log.text, log.text
    await call("PUT", "/api/aslan/workflow/v4/w", params=OWN, json={**body, "stages": "broken"})


def tables() -> Any:
    from cador.storage.tables import metadata

    return metadata.sorted_tables
