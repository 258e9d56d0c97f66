"""Names that are made: of job tasks, images and packages."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.domain.naming import (
    custom_rule,
    image_name,
    image_tag,
    norm,
    package_name,
    primary_repo,
    repo_identifier,
    tag_of,
    unique,
)

NAMES = st.text("ab-", min_size=1, max_size=70).map(norm)


def test_documented_names() -> None:
    assert norm("a", "myapp-1", "build-myapps") == "a-myapp-1-build-myapps"
    assert norm("Web", "Nginx", "构建") == "web-nginx-构建"
    assert norm("x" * 62, "yz") == "x" * 62


def test_names_are_one_segment_of_a_path() -> None:
    assert norm("../../etc", "a b?", "job\n") == "..-..-etc-a-b--job"
    assert norm("/", "#", "j") == "j"


@given(st.lists(NAMES, max_size=12))
def test_names_are_unique_and_stay_where_they_are_free(names: list[str]) -> None:
    made = unique(names)
    assert len(set(made)) == len(names)
    assert all(len(name) <= 63 for name in made)
    for wanted, name in zip(names, made, strict=True):
        assert name == wanted or re.fullmatch(r".*-\d+", name)
        if wanted not in names[: names.index(wanted)] and made.index(name) == names.index(wanted):
            assert name == wanted


def test_a_suffix_never_takes_a_name_somebody_has() -> None:
    assert unique(["a", "a", "a-2", "a"]) == ["a", "a-3", "a-2", "a-4"]


def test_very_many_of_one_name_are_told_apart_in_one_pass() -> None:
    made = unique(["a"] * 50_000)
    assert (made[0], made[-1], len(set(made))) == ("a", "a-50000", 50_000)


@pytest.mark.parametrize(
    ("repo", "tag"),
    [
        (None, "20220926141606"),
        ({"branch": "main"}, "20220926141606-26-main"),
        ({"tag": "v1.0", "branch": "main"}, "20220926141606-v1.0"),
        ({"branch": "feat/x y", "prs": [3, 4]}, "20220926141606-26-feat-x-y-pr-3-4"),
        ({"prs": [3]}, "20220926141606-26-pr-3"),
        ({"pr": 9}, "20220926141606-26-pr-9"),
        ({"pr": 0, "branch": "m"}, "20220926141606-26-m"),
        ({"commit_id": "0123456789abcdef"}, "20220926141606-26-01234567"),
        ({}, "20220926141606-26"),
    ],
)
def test_tags(repo: dict[str, object] | None, tag: str) -> None:
    assert image_tag("20220926141606", "26", repo) == tag


@given(
    branch=st.text(min_size=1, max_size=300),
    prs=st.lists(st.integers(1, 10**6), max_size=30),
    number=st.integers(1, 10**7),
)
def test_tags_are_valid_whatever_the_branch(branch: str, prs: list[int], number: int) -> None:
    tag = image_tag("20220926141606", str(number), {"branch": branch, "prs": prs})
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", tag)
    assert tag.startswith(f"20220926141606-{number}-")


def test_a_long_branch_is_cut_not_the_pull_requests() -> None:
    tag = image_tag("20220926141606", "26", {"branch": "b" * 200, "prs": [12345]})
    assert len(tag) == 128
    assert tag.endswith("b-pr-12345")


def test_images_and_packages() -> None:
    assert image_name("https://r.example.com:5000/", "/ns/", "app", "1") == "r.example.com:5000/ns/app:1"
    assert image_name("", "", "app", "1") == "app:1"
    assert package_name("myapp-1", "20220926141606-26-main") == "myapp-1-20220926141606-26-main.tar.gz"
    assert tag_of("r:5000/ns/app:1.2") == "1.2"
    assert tag_of("r:5000/ns/app") == ""
    assert tag_of("r/app:1@sha256:ff") == "1"
    assert custom_rule("{{.SERVICE}}:{{ .TASK_ID }}-{{.NOPE}}", {"SERVICE": "a", "TASK_ID": "1"}) == "a:1-"


def test_which_repository_names_the_image() -> None:
    a, b, c = {"n": "a"}, {"n": "b", "is_primary": True}, {"n": "c", "is_primary": True}
    assert primary_repo([]) is None
    assert primary_repo([a]) is a
    assert primary_repo([a, b, c]) is c


@given(st.from_regex(r"[0-9]{0,3}[A-Za-z][A-Za-z0-9.-]{0,20}", fullmatch=True))
def test_variables_of_repositories_have_shell_names(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", repo_identifier(name))


def test_leading_digits_become_letters() -> None:
    assert repo_identifier("10x-my.repo2") == "BAx_my_repo2"
