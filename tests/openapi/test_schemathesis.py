"""Requests that Schemathesis makes up from ``/openapi.json``, sent to a real server by an administrator and by somebody
who may do little: nothing fails unexpectedly, hangs, shows a secret, or answers what is not described.

``CADOR_FUZZ_SECONDS`` sets how long each of them tries, and has both of them try both databases.
"""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from api.site import ADMIN, WHO, Site, site
from cador.operations.declarative.pipeline import Source, prepare, to_wire
from cador.ports.stores import User

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow]

HERE = Path(__file__).parent
BY_HAND = os.environ.get("CADOR_FUZZ_SECONDS", "")
SECONDS = int(BY_HAND or "55")
ANSWER_S = 20
PLANTED = ("planted-secret-4711", "planted-credential-0815")
RUNNER = next(token for token in WHO if token.startswith("runner"))
CHECKS = (
    "no_unexpected_failure",
    "no_secret_is_shown",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
UNREADABLE = "/openapi/export"
"""Answers several YAML documents, which Schemathesis cannot read; tests of its own look at it."""
BY_ID = {
    "/openapi/system/codehost": "id",
    "/openapi/system/registry": "registry_id",
    "/openapi/system/cluster": "cluster_id",
    "/openapi/system/dbinstance": "id",
}
"""Lists of what is looked at by an id that the server gave, and its name in them."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def furnish(server: Site) -> dict[str, str]:
    """One of each, called ``hello``; returns ids by the address of their list."""
    prepared = prepare([Source("there.yaml", (HERE / "there.yaml").read_text())], environment={"PLANTED": PLANTED[1]})
    assert not prepared.faults, prepared.faults
    reply = await server.post("/openapi/apply", content=to_wire(prepared.documents).encode())
    assert reply.status_code == 200, reply.text
    assert [one["error"] for one in reply.json()["results"] if one["error"]] == []
    await server.world.db.write(lambda tx: tx.people.add_user(User("hello", "hello", "Hello")))
    for method, path, body in (
        ("PUT", "/api/v1/secrets/hello", {"data": {"key": PLANTED[0]}}),
        ("POST", "/openapi/ticket/approval", {"project_key": "shop", "approval_id": "hello", "status": 1}),
    ):
        reply = await server.call(method, path, json=body)
        assert reply.status_code == 200, reply.text
    await server.run("hello", "say", "later")
    await server.world.until("hello", 1, lambda detail: detail.row.waiting_for == "approval")
    return {path: str((await server.get(path)).json()[0][name]) for path, name in BY_ID.items()}


@pytest.mark.parametrize(
    ("kind", "token"),
    [
        pytest.param("sqlite", ADMIN, id="sqlite-administrator"),
        pytest.param("postgres", RUNNER, id="postgres-runner", marks=pytest.mark.postgres),
        *([pytest.param("sqlite", RUNNER, id="sqlite-runner")] if BY_HAND else []),
        *(
            [pytest.param("postgres", ADMIN, id="postgres-administrator", marks=pytest.mark.postgres)]
            if BY_HAND
            else []
        ),
    ],
)
async def test_made_up_requests(kind: str, token: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    database = request.getfixturevalue("postgres_url") if kind == "postgres" else ""
    async with site(tmp_path, url=database) as server, server.served() as url:
        ids = await furnish(server)
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"),
            *("--header", f"Authorization: Bearer {token}", "--header", "Accept-Language: en"),
            *("--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing,stateful"),
            *("--max-time", str(SECONDS), "--request-timeout", str(ANSWER_S), "--no-shrink"),
            *("--exclude-path", UNREADABLE, "--continue-on-failure", "--warnings", "off", "--no-color"),
        ]
        environ = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": "fuzz_checks",
            "PYTHONPATH": str(HERE),
            "CADOR_FUZZ_PLANTED": ",".join(PLANTED),
            "CADOR_FUZZ_IDS": ",".join(f"{path}={ident}" for path, ident in ids.items()),
        }
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=tmp_path,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(SECONDS + 120):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    told = said.decode(errors="replace")
    print(told[told.find("= SUMMARY =") :])
    assert "Operations:" in told, told
    assert process.returncode == 0, told[told.find("= FAILURES =") :][:20_000]
    assert re.search(r"\b[1-9]\d* generated", told), "it found no time to ask for anything"
