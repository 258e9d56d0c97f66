"""The parts of the shell that are pure: bodies, parameters, languages, framing, ranges."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cador.api import bodies, params
from cador.api.auth import without_token
from cador.api.catalogue import Operation
from cador.api.errors import Refusal, body_of, language_of, refusal_of
from cador.api.streams import byte_range, documented_events, own_event, wants_gzip
from cador.domain import errors as domain


def refused(call: Any, *args: Any) -> str:
    with pytest.raises(Refusal) as caught:
        call(*args)
    assert caught.value.operation is Operation.BAD_REQUEST
    return str(caught.value.description)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a": 1,\n "b" 2}', "at line 2, column 6"),
        (b'{"a": 1, "a": 2}', 'duplicate key "a"'),
        (b'{"a": {"b": 1, "b": 1}}', 'duplicate key "b"'),
        (b'{"a": NaN}', "NaN is not a JSON value"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON value"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b'{"a": "x\\u0000y"}', "NUL"),
        (b'{"a\\u0000": 1}', "NUL"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 500 + b"]" * 500, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "invalid JSON"),
        (b'{"a": 1e999}', "1e999 is too large a number"),
        (b"", "request body is required"),
        (b" \n", "request body is required"),
        (b"[1]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"{'a': 1}", "at line 1, column 2"),
        (b'{"a": 1,}', "at line 1"),
    ],
)
def test_bad_json_is_told_with_its_place(text: bytes, said: str) -> None:
    assert said in refused(bodies.parse_object, text)


def test_an_escaped_backslash_before_u_is_ordinary_text() -> None:
    assert bodies.parse_object(rb'{"a": "\\u0000 \\ud800"}') == {"a": r"\u0000 \ud800"}


def test_a_byte_order_mark_is_no_fault() -> None:
    assert bodies.parse_object(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=()))


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, st.lists, max_leaves=10)


@settings(max_examples=50)
@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_any_json_object_is_read_as_python_reads_it(value: dict[str, Any]) -> None:
    data = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        assert "not UTF-8" in refused(bodies.parse_object, data)
        return
    assert bodies.parse_object(data) == value


YAML = b"""
name: build-deploy
concurrency_limit: 1
disabled: no
stages:
  - name: build   # a comment
    released: 2024-01-02
    jobs: &jobs
      - {name: a, type: freestyle, spec: {script: "echo"}}
  - name: again
    jobs: *jobs
