import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.domain.masking import MASK
from cador.domain.secrets import (
    SECRET_KEYS,
    change_credentials,
    keep_masked,
    mask_credentials,
    masked_places,
    seal_credentials,
    secret_values,
)


def cred(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": value, "choice_value": [value], "is_credential": True}


WORKFLOW: dict[str, Any] = {
    "name": "shop",
    "params": [
        {"name": "region", "value": "eu", "is_credential": False},
        {"name": "pass", "value": "v-param", "default": "d-param", "is_credential": True},
    ],
    "stages": [
        {
            "name": "build",
            "jobs": [
                {
                    "name": "b",
                    "spec": {
                        "service_and_builds": [
                            {"service_name": "api", "service_module": "api", "key_vals": [cred("K", "api-k")]},
                            {"service_name": "web", "service_module": "web", "key_vals": [cred("K", "web-k")]},
                        ],
                        "repos": [{"repo_name": "r", "oauth_token": "tok-1", "password": ""}],
                    },
                }
            ],
        }
    ],
    "notify_ctls": [{"webhook_notification_config": {"address": "https://x", "token": "tok-2"}}],
    "env": {"A": {"valueFrom": {"secret": "stored-name", "key": "k"}}, "B": {"secret": True, "value": "v-b"}},
}

ALL = {"v-param", "d-param", "api-k", "web-k", "tok-1", "tok-2", "v-b"}

names = st.sampled_from(["name", "key", "value", "default", "password", "token", "x", "choice_value", "is_credential"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc*", max_size=4) | st.just(MASK),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5),
    max_leaves=20,
)


def test_every_secret_is_found_and_nothing_else() -> None:
    assert set(secret_values(WORKFLOW)) == ALL
    masked = mask_credentials(WORKFLOW)
    assert set(secret_values(masked)) == {MASK}
    assert not [value for value in ALL if value in str(masked)]
    assert masked["params"][0] == WORKFLOW["params"][0]
    assert masked["env"]["A"] == WORKFLOW["env"]["A"]
    assert masked["stages"][0]["jobs"][0]["spec"]["repos"][0]["password"] == ""  # not set stays visible as not set


@pytest.mark.parametrize("key", sorted(SECRET_KEYS))
def test_secret_keys_are_masked_anywhere(key: str) -> None:
    assert mask_credentials([{"a": {key: "v", "other": "w"}}]) == [{"a": {key: MASK, "other": "w"}}]


@pytest.mark.parametrize("key", ["value", "default", "default_value", "choice_value"])
def test_values_of_credentials_are_masked_only_with_the_flag(key: str) -> None:
    assert mask_credentials({key: "v", "is_credential": True}) == {key: MASK, "is_credential": True}
    assert mask_credentials({key: ["v", ""], "is_credential": True}) == {key: [MASK, ""], "is_credential": True}
    assert mask_credentials({key: 7, "is_credential": True}) == {key: MASK, "is_credential": True}
    for plain in ({key: "v"}, {key: "v", "is_credential": False}, {key: "v", "is_credential": "true"}):
        assert mask_credentials(plain) == plain


def test_sealing_and_opening_is_the_identity() -> None:
    sealed = seal_credentials(WORKFLOW, lambda text: f"sealed:{text}")
    assert set(secret_values(sealed)) == {f"sealed:{value}" for value in ALL}
    assert change_credentials(sealed, lambda text: text.removeprefix("sealed:")) == WORKFLOW


@given(documents)
def test_documents_are_never_changed_in_place_and_keep_their_shape(doc: Any) -> None:
    before = copy.deepcopy(doc)
    mask_credentials(doc)
    keep_masked(doc, doc)
    assert doc == before
    assert mask_credentials(mask_credentials(doc)) == mask_credentials(doc)
    assert set(secret_values(mask_credentials(doc))) <= {MASK}


@given(documents)
def test_what_was_masked_and_sent_back_is_what_it_was(doc: Any) -> None:
    back = keep_masked(mask_credentials(doc), doc)
    assert mask_credentials(back) == mask_credentials(doc)
    if not _has_ambiguous_lists(doc):
        assert list(secret_values(back)) == list(secret_values(doc))


def _has_ambiguous_lists(doc: Any) -> bool:
    """Lists whose elements have secret or repeated names cannot be matched."""
    if isinstance(doc, dict):
        return any(map(_has_ambiguous_lists, doc.values()))
    if isinstance(doc, list):
        return any(isinstance(e, dict) and ({"name", "key"} & e.keys()) for e in doc) or any(
            map(_has_ambiguous_lists, doc)
        )
    return False


def test_masked_values_follow_their_names_not_their_places() -> None:
    new = mask_credentials(WORKFLOW)
    new["params"].reverse()
    new["stages"].insert(0, {"name": "new", "jobs": []})
    services = new["stages"][1]["jobs"][0]["spec"]["service_and_builds"]
    services.reverse()
    services[0]["key_vals"].insert(0, {"key": "N", "value": "n", "is_credential": True})
    kept = keep_masked(new, WORKFLOW)
    assert kept["params"][0]["value"] == "v-param"
    spec = kept["stages"][1]["jobs"][0]["spec"]
    assert [kv["value"] for kv in spec["service_and_builds"][0]["key_vals"]] == ["n", "web-k"]
    assert spec["service_and_builds"][1]["key_vals"][0]["choice_value"] == ["api-k"]
    assert list(masked_places(kept)) == []


def test_a_new_value_wins_and_a_mask_without_an_old_value_is_told() -> None:
    new = {"jobs": [{"name": "a", "token": "fresh"}, {"name": "b", "token": MASK}, {"name": "c", "password": MASK}]}
    old = {"jobs": [{"name": "a", "token": "one"}, {"name": "b", "token": "two"}]}
    kept = keep_masked(new, old)
    assert [job.get("token") for job in kept["jobs"]] == ["fresh", "two", None]
    assert list(masked_places(kept)) == ["jobs[2].password"]
    assert list(masked_places({"v": {"is_credential": True, "value": [MASK]}, "n": MASK})) == ["v.value"]


def test_a_secret_cannot_be_moved_to_where_it_is_shown() -> None:
    old = {"params": [{"name": "p", "value": "hidden", "is_credential": True}]}
    for new in (
        {"params": [{"name": "p", "value": MASK, "is_credential": False}]},
        {"params": [{"name": "p", "description": MASK, "is_credential": True}]},
        {"params": [{"name": "q", "value": MASK, "is_credential": True}]},
    ):
        assert "hidden" not in str(keep_masked(new, old))
    # nor is a shown value taken for a secret
    shown = {"params": [{"name": "p", "value": "shown"}]}
    hidden = {"params": [{"name": "p", "value": MASK, "is_credential": True}]}
    assert keep_masked(hidden, shown) == hidden


@given(documents, documents)
def test_any_two_documents_can_be_compared(new: Any, old: Any) -> None:
    kept = keep_masked(new, old)
    assert mask_credentials(kept) == mask_credentials(new)
