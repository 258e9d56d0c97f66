"""``cador login --oidc``: a real command, a real server, a real provider, and a browser of a few lines."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.site import site
from cador.cli.contexts import read_contexts
from cador.integrations.addresses import Rules
from cador.integrations.openid import OpenIdProvider, OpenIdSettings
from cador.integrations.outgoing import HttpOutgoing
from cador.operations.oidc import Admission, Identities
from support.openid_provider import CLIENT, SECRET, Provider, openid_provider

pytestmark = pytest.mark.anyio
DEADLINE_S = 30

BROWSER = """
import sys, urllib.request
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlsplit

class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None

cookies = CookieJar()
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay, urllib.request.HTTPCookieProcessor(cookies))
url, server, last = sys.argv[-1], urlsplit(sys.argv[-1]).netloc, sys.argv[1]
while True:
    if urlsplit(url).netloc == "ci.example.com":  # what the name means
        url = url.replace("ci.example.com", server, 1)
    if last == "stop" and "/?code=" in url:
        open(sys.argv[2], "w").write(url)
        break
    try:
        opener.open(url)
        break
    except HTTPError as error:
        if error.code not in (302, 303, 307):
            raise
        url = error.headers["Location"]
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with openid_provider() as made:
        yield made


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_browser_logs_the_command_line_in(where: str, provider: Provider, tmp_path: Path) -> None:
    script, shown = tmp_path / "browser.py", tmp_path / "address"
    script.write_text(BROWSER)
    os.mkfifo(shown)
    outgoing = HttpOutgoing(Rules())
    settings = OpenIdSettings(issuer=provider.issuer, client_id=CLIENT, client_secret=SECRET)
    identities = Identities(OpenIdProvider(settings, outgoing), Admission())
    browser = f"{sys.executable} {script} {'stop' if where == 'elsewhere' else 'go'} {shown} %s &"
    environ = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "BROWSER": browser, "LC_ALL": "C.UTF-8"}
    environ = {name: value for name, value in environ.items() if not name.startswith("CADOR_")}
    async with site(tmp_path, identities=identities) as server, server.served() as url:
        command = [sys.executable, "-m", "cador", "login", url, "--oidc"]
        child = await asyncio.create_subprocess_exec(
            *command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdin is not None
        try:
            async with asyncio.timeout(DEADLINE_S):
                if where == "elsewhere":
                    address = await asyncio.to_thread(shown.read_bytes)
                    child.stdin.write(b"what is that\n")
                    await child.stdin.drain()
                    assert child.stderr is not None
                    while b"holds no code" not in await child.stderr.readline():
                        pass
                    child.stdin.write(address[:20])
                    await child.stdin.drain()
                    child.stdin.write(address[20:] + b"\n")
                    await child.stdin.drain()
                _, told = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        text = told.decode()
        assert child.returncode == 0, text
        assert f"logged in to {url} as Ann 安" in text
        contexts = read_contexts(tmp_path / "cador" / "contexts.toml")
        kept, token = contexts.known[contexts.current]
        assert kept == url
        assert json.loads((await server.get("/api/v1/me", token)).text)["account"] == "ann.corp"
    await outgoing.aclose()