"""


def test_yaml_definitions_are_json_values() -> None:
    found = bodies.parse_definition(YAML)
    assert found["disabled"] is False
    assert found["stages"][0]["released"] == "2024-01-02"
    assert found["stages"][1]["jobs"] == found["stages"][0]["jobs"]
    json.dumps(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"name: a\nname: b\n", 'duplicate key "name" at line 2, column 1'),
        (b"name: [1, 2\nnext: 3\n", "at line 2"),
        (b"name: !!python/object:os.system x\n", "could not determine a constructor"),
        (b"a: &a [x]\n? [1]\n: 2\n", "a key must be text at line 2"),
        (b"a: .nan\n", "not a JSON value"),
        (b"a: .inf\n", "not a JSON value"),
        (b"a: &a {b: *a}\n", "recursive node at line 1, column 4"),
        (b"<<: 1\n", "only mappings can be merged at line 1, column 5"),
        (b"a: " + b"[" * 2000 + b"]" * 2000 + b"\n", "nested too deeply"),
        (b"- a\n- b\n", "must be an object"),
        (b"just text", "must be an object"),
        (b"a: \x01\n", "invalid YAML"),
        (b"a: \xff\n", "not UTF-8"),
    ],
)
def test_bad_yaml_is_told_with_its_place(text: bytes, said: str) -> None:
    assert said in refused(bodies.parse_definition, text)


def test_merged_keys_give_way_to_those_written() -> None:
    text = b"base: &base {a: 1, b: 2}\nsecond: &second {b: 3, c: 4}\nname: {<<: [*base, *second], a: 9}\n"
    assert bodies.parse_definition(text)["name"] == {"a": 9, "b": 2, "c": 4}


def test_merging_does_not_grow() -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 30)]
    assert bodies.parse_definition("\n".join(lines).encode())["a29"] == {"x": 1}


def test_yaml_that_grows_when_unfolded_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "too large" in refused(bodies.parse_definition, "\n".join(lines).encode())


@pytest.mark.parametrize(
    "text",
    [b"- " * 50_000 + b"a", b"? " * 50_000 + b"a", b"a: " + b"{b: " * 50_000, b"a:\n" + b" - " * 101 + b"x"],
    ids=["lists", "keys", "braces", "just too deep"],
)
def test_deep_yaml_does_not_end_the_process(text: bytes) -> None:
    """Read by recursion in C it would."""
    assert "nested too deeply" in refused(bodies.parse_definition, text)


def test_what_takes_long_to_read_is_not_read() -> None:
    large = b"a: &a {" + b", ".join(b"k%d: 1" % n for n in range(2_000)) + b"}\nb:\n  <<: ["
    for text in (large + b", ".join([b"*a"] * 150) + b"]\n", b"- a\n" * 300_000):
        assert "too large" in refused(bodies.parse_definition, text)
    merged = bodies.parse_definition(large + b", ".join([b"*a"] * 90) + b"]\n")["b"]
    assert len(merged) == 2_000


def test_what_begins_with_a_brace_is_strict_json() -> None:
    assert "at line 1" in refused(bodies.parse_definition, b'{"name": "a",}')
    assert bodies.parse_definition(b"{name: a}", "application/yaml") == {"name": "a"}


# -- parameters


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("+1", 1), ("-1", -1), ("007", 7), (str(2**63 - 1), 2**63 - 1), (str(-(2**63)), -(2**63)),
        (str(2**63), None), ("1.0", None), ("", None), ("1e3", None), (" 1", None), ("0x10", None), ("１", None),
        ("1_000", None), ("9" * 4000, None),
    ],
)  # fmt: skip
def test_integers(text: str, value: int | None) -> None:
    assert params.integer(text) == value


@pytest.mark.parametrize("spelling", params.TASK.query)
def test_every_spelling_of_a_query_value(spelling: str) -> None:
    assert params.int_of(params.TASK, {spelling: ["24"]}) == 24


def test_spellings_in_query_and_body_agree_or_conflict() -> None:
    assert params.text_of(params.WORKFLOW, {"workflowKey": ["a"], "workflow_name": ["a"]}, {"workflow_key": "a"}) == "a"
    assert params.text_of(params.WORKFLOW, {"workflowKey": [""]}, {"workflow_name": "b"}) == "b"
    said = refused(params.text_of, params.WORKFLOW, {"workflowKey": ["a"]}, {"workflow_name": "b"})
    assert said == "conflicting values for workflowKey"
    assert refused(params.int_of, params.TASK, {"taskId": ["1", "2"]}) == "conflicting values for taskId"
    assert refused(params.int_of, params.TASK, {}, {"task_id": True}) == "task_id: must be an integer"
    assert refused(params.int_of, params.TASK, {}, {"task_id": "1"}) == "task_id: must be an integer"
    assert refused(params.bool_of, params.APPROVE, {"approve": ["yes"]}) == "approve must be true or false"
    assert params.bool_of(params.APPROVE, {"approve": ["T"]}) is True
    assert params.bool_of(params.APPROVE, {}, {"approve": False}) is False
    assert refused(params.bool_of, params.APPROVE, {}, {"approve": 1}) == "approve: must be true or false"


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, (1, 50)), ({"pageNum": ["0"], "pageSize": ["0"]}, (1, 50)), ({"page_num": ["-3"]}, (1, 50)),
        ({"pageNum": ["3"], "page_size": ["7"]}, (3, 7)), ({"pageSize": ["5000"]}, (1, 1000)),
    ],
)  # fmt: skip
def test_pages(query: params.Query, page: tuple[int, int]) -> None:
    assert params.page_of(query) == page


# -- errors


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "zh"), ("*", "zh"), ("fr, *;q=0.5", "zh"), ("en", "en"), ("en-US,en;q=0.9", "en"), ("zh-CN", "zh"),
        ("en;q=0.3, zh;q=0.8", "zh"), ("zh;q=0.3,EN-gb;q=0.8", "en"), ("en;q=0", "zh"), ("en;q=nan", "zh"),
        ("en;q=x", "zh"), ("de, en;q=0.1", "en"),
    ],
)  # fmt: skip
def test_language(accept: str, language: str) -> None:
    assert language_of(accept, "zh") == language


def test_bodies_of_errors() -> None:
    refusal = refusal_of(domain.NotFound("task", "x:1"), {domain.NotFound: Operation.CANCEL_TASK})
    assert json.loads(body_of(refusal, "/openapi/x", "zh")[1]) == {
        "code": 6163,
        "description": "mongo: no documents in result",
        "extra": {},
        "message": "取消工作流任务失败",
        "type": "error",
    }
    legacy = json.loads(body_of(refusal, "/api/directory/x", "en")[1])
    assert (legacy["resultCode"], legacy["errorMsg"]) == (400, "param is illegal!")
    failed = refusal_of(domain.NotFound("task", "x:1"), {})
    assert json.loads(body_of(failed, "/openapi/x", "en")[1]) == {
        "code": 500,
        "description": "mongo: no documents in result",
        "message": "Internal Error: ",
    }
    ticket = json.loads(body_of(failed, "/openapi/ticket/approval", "en")[1])
    assert ticket == {"code": 500, "description": "mongo: no documents in result", "message": "Internal Error"}
    own = refusal_of(domain.NotFound("task", "x:1"), {}, own=True)
    kind, body = body_of(own, "/api/v1/x", "en")
    assert kind == "application/problem+json"
    assert json.loads(body) == {
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": "task x:1 not found",
    }  # fmt: skip


def test_an_error_no_table_knows_is_a_failure_of_the_server() -> None:
    class Strange(domain.CadorError): ...

    with pytest.raises(Strange):
        refusal_of(Strange("?"), {})


def test_every_code_has_the_status_of_its_family() -> None:
    for operation in Operation:
        assert operation.zh
        assert operation.en
        assert operation.status == (400 if operation.code >= 6000 else operation.code)


@pytest.mark.parametrize(
    ("query", "logged"),
    [
        ("token=abc&a=1", "token=********&a=1"),
        ("a=1&TOKEN=abc", "a=1&TOKEN=********"),
        ("%74oken=abc", "%74oken=********"),
        ("a=token", "a=token"),
        ("tokens=1", "tokens=1"),
        ("", ""),
        ("prefix=cador_Ab3x&limit=5", "prefix=cador_Ab3x&limit=5"),
        ("prefix=cador_Ab3xQ_-rstuvwxyz0123", "prefix=cador_Ab3x********"),
        ("q=a%20cador_Ab3xQ_-rstuvwxyz0123+b", "q=a%20cador_Ab3x********+b"),
    ],
)
def test_tokens_never_reach_the_access_log(query: str, logged: str) -> None:
    assert without_token(query) == logged


# -- streams


@pytest.mark.parametrize(
    ("lines", "events"),
    [
        (b"", b""),
        (b"one\n", b"event:message\ndata:one\n\n"),
        (b"one\ntwo\n", b"event:message\ndata:one\n\nevent:message\ndata:two\n\n"),
        (b"\n", b"event:message\ndata:\n\n"),
        (b"  indented\n", b"event:message\ndata:   indented\n\n"),
        (b"a\n b\n", b"event:message\ndata:a\n\nevent:message\ndata:  b\n\n"),
        (b"10%\r20%\rdone\n", b"event:message\ndata:10%\n\nevent:message\ndata:20%\n\nevent:message\ndata:done\n\n"),
        (b"windows\r\n", b"event:message\ndata:windows\n\n"),
        (b"trailing  \n", b"event:message\ndata:trailing\n\n"),
    ],
)
def test_documented_framing(lines: bytes, events: bytes) -> None:
    assert documented_events(lines) == events


def read_events(stream: bytes) -> list[str]:
    """As an event-stream reader does: fields, one optional space, events at empty lines."""
    found: list[str] = []
    data: list[str] = []
    for line in stream.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if data:
                found.append("\n".join(data))
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
    return found


LINES = st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=("Cs", "Cc"))), min_size=1)


@given(LINES)
def test_what_a_reader_gets_is_what_was_written(lines: list[str]) -> None:
    written = "".join(line + "\n" for line in lines).encode()
    seen = [line.encode().rstrip().decode() for line in lines]
    assert read_events(documented_events(written)) == seen
    assert read_events(own_event(len(written), written)) == ["\n".join(lines)]


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-3", 10, (0, 4)), ("bytes=4-", 10, (4, 10)), ("bytes=-3", 10, (7, 10)), ("bytes=-99", 10, (0, 10)),
        ("bytes=8-99", 10, (8, 10)), ("bytes=10-", 10, (10, 10)), ("bytes=-0", 10, (10, 0)), ("", 10, None),
        ("bytes=0-1,3-4", 10, None), ("lines=0-1", 10, None), ("bytes=5-3", 10, None), ("bytes=-", 10, None),
        ("bytes=a-b", 10, None), ("bytes=١-", 10, None),
    ],
)  # fmt: skip
def test_ranges(header: str, size: int, expected: tuple[int, int] | None) -> None:
    assert byte_range(header, size) == expected


@pytest.mark.parametrize(
    ("header", "wanted"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("gzip; q=0.0", False), ("", False), ("br", False)],
)
def test_gzip_is_sent_only_when_asked_for(header: str, wanted: bool) -> None:
    assert wants_gzip(header) is wanted
