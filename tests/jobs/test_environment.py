"""The environment of scripts: which variables win, and what commit messages cannot do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.domain.errors import Invalid
from cador.jobs.base import CodeHostAccess
from cador.jobs.environment import asked_by_messages, environment, repo_variables
from jobs.running import World


def env(
    variables: list[dict[str, str]] | None = None,
    predefined: dict[str, str] | None = None,
    repos: list[dict[str, Any]] | None = None,
    **params: str,
) -> dict[str, str]:
    return environment(World().run(params), variables or [], predefined or {}, repos or [], lambda ident: None)


def test_who_wins() -> None:
    made = env(
        [{"key": "A", "value": "job"}, {"key": "IMAGE", "value": "user"}, {"key": "PROJECT", "value": "user"}],
        {"IMAGE": "server"},
        [{"repo_name": "r", "commit_message": "#A=commit# #NEW=commit# #IMAGE=commit#"}],
        A="param",
        B="param",
        REPO_0="param",
        WORKSPACE="param",
        CADOR_JOB_DIR="param",
    )
    picked = {
        key: made.get(key) for key in ("A", "B", "IMAGE", "PROJECT", "NEW", "REPO_0", "WORKSPACE", "CADOR_JOB_DIR")
    }
    assert picked == {
        "A": "job",
        "B": "param",
        "IMAGE": "server",
        "PROJECT": "shop",
        "NEW": "commit",
        "REPO_0": "r",
        "WORKSPACE": None,
        "CADOR_JOB_DIR": None,
    }
    assert made["CI"] == made["ZADIG"] == made["Zadig"] == "true"
    assert (made["WORKFLOW"], made["TASK_ID"]) == ("ship", "26")
    assert made["TASK_URL"] == made["BUILD_URL"] == "http://ci.example.com/task/26"


def test_variables_of_repositories() -> None:
    repos = [
        {
            "repo_name": "my-app.x",
            "branch": "main",
            "merge_branches": ["a", "b"],
            "repo_owner": "me",
            "commit_id": "c1",
        },
        {"repo_name": "2", "tag": "v1", "prs": [3, 4], "repo_namespace": "grp/sub"},
    ]
    assert repo_variables(repos) == {
        "REPONAME_0": "my-app.x",
        "REPO_0": "my_app_x",
        "my_app_x_BRANCH": "main",
        "my_app_x_PRE_MERGE_BRANCHES": "main,a,b",
        "my_app_x_ORG": "me",
        "my_app_x_COMMIT_ID": "c1",
        "REPONAME_1": "2",
        "REPO_1": "C",
        "C_TAG": "v1",
        "C_PR": "3,4",
        "C_ORG": "grp/sub",
    }


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "BASH_ENV", "LD_PRELOAD", "LD_X", "ENV", "GIT_SSH_COMMAND", "PYTHONPATH", "NODE_OPTIONS"]
)
def test_commit_messages_cannot_change_how_programs_start(name: str) -> None:
    assert asked_by_messages([{"commit_message": f"fix #{name}=/evil#"}]) == {}


@given(st.text(max_size=40))
def test_any_message_gives_usable_variables(message: str) -> None:
    for key, value in asked_by_messages([{"commit_message": message}]).items():
        assert key.isascii()
        assert key.replace("_", "a").isalnum()
        assert "\n" not in value
        assert "=" not in value


def test_documented_tokens() -> None:
    message = "Fix it\n\n#ENV_X=1# text #A=b c##B=2# #BAD=x=y# #1X=2# #=3# #C=#"
    assert asked_by_messages([{"commit_message": message}]) == {"ENV_X": "1", "A": "b c", "B": "2"}


def test_only_hosts_with_broken_certificates_switch_the_check_off() -> None:
    repos = [{"repo_name": "r", "codehost_id": 4}]
    hosts = {4: CodeHostAccess(4, "gitlab", "https://x", disable_ssl=True)}
    made = environment(World().run({}), [], {}, repos, hosts.get)
    assert made["GIT_SSL_NO_VERIFY"] == "true"
    assert "GIT_SSL_NO_VERIFY" not in env(repos=repos)


def test_values_no_process_can_have() -> None:
    with pytest.raises(Invalid, match="the value of variable A holds a NUL character"):
        env(A="x\0y")
    made = env([{"key": "a=b", "value": "x"}, {"key": "", "value": "y"}, {"key": "变量", "value": "z"}])
    assert ("a=b" in made, "" in made, made["变量"]) == (False, False, "z")
