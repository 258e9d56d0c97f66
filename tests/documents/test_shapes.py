"""The comparison itself: it must be able to fail."""

from typing import Any

import pytest

from documents.shapes import differences, unmasked

DOCUMENTED = {
    "id": 1,
    "status": "running",
    "choice_否": ["a"],
    "jobs": [
        {"type": "build", "spec": {"image": "x"}},
        {"type": "plugin", "error": "", "spec": {"inputs": [{"v": 1}]}},
    ],
}
SERVED: dict[str, Any] = {
    "id": 7,
    "status": "passed",
    "choice_option": ["b", "c"],
    "more": True,
    "jobs": [
        {"type": "build", "spec": {"image": ""}},
        {"type": "other", "spec": {}},
        {"type": "plugin", "error": "", "spec": {"inputs": [{"v": 2}]}},
    ],
}


def test_other_values_and_further_keys_are_no_difference() -> None:
    assert differences(DOCUMENTED, SERVED, enums={"status": ["running", "passed"]}) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "7"}, "id: text instead of number"),
        ({"id": True}, "id: bool instead of number"),
        ({"status": "waiting"}, "status: 'waiting' is none of"),
        ({"choice_option": "b"}, "choice_option: text instead of a list"),
        ({"jobs": []}, "jobs[]: empty"),
        ({"jobs": SERVED["jobs"][:1]}, "jobs[].error: missing"),
        ({"jobs": [*SERVED["jobs"], {"type": "build", "spec": {}}]}, "jobs[].spec.image: missing"),
        ({"jobs": [{**SERVED["jobs"][0], "spec": None}, *SERVED["jobs"][1:]]}, "jobs[].spec: null instead of"),
    ],
)
def test_differences(change: dict[str, Any], said: str) -> None:
    found = differences(DOCUMENTED, {**SERVED, **change}, enums={"status": ["running", "passed"]})
    assert any(said in line for line in found), found


def test_a_missing_key_is_a_difference() -> None:
    assert differences({"a": 1}, {}) == ["a: missing"]
    assert differences({"a": None}, {}) == ["a: missing"]
    assert differences([], {}) == [": object instead of a list"]


def test_credentials_in_clear() -> None:
    rule = ["envs[].value where is_credential is true"]
    shown = {"envs": [{"value": "open", "is_credential": False}, {"value": "secret", "is_credential": True}]}
    assert unmasked(shown, rule) == [f"{rule[0]}: secret"]
    shown["envs"][1]["value"] = "********"
    assert unmasked(shown, rule) == []
