"""Requests that Schemathesis makes up from ``/openapi.json``, sent to a real server by an administrator and by somebody
who may do little: nothing fails unexpectedly, hangs, shows a secret, or answers what is not described.

``CADOR_FUZZ_SECONDS`` sets how long each of them tries.
"""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from api.site import ADMIN, WHO, site

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.slow]

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("CADOR_FUZZ_SECONDS", "55"))
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


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("token", [ADMIN, RUNNER], ids=["administrator", "runner"])
async def test_made_up_requests(tmp_path: Path, token: str) -> None:
    async with site(tmp_path) as server, server.served() as url:
        reply = await server.call("PUT", "/api/v1/secrets/PLANTED", json={"data": {"key": PLANTED[0]}})
        assert reply.status_code == 200, reply.text
        credential = {"name": "KEY", "type": "string", "value": PLANTED[1], "is_credential": True}
        await server.create("hello", params=[credential])
        await server.done("hello", await server.run("hello"))
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
    assert "Operations:" in told, told
    assert process.returncode == 0, told[told.find("= FAILURES =") :][:20_000]
