"""The action ``tapd`` against a small real server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from cador.integrations.addresses import Rules
from cador.integrations.outgoing import HttpOutgoing
from cador.integrations.tapd import Tapd
from cador.ports.actions import ActionFailed
from support.heard import Heard
from support.tapd import PROJECT, SECRET, FakeTapd, serving


@pytest.fixture
def tapd() -> Iterator[FakeTapd]:
    with serving() as fake:
        yield fake


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cador.integrations.tapd.AGAIN_S", 0.0)


def play(test: Callable[[Tapd], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            outgoing = HttpOutgoing(Rules.parse())
            try:
                await test(Tapd(outgoing))
            finally:
                await outgoing.aclose()

    asyncio.run(main())


def arguments(tapd: FakeTapd, *idents: str, **more: Any) -> dict[str, Any]:
    spec = tapd.spec
    return {
        "address": spec["tapd_address"],
        "client_id": spec["tapd_client_id"],
        "client_secret": spec["tapd_client_secret"],
        "project_id": PROJECT,
        "project_name": "",
        "status": "done",
        "iterations": [
            {"iteration_id": ident, "iteration_name": "", "start_date": "", "end_date": ""} for ident in idents
        ],
        **more,
    }


def test_iterations_get_the_status(tapd: FakeTapd) -> None:
    async def test(client: Tapd) -> None:
        one, two, three = tapd.ids
        heard = Heard()
        await client.run(heard, arguments(tapd, two, one, status="status_7"))
        assert tapd.changes == [(two, "status_7"), (one, "status_7")]
        assert tapd.statuses[three] == "open"
        assert heard.facts == {
            "project_name": "Welcome to TAPD DEMO",
            "iterations": [
                {
                    "iteration_id": ident,
                    "iteration_name": f"Iteration {ident[-1]}",
                    "start_date": "2025-08-04",
                    "end_date": "2025-09-03",
                    "error": "",
                }
                for ident in (two, one)
            ],
        }
        assert heard.lines[:2] == [f"iteration {two} Iteration 2: set status status_7", f"iteration {two}: done"]

    play(test)


def test_what_was_given_is_not_replaced(tapd: FakeTapd) -> None:
    async def test(client: Tapd) -> None:
        given = {"iteration_id": tapd.ids[0], "iteration_name": "ours", "start_date": "2020-01-01", "end_date": ""}
        heard = Heard()
        await client.run(heard, arguments(tapd, project_name="Ours", iterations=[given]))
        assert heard.facts["project_name"] == "Ours"
        assert heard.facts["iterations"] == [{**given, "end_date": "2025-09-03", "error": ""}]

    play(test)


def test_an_unknown_iteration_changes_nothing(tapd: FakeTapd) -> None:
    async def test(client: Tapd) -> None:
        heard = Heard()
        with pytest.raises(ActionFailed, match=f"^iteration 77 not found in project {PROJECT}$"):
            await client.run(heard, arguments(tapd, tapd.ids[0], "77", tapd.ids[1]))
        assert tapd.changes == []
        errors = [entry["error"] for entry in heard.facts["iterations"]]
        assert errors == ["", f"iteration 77 not found in project {PROJECT}", ""]

    play(test)


def test_the_first_refusal_ends_it(tapd: FakeTapd) -> None:
    async def test(client: Tapd) -> None:
        one, two, three = tapd.ids
        tapd.refuses[two] = "no permission"
        heard = Heard()
        with pytest.raises(ActionFailed) as failed:
            await client.run(heard, arguments(tapd, one, two, three))
        said = f"TAPD does not set the status of iteration {two}: no permission"
        assert str(failed.value) == f"iteration {two}: {said}"
        assert tapd.changes == [(one, "done")]
        assert [entry["error"] for entry in heard.facts["iterations"]] == ["", said, ""]

    play(test)


def test_tokens_are_kept_until_they_expire_or_are_withdrawn(tapd: FakeTapd) -> None:
    async def test(client: Tapd) -> None:
        for _ in range(3):
            await client.run(Heard(), arguments(tapd, tapd.ids[0]))
        assert len(tapd.tokens) == 1
        tapd.withdrawn.add(tapd.tokens[0])
        await client.run(Heard(), arguments(tapd, tapd.ids[0]))
        assert len(tapd.tokens) == 2
        tapd.withdrawn.add(tapd.tokens[1])
        tapd.expires_in = 30
        await client.run(Heard(), arguments(tapd, tapd.ids[0]))
        assert len(tapd.tokens) == 2 + 3, "each of the three calls asks for one that soon expires"

    play(test)


def test_a_wrong_secret(tapd: FakeTapd) -> None:
    async def test(client: Tapd) -> None:
        heard = Heard()
        with pytest.raises(ActionFailed, match=r"^TAPD does not log in: invalid client$"):
            await client.run(heard, arguments(tapd, tapd.ids[0], client_secret=SECRET + "x"))
        assert SECRET not in str(heard)

    play(test)


def test_trouble_of_the_other_side(tapd: FakeTapd) -> None:
    async def test(client: Tapd) -> None:
        tapd.ails = 1
        await client.run(Heard(), arguments(tapd, tapd.ids[0]))
        assert tapd.changes == [(tapd.ids[0], "done")]
        tapd.ails = 2
        with pytest.raises(ActionFailed, match=r"^TAPD does not find project 43976133: it answered 502$"):
            await client.run(Heard(), arguments(tapd, tapd.ids[0]))
        with pytest.raises(ActionFailed, match=r"^TAPD does not find project 5: workspace not found$"):
            await client.run(Heard(), arguments(tapd, tapd.ids[0], project_id="5"))
        with pytest.raises(ActionFailed, match=r"127\.0\.0\.1:1"):
            await client.run(Heard(), arguments(tapd, tapd.ids[0], address="http://127.0.0.1:1"))

    play(test)


def test_a_metadata_address_is_not_called(tapd: FakeTapd) -> None:
    async def test(client: Tapd) -> None:
        with pytest.raises(ActionFailed, match=r"169\.254\.169\.254"):
            await client.run(Heard(), arguments(tapd, "1", address="http://169.254.169.254"))

    play(test)


def test_a_cancel_takes_effect_between_iterations(tapd: FakeTapd) -> None:
    """The change that was asked for is heard to its end, the next one is not begun."""
    import threading

    async def test(client: Tapd) -> None:
        one, two, _ = tapd.ids
        tapd.held = threading.Event()
        heard = Heard()
        running = asyncio.get_running_loop().create_task(client.run(heard, arguments(tapd, one, two)))
        await asyncio.to_thread(tapd.asked_to_change.wait, 30)
        running.cancel()
        await asyncio.sleep(0)
        tapd.held.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert tapd.changes == [(one, "done")]
        assert heard.lines == [f"iteration {one} Iteration 1: set status done", f"iteration {one}: done"]
        assert [entry["error"] for entry in heard.facts["iterations"]] == ["", ""]

    play(test)


def test_many_iterations_are_looked_up_in_parts(tapd: FakeTapd) -> None:
    async def test(client: Tapd) -> None:
        tapd.statuses = {str(n): "open" for n in range(120)}
        await client.run(Heard(), arguments(tapd, *tapd.ids))
        assert len(tapd.changes) == 120
        assert tapd.peer is not None
        lists = [asked for asked in tapd.peer.asked if asked.path.startswith("/iterations?")]
        assert len(lists) == 3

    play(test)
