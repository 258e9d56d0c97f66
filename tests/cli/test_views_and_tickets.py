"""``cador view`` and ``cador ticket`` against a real server."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from api.site import ADMIN, PROJECT, Site, site
from cador.cli.main import main

pytestmark = pytest.mark.anyio

Say = Callable[..., Coroutine[Any, Any, tuple[int, str, str]]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    for name in list(os.environ):
        if name.startswith("CADOR_"):
            monkeypatch.delenv(name)
    async with site(tmp_path) as found, found.served() as url:
        monkeypatch.setenv("CADOR_URL", url)
        monkeypatch.setenv("CADOR_TOKEN", ADMIN)
        monkeypatch.setenv("TZ", "UTC")
        yield found


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    async def say(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    return say


async def test_a_view(server: Site, say: Say) -> None:
    await server.create("w")
    of = ("--project", PROJECT)

    async def shown() -> dict[str, list[str]]:
        code, out, error = await say("view", "list", "--json", *of)
        assert code == 0, error
        return {one["name"]: [each["workflow_key"] for each in one["workflows"]] for one in json.loads(out)}

    code, _, error = await say("view", "create", "ops", "--workflow", "w", "--workflow", "later", *of)
    assert code == 0
    assert "workflow later does not exist yet" in error
    assert await shown() == {"ops": ["w"]}
    await server.create("later")
    assert await shown() == {"ops": ["w", "later"]}
    assert (await say("view", "edit", "ops", "--remove", "w", *of))[0] == 0
    assert await shown() == {"ops": ["later"]}
    assert (await say("view", "edit", "ops", "--add", "w", *of))[0] == 0
    assert await shown() == {"ops": ["w", "later"]}, "its place was kept"
    assert "ops   w later    " in (await say("view", "list", *of))[1]
    assert (await say("view", "edit", "ops", *of))[0] == 2
    assert (await say("view", "create", "ops", *of))[0] == 1
    assert (await say("view", "delete", "ops", "--yes", *of))[0] == 0
    assert await shown() == {}
    assert (await say("view", "delete", "ops", "--yes", *of))[0] == 1


async def test_a_ticket(server: Site, say: Say) -> None:
    await server.create("w", enable_approval_ticket=True)
    of = ("--project", PROJECT)
    limits = ("--env", "dev", "--service", "api/worker", "--user", "Ann=ann@example.com", "--user", "ben@example.com")
    window = ("--from", "2026-11-21T22:00:00Z", "--until", "4000000000")
    code, _, error = await say("ticket", "create", "CHG-1", *limits, *window, *of)
    assert code == 0, error
    (ticket,) = json.loads((await say("ticket", "list", "--json", *of))[1])
    assert (ticket["envs"], ticket["services"]) == (["dev"], [{"service_name": "api", "service_module": "worker"}])
    assert [one["name"] for one in ticket["users"]] == ["Ann", "ben@example.com"]
    assert (ticket["execution_window_start"], ticket["execution_window_end"]) == (1795298400, 4000000000)
    for number in ("CHG-2", "CHG-3"):
        assert (await say("ticket", "create", number, *of))[0] == 0
    assert (await say("run", "w", *of, "--ticket", "CHG-2"))[0] == 0
    assert (await say("ticket", "revoke", "CHG-3", "--yes", *of))[0] == 0
    code, _, error = await say("run", "w", *of, "--ticket", "CHG-3")
    assert (code, "cannot find approval ticket of id: CHG-3" in error) == (1, True)
    lines = [line.split() for line in (await say("ticket", "list", *of))[1].splitlines()[1:]]
    assert [line[:2] for line in lines] == [["CHG-3", "revoked"], ["CHG-2", "used"], ["CHG-1", "open"]]
    assert lines[1][:4] == ["CHG-2", "used", "by", "w/1"]
    assert lines[2][-3:] == ["api/worker", "ann@example.com", "ben@example.com"]
    assert (await say("ticket", "list", "--limit", "2", *of))[1].count("CHG-") == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("create", "X", "--until", "tomorrow"), 2, "--until is a moment"),
        (("create", "X", "--service", "api"), 2, "'api' is no SERVICE/MODULE"),
        (("create", "X", "--from", "9", "--until", "5"), 1, "start time greater than end time"),
        (("revoke", "nothing", "--yes"), 1, "there is no ticket nothing"),
    ],
)
async def test_what_is_refused(server: Site, say: Say, words: tuple[str, ...], code: int, said: str) -> None:
    found, _, error = await say("ticket", *words, "--project", PROJECT)
    assert found == code
    assert said in error
