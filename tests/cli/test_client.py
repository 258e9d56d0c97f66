"""The client of the command line against a real HTTP server."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.cli.client import Client, Event, Refused, Unreached, language, parse_events
from cador.cli.contexts import Place
from cador.cli.logs import log_lines
from cador.cli.output import Failure
from support.http_peer import Asked, peer, reply


def test_a_request_carries_token_language_and_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    with peer(lambda asked, handler: reply(handler, 200, {"ok": True})) as server:
        assert server.client("secret").get("/ab", x="1 2", empty="", none=None, zero=0) == {"ok": True}
    (asked,) = server.asked
    assert asked.path == "/ab?x=1+2&zero=0"
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["accept-language"] == "zh"


@pytest.mark.parametrize(
    ("status", "body", "message", "code"),
    [
        (400, {"code": 6160, "message": "Create failed", "description": "no"}, "Create failed: no", 1),
        (500, {"code": 500, "message": "Internal Error: ", "description": "x"}, "Internal Error: x", 1),
        (403, {"code": 403, "message": "Forbidden", "description": "denied"}, "Forbidden: denied", 4),
        (404, {"title": "Not Found", "detail": "no task a/1"}, "Not Found: no task a/1", 1),
        (401, {"message": "Unauthorized"}, "does not know this token", 4),
        (404, b"Invalid path: /x", "Invalid path: /x", 1),
        (502, b"", "the server answered 502", 1),
    ],
)  # fmt: skip
def test_errors_are_one_line_with_an_exit_status(status: int, body: Any, message: str, code: int) -> None:
    kind = "text/plain" if isinstance(body, bytes) else "application/json"
    with (
        peer(lambda asked, handler: reply(handler, status, body, kind)) as server,
        pytest.raises(Refused, match=re.escape(message)) as caught,
    ):
        server.client().get("/x")
    assert caught.value.code == code
    assert "\n" not in caught.value.message


def test_nobody_listens() -> None:
    with peer(lambda asked, handler: None) as server:
        client = server.client()
    with pytest.raises(Unreached, match="nothing listens there") as caught:
        client.get("/x")
    assert caught.value.code == 3


def test_no_address() -> None:
    with pytest.raises(Failure, match="is not an http"):
        Client(Place("ftp://x", "", "test"))


def test_a_start_whose_reply_is_lost_is_repeated_with_the_same_key() -> None:
    def lose_the_first(asked: Asked, handler: Any) -> None:
        if len(server.asked) == 1:
            handler.connection.close()
        else:
            reply(handler, 200, {"task_id": 7})

    with peer(lose_the_first) as server:
        assert server.client().tasks.start("w", "p") == {"task_id": 7}
    first, second = server.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] != ""
    assert first.body == second.body


def test_two_starts_have_two_keys() -> None:
    with peer(lambda asked, handler: reply(handler, 200, {})) as server:
        server.client().tasks.start("w", "p")
        server.client().tasks.start("w", "p")
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 2


def test_a_log_is_taken_up_again_where_it_broke() -> None:
    """The connection breaks in the middle of a line; the line comes once, and whole."""

    def answer(asked: Asked, handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        if "last-event-id" not in asked.headers:
            handler.wfile.write(b"event: start\ndata: {}\n\nid: 10\ndata: one\ndata: two\n\ndata: thr")
        else:
            handler.wfile.write(b": alive\n\nid: 20\ndata: three\n\nevent: end\ndata: {}\n\ndata: never\n\n")

    with peer(answer) as server:
        assert list(log_lines(server.client(), "wf", 1, "job")) == ["one", "two", "three"]
    assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "10"]
    assert server.asked[0].path == "/api/v1/tasks/wf/1/jobs/job/log?tail=0"


def test_a_refused_log_says_why() -> None:
    with (
        peer(lambda asked, handler: reply(handler, 404, {"title": "job x not found"})) as server,
        pytest.raises(Refused, match="job x not found"),
    ):
        list(log_lines(server.client(), "wf", 1, "x"))


LINE = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), max_size=20)


@given(st.lists(st.lists(LINE, min_size=1, max_size=4), max_size=5))
def test_events_come_out_as_they_were_sent(events: list[list[str]]) -> None:
    sent = "".join(
        f"id: {number}\n" + "".join(f"data: {line}\n" for line in lines) + "\n" for number, lines in enumerate(events)
    )
    raw = iter([part + b"\n" for part in sent.encode().split(b"\n")[:-1]])
    assert list(parse_events(raw)) == [
        Event(str(number), "message", "\n".join(lines)) for number, lines in enumerate(events)
    ]


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LANG": "de_DE", "LC_MESSAGES": "zh_TW"}, "zh"),
    ],
)
def test_language_follows_the_locale(environ: dict[str, str], wanted: str) -> None:
    assert language(environ) == wanted
