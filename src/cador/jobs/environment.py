"""The environment of scripts: which variables there are, and which wins.

Lowest to highest: workflow variables, the job's own variables, predefined ones; secrets of the server last. Variables
that the message of a commit asks for (``#KEY=VALUE#``) never replace anything: who wrote it is not trusted.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from cador.domain.errors import Invalid
from cador.domain.naming import pull_requests, repo_identifier
from cador.jobs.base import CodeHostAccess, Run
from cador.jobs.values import namespace_of, text

RESERVED: Final = frozenset({"WORKSPACE", "RESULTS_DIR", "TMPDIR"})
"""Set by the executor; what a user calls so is left out. ``CADOR_...`` likewise."""

_FROM_MESSAGE: Final = re.compile(r"#([A-Za-z_][A-Za-z0-9_]*)=([^#=\n]+)#")
_NEVER_FROM_MESSAGE: Final = frozenset(
    {"PATH", "HOME", "ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "PS4", "IFS", "PROMPT_COMMAND", "DOCKER_HOST"}
)
_PREFIXES_NEVER_FROM_MESSAGE: Final = (
    "LD_",
    "GIT_",
    "SSH_",
    "BASH_",
    "PYTHON",
    "PERL",
    "RUBY",
    "NODE_",
    "JAVA_",
    "MAVEN_",
    "GCONV_",
)


def environment(
    run: Run,
    variables: Iterable[Mapping[str, Any]],
    predefined: Mapping[str, str],
    repos: Sequence[Mapping[str, Any]],
    codehost: Callable[[int], CodeHostAccess | None],
) -> dict[str, str]:
    """*variables*: the job's own (``key``, ``value``), opened; *predefined*: those of the job type, secrets included.

    Raises: Invalid: a value that no process can be given.
    """
    env: dict[str, str] = dict(run.params)
    env |= {item["key"]: item["value"] for item in variables}
    env = {key: value for key, value in env.items() if not _reserved(key)}
    env |= {
        "CI": "true",
        "ZADIG": "true",
        "Zadig": "true",
        "PROJECT": run.project,
        "WORKFLOW": run.workflow,
        "TASK_ID": str(run.number),
        "TASK_URL": run.task_url,
        "BUILD_URL": run.task_url,
    }
    env |= predefined
    env |= repo_variables(repos)
    if any(_unverified(repo, codehost) for repo in repos):
        env["GIT_SSL_NO_VERIFY"] = "true"
    for key, value in asked_by_messages(repos).items():
        env.setdefault(key, value)
    for key, value in env.items():
        if "\0" in value:
            raise Invalid(f"the value of variable {key} holds a NUL character")
    return {key: value for key, value in env.items() if key and "=" not in key and "\0" not in key}


def _reserved(key: str) -> bool:
    return key in RESERVED or key.startswith("CADOR_")


def _unverified(repo: Mapping[str, Any], codehost: Callable[[int], CodeHostAccess | None]) -> bool:
    access = codehost(int(repo["codehost_id"])) if repo.get("codehost_id") else None
    return access is not None and access.disable_ssl


def repo_variables(repos: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Variables of repositories, by index in configured order. What has no value has no variable."""
    env: dict[str, str] = {}
    for index, repo in enumerate(repos):
        name = text(repo.get("repo_name"))
        ident = repo_identifier(name)
        env |= {f"REPONAME_{index}": name, f"REPO_{index}": ident}
        branch = text(repo.get("branch"))
        merged = [branch, *(text(one) for one in repo.get("merge_branches") or ())]
        values = {
            "BRANCH": branch,
            "TAG": text(repo.get("tag")),
            "PR": ",".join(map(str, pull_requests(repo))),
            "COMMIT_ID": text(repo.get("commit_id")),
            "ORG": text(repo.get("repo_owner")) or namespace_of(repo),
            "PRE_MERGE_BRANCHES": ",".join(merged) if branch else "",
        }
        env |= {f"{ident}_{what}": value for what, value in values.items() if value}
    return env


def asked_by_messages(repos: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """``#KEY=VALUE#`` in commit messages; names that change how programs start are not taken."""
    env: dict[str, str] = {}
    for repo in repos:
        for key, value in _FROM_MESSAGE.findall(text(repo.get("commit_message"))):
            if key in _NEVER_FROM_MESSAGE or key.startswith(_PREFIXES_NEVER_FROM_MESSAGE) or _reserved(key):
                continue
            env.setdefault(key, value)
    return env
