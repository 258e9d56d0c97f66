"""Values of workflow variables given at a start. Source: API documents, "Execute the Workflow", ``parameters``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from cador.domain.errors import Invalid, NotStartable
from cador.domain.workflow import Param
from cador.jobs.base import Catalogue

_INSTEAD: Final = frozenset({"tag", "enable_commit", "commit_id"})
"""What of a repository says that something else than its branch is meant."""


def apply_parameters(
    params: Sequence[Param],
    given: Sequence[Mapping[str, Any]],
    catalogue: Catalogue,
    warn: Callable[[str], None],
    seal: Callable[[str], str],
) -> tuple[Param, ...]:
    """*params* with the values of *given*. The definition's type decides, a given ``type`` is information.

    Raises: Invalid: an unknown name, a value that is no option, an unknown code host (texts of the contract).
    NotStartable: a required variable is empty.
    """
    values = {param.name: _with_default(param) for param in params}
    for entry in given:
        name = str(entry.get("name", ""))
        param = values.get(name)
        if param is None:
            raise Invalid(f"param {name} not found in workflow", place="parameters")
        if param.source in ("fixed", "reference"):
            warn(f"param {name} is {param.source} in the workflow, the given value is not used")
            continue
        values[name] = _given(param, entry, catalogue, warn, seal)
    for param in values.values():
        if param.required and not _filled(param):
            raise NotStartable(f"workflow param {param.name} is required")
    return tuple(values.values())


def _with_default(param: Param) -> Param:
    return param if param.value or not param.default else replace(param, value=param.default)


def _filled(param: Param) -> bool:
    if param.type != "repo":
        return bool(param.value)
    repo = param.repo or {}
    return bool(repo.get("repo_name")) and any(repo.get(key) for key in ("branch", "tag", "prs", "pr", "commit_id"))


def _given(
    param: Param,
    entry: Mapping[str, Any],
    catalogue: Catalogue,
    warn: Callable[[str], None],
    seal: Callable[[str], str],
) -> Param:
    if param.type == "repo":
        return _given_repo(param, entry.get("repo") or {}, catalogue, warn)
    if param.type == "file":
        raise Invalid(f"param {param.name} is a file, which cannot be given here", place="parameters")
    value = str(entry.get("value") or "")
    if param.type == "choice" and value not in param.options:
        raise Invalid(f"invalid choice value {value} for param {param.name}", place="parameters")
    if param.type == "multi-select":
        for part in filter(None, value.split(",")):
            if part not in param.options:
                raise Invalid(f"invalid choice value {part} for param {param.name}", place="parameters")
    return replace(param, value=seal(value) if param.is_credential and value else value)


def _given_repo(param: Param, repo: Mapping[str, Any], catalogue: Catalogue, warn: Callable[[str], None]) -> Param:
    alias = str(repo.get("codehost_name", ""))
    host = catalogue.find("codehost", alias)
    if host is None:
        raise Invalid(f"failed to find code host with name:{alias}", place="parameters")
    configured = dict(param.repo or {})
    if str(configured.get("codehost_id", host.id)) != str(host.id):
        raise Invalid(f"codehost {alias} (ID {host.id}) not found in workflow", place="parameters")
    namespace = configured.get("repo_namespace") or configured.get("repo_owner")
    if (namespace, configured.get("repo_name")) != (repo.get("repo_namespace"), repo.get("repo_name")):
        warn(
            f"param {param.name}: repository {repo.get('repo_namespace')}/{repo.get('repo_name')} is not the "
            "configured one, ignored"
        )
        return param
    if repo.get("branch"):  # instead of what else was to be checked out
        configured = {key: value for key, value in configured.items() if key not in _INSTEAD}
        configured["branch"] = repo["branch"]
    if repo.get("prs"):
        configured["prs"] = list(repo["prs"])
    return replace(param, repo=configured)
