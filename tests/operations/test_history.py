"""Events in words."""

from dataclasses import fields
from typing import Any, get_args

import msgspec
import pytest

from cador.domain import events as ev
from cador.domain.replaying import EVENTS
from cador.operations.history import _SENTENCES, Names, told
from cador.ports.stores import EventRow

NAMES = Names({1: "build", 2: "test"}, {5: "release"}, ("make", "release"))
ANN: Any = {"user_id": "u1", "user_name": "Ann"}


def sentence(kind: str, **data: Any) -> str:
    return told([EventRow(1, 1, 10.0, kind, data)], NAMES)[0].text


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (ev.Admitted(1.0), "let in"),
        (ev.JobStarted(1.0, 1, 2, 0), "build started (attempt 2)"),
        (ev.JobStarted(1.0, 1, 1, 1), "build started (attempt 1, once more because it was lost)"),
        (ev.JobSkipped(1.0, 1, 1), "build skipped by its execute policy"),
        (ev.JobEnded(1.0, 1, 1, 0, ev.Result.FAILED, "exit status 3"), "build failed: exit status 3"),
        (ev.JobEnded(1.0, 2, 1, 0, ev.Result.PASSED), "test passed"),
        (ev.JobEnded(1.0, 2, 1, 0, ev.Result.BROKEN, "no such image"), "test could not be run: no such image"),
        (ev.JobEnded(1.0, 2, 1, 0, ev.Result.LOST), "test was lost"),
        (ev.DeadlinePassed(1.0, 1, 1), "the time of build is up"),
        (ev.RetryPauseOver(1.0, 1, 1), "build is repeated"),
        (ev.Decided(1.0, 1, ignore=True, **ANN), "Ann ignored the failure of build"),
        (ev.Decided(1.0, 1, ignore=False, **ANN), "Ann let stand the failure of build"),
        (ev.Voted(1.0, 5, "u1", "Ann", True, ""), "Ann approved release"),
        (ev.Voted(1.0, 5, "u1", "Ann", False, "not today"), "Ann rejected release: not today"),
        (ev.ApprovalExpired(1.0, 5, 1), "release was not answered in time"),
        (ev.TaskExpired(1.0, 0), "the time of the task is up"),
        (ev.CancelRequested(1.0, **ANN), "Ann cancelled it"),
        (ev.RetryRequested(1.0, **ANN), "Ann asked for a retry"),
        (ev.RetryRequested(1.0, jobs=(1, 2), **ANN), "Ann asked for a retry of build, test"),
        (
            ev.RetryRequested(1.0, from_job=2, changes=(ev.Edit("TAG", "1", "2"),), **ANN),
            "Ann asked for a retry from test, with TAG = 2",
        ),
        (ev.StageExecuted(1.0, 1, skipped=(2,), **ANN), "Ann started release, without test"),
        (ev.JobAllowed(1.0, 2), "the execute policy of test lets people be asked"),
    ],
)
def test_each_event_has_its_sentence(event: Any, text: str) -> None:
    data = msgspec.to_builtins(event)
    kind = next(kind for kind, known in EVENTS.items() if known is type(event))
    del data["at"]
    assert sentence(kind, **data) == text


def test_every_kind_of_event_has_a_sentence() -> None:
    assert {*EVENTS} | {"created"} == {*_SENTENCES}
    assert {*EVENTS.values()} == {*get_args(ev.Event)}


def test_what_has_no_sentence_is_named() -> None:
    assert sentence("moon_landed", job_id=1, user_name="Ann") == "moon landed build by Ann"
    assert sentence("created", creator="Ann", trigger="openapi") == "created by Ann (openapi)"


def test_ids_that_nobody_knows_are_no_reason_to_fail() -> None:
    for kind, event in EVENTS.items():
        values = {f.name: 99 for f in fields(event) if f.name.endswith("_id") or f.name == "stage"}
        assert sentence(kind, **values)
