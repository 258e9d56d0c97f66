"""Variables and repositories inside job specs, and what a start request may change of them.

Both stay JSON objects (names of the API documents, ``KeyVal`` and ``Repository``): unknown fields are kept.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cador.domain.errors import Invalid, NotStartable
from cador.domain.masking import MASK
from cador.domain.naming import pull_requests
from cador.domain.variables import references
from cador.domain.workflow import Job
from cador.jobs.base import Doc, Scope
from cador.jobs.definition import raise_faults
from cador.ports.stores import Resource

Object = dict[str, Any]
_FIXED_SUFFIX: Final = "<+fixed>"
_REF_FIELDS: Final = ("branch", "tag", "enable_commit", "commit_id")
_DETAIL: Final = (
    "source",
    "repo_owner",
    "repo_namespace",
    "repo_name",
    "remote_name",
    "branch",
    "commit_id",
    "commit_message",
    "address",
    "author_name",
)


class Input(BaseModel):
    """Base of what ``parameters`` of a start request hold: wrong types are faults, unknown members are ignored."""

    model_config = ConfigDict(strict=True, defer_build=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


M = TypeVar("M", bound=Input)


def parse(model: type[M], parameters: Doc) -> M:
    """Raises: Invalid: every fault with its place."""
    try:
        return model.model_validate(dict(parameters))
    except ValidationError as error:
        raise_faults(error, "parameters")


def with_input_told(job: Job, updated: Callable[[], Object]) -> Job:
    """*job* with the spec that *updated* returns.

    Raises: Invalid: ``failed to update jobspec for job: <name>, err: <cause>``.
    """
    try:
        return replace(job, spec=updated())
    except Invalid as error:
        raise Invalid(f"failed to update jobspec for job: {job.name}, err: {error}", place=error.place) from error


class KeyInput(Input):
    key: str
    value: str = ""


class RepoInput(Input):
    codehost_name: str = ""
    repo_namespace: str = Field("", validation_alias=AliasChoices("repo_namespace", "repo_owner"))
    repo_name: str = ""
    branch: str = ""
    tag: str = ""
    pr: int = 0
    prs: list[int] = []
    enable_commit: bool = False
    commit_id: str = ""
    remote_name: str = ""
    checkout_path: str = ""
    submodules: bool | None = None


class ServiceInput(Input):
    service_name: str
    service_module: str
    repo_info: list[RepoInput] = []
    inputs: list[KeyInput] = []

    @property
    def pair(self) -> tuple[str, str]:
        return self.service_name, self.service_module


def objects(value: Any) -> list[Object]:
    """The objects in a list that a user wrote; ``[]`` when it is no list."""
    return [dict(item) for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def pair(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Service and module of an entry of a list."""
    return text(entry.get("service_name")), text(entry.get("service_module"))


def texts(value: Any) -> list[str]:
    """The texts in a list that a user wrote; ``[]`` when it is no list."""
    return [text(item) for item in value] if isinstance(value, list | tuple) else []


def text(value: Any) -> str:
    """A text field of a document; numbers and booleans as they are written in JSON."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- variables


def variables(stored: Any) -> list[Object]:
    """Normal form of a list of KeyVal: ``key``, ``value``, ``type``, ``is_credential`` are always there."""
    result = []
    for item in objects(stored):
        value, source = text(item.get("value", item.get("default_value"))), text(item.get("source"))
        if value.endswith(_FIXED_SUFFIX):
            value, source = value.removesuffix(_FIXED_SUFFIX), "fixed"
        if item.get("type") == "multi-select" and not value:
            value = ",".join(texts(item.get("choice_value")))
        result.append(
            {
                **{k: v for k, v in item.items() if k != "default_value"},
                "key": text(item.get("key")),
                "value": value,
                "type": text(item.get("type")) or "string",
                "is_credential": item.get("is_credential") is True,
                **({"source": source} if source else {}),
            }
        )
    return result


def set_values(stored: Iterable[Object], given: Sequence[KeyInput], scope: Scope, where: str) -> list[Object]:
    """Apply ``inputs``: only values of variables that exist and may be set. Unknown keys warn, credentials are sealed.

    A masked value keeps the stored one. *where* begins the warnings (``job build``).
    """
    wanted = {item.key: item.value for item in given}
    result = []
    for item in stored:
        value = wanted.pop(item["key"], None)
        if value is None:
            result.append(item)
            continue
        if (source := item.get("source")) in ("fixed", "reference"):
            scope.warn(f"{where}: variable {item['key']} is {source} in the workflow, the given value is not used")
            result.append(item)
            continue
        options = texts(item.get("choice_option"))
        chosen = value.split(",") if item["type"] == "multi-select" and value else [value]
        if item["type"] in ("choice", "multi-select") and options and any(one not in options for one in chosen):
            scope.note(f"{where}: the value of {item['key']} is none of its options")
        if item["is_credential"]:
            value = item["value"] if value == MASK else scope.seal(value)
        changed = {**item, "value": value}
        if item["type"] == "multi-select":
            changed["choice_value"] = [] if item["is_credential"] else chosen
        result.append(changed)
    for key in wanted:
        scope.warn(f"{where}: there is no variable {key}")
    return result


_OF_WORKFLOW: Final = ("value", "choice_value", "source", "required")


def sealed_values(stored: Iterable[Object], scope: Scope) -> list[Object]:
    """*stored* with credentials sealed that a definition holds in clear because it does not say that they are some."""
    return [
        {**item, "value": scope.seal(item["value"])}
        if item["is_credential"]
        and item["value"]
        and not item["value"].startswith("sealed:")
        and not references(item["value"])
        else item
        for item in stored
    ]


def overlay_values(base: Iterable[Object], over: Iterable[Object]) -> list[Object]:
    """Variables of a build or test configuration with the values a workflow gives them; the base has the keys."""
    values = {item["key"]: {k: v for k, v in item.items() if k in _OF_WORKFLOW} for item in over}
    return [{**item, **values.get(item["key"], {})} for item in base]


def require_values(stored: Iterable[Object], where: str) -> None:
    """Raises: NotStartable: a required variable is empty."""
    for item in stored:
        if item.get("required") and not item["value"]:
            raise NotStartable(f"{where} variable {item['key']} is required")


def shown_variables(stored: Iterable[Object]) -> list[Object]:
    """As the detail of a task shows them: credentials masked."""
    return [
        {
            "key": item["key"],
            "value": MASK if item["is_credential"] and item["value"] else item["value"],
            "type": item["type"],
            "is_credential": item["is_credential"],
        }
        for item in stored
    ]


# -- repositories


def find_codehost(name: str, scope: Scope) -> Resource:
    """Raises: Invalid: ``failed to find code host with name:<name>``."""
    found = scope.catalogue.find("codehost", name)
    if found is None:
        raise Invalid(f"failed to find code host with name:{name}")
    return found


def identity(repo: Mapping[str, Any]) -> tuple[str, str, str]:
    """Code host, namespace and name: two code hosts may hold repositories of one name."""
    return text(repo.get("codehost_id")), namespace_of(repo), text(repo.get("repo_name"))


def namespace_of(repo: Mapping[str, Any]) -> str:
    return text(repo.get("repo_namespace") or repo.get("repo_owner"))


def configured_repos(stored: Any, scope: Scope, where: str) -> list[Object]:
    """Normal form of a list of repositories of a definition or of a build or test configuration.

    Code hosts are found by id or by name, repositories that come from a workflow variable or from another job are
    replaced. Raises: NotStartable: something they refer to is missing.
    """
    return [_complete(_sourced(repo, scope, where), scope, where) for repo in objects(stored)]


def _sourced(repo: Object, scope: Scope, where: str) -> Object:
    match repo.get("source_from"):
        case "param":
            name = text(repo.get("param_name"))
            param = next((p for p in scope.workflow.params if p.name == name and p.type == "repo"), None)
            if param is None or not param.repo:
                raise NotStartable(f"{where}: workflow param {name} of type repo not found")
            own = {key: repo[key] for key in ("checkout_path", "submodules", "is_primary") if repo.get(key)}
            return {**param.repo, **own}
        case "job":
            return {**_repo_of_job(repo, scope, where), "is_primary": repo.get("is_primary", False)}
        case _:
            return repo


def _repo_of_job(repo: Object, scope: Scope, where: str) -> Object:
    name, index = text(repo.get("job_name")), repo.get("repo_index") or 0
    pair = (text(repo.get("service_name")), text(repo.get("service_module")))
    for plan in scope.plans.get(name, ()):
        if pair != ("", "") and pair != (plan.info.get("service_name", ""), plan.info.get("service_module", "")):
            continue
        repos = repos_of_plan(plan.plan)
        if isinstance(index, int) and 0 <= index < len(repos):
            return dict(repos[index])
    raise NotStartable(f"{where}: refered job {name} has no such repository")


def repos_of_plan(plan: Doc) -> list[Object]:
    """Repositories of all git steps of a plan, in order."""
    return [
        repo
        for step in objects(plan.get("steps"))
        if step.get("type") == "git"
        for repo in objects(mapping(step.get("spec")).get("repos"))
    ]


def _complete(repo: Object, scope: Scope, where: str) -> Object:
    host: Resource | None = None
    if repo.get("codehost_id"):
        host = scope.catalogue.by_id("codehost", repo["codehost_id"])
        if host is None:
            raise NotStartable(f"{where}: code host {repo['codehost_id']} not found")
    elif name := text(repo.get("codehost_name")):
        host = scope.catalogue.find("codehost", name)
        if host is None:
            raise NotStartable(f"{where}: failed to find codehost with name [{name}]")
    document = host.document if host else {}
    namespace = namespace_of(repo)
    numbers = pull_requests(repo)
    listed = repo.get("prs") or ()
    if not isinstance(listed, list | tuple) or any(type(number) is not int or number < 0 for number in listed):
        # What is none of a number is left out of them; building something else than was meant is no answer.
        raise NotStartable(
            f"{where}: pull request numbers {listed} of repository {text(repo.get('repo_name'))} are not valid"
        )
    branches = repo.get("merge_branches")
    return {
        **{key: value for key, value in repo.items() if key not in _REPLACED},
        **({"merge_branches": [text(branch) for branch in branches]} if isinstance(branches, list) else {}),
        "codehost_id": host.id if host else 0,
        "source": text(document.get("type") or repo.get("source")).lower() or "other",
        "address": text(document.get("address") or repo.get("address")),
        "repo_owner": text(repo.get("repo_owner")) or namespace,
        "repo_namespace": namespace,
        "repo_name": text(repo.get("repo_name")),
        "remote_name": text(repo.get("remote_name")) or "origin",
        "branch": text(repo.get("branch")),
        **({"prs": numbers} if numbers else {}),
    }


_REPLACED: Final = frozenset(
    {"oauth_token", "password", "ssh_key", "private_access_token", "username", "codehost_name", "pr", "prs",
     "merge_branches"}
)  # fmt: skip
"""Credentials of old definitions are not used; the others have one normal form."""


def set_refs(stored: Iterable[Object], given: Sequence[RepoInput], scope: Scope, where: str) -> list[Object]:
    """Apply ``repo_info`` to configured repositories: only what is checked out changes. Unknown repositories warn.

    Raises: Invalid: unknown code host.
    """
    repos = list(stored)
    for item in given:
        host = find_codehost(item.codehost_name, scope)
        wanted = (str(host.id), item.repo_namespace, item.repo_name)
        at = next((n for n, repo in enumerate(repos) if _identity_by_name(repo, scope) == wanted), None)
        if at is None:
            scope.warn(f"{where}: repository {item.repo_namespace}/{item.repo_name} is not configured")
        else:
            repos[at] = {**repos[at], **_refs(item)}
    return repos


def _identity_by_name(repo: Object, scope: Scope) -> tuple[str, str, str]:
    """Like :func:`identity` for repositories that name their code host."""
    if not repo.get("codehost_id") and (name := text(repo.get("codehost_name"))):
        found = scope.catalogue.find("codehost", name)
        return (str(found.id) if found else "", namespace_of(repo), text(repo.get("repo_name")))
    return identity(repo)


def _refs(item: RepoInput) -> Object:
    numbers = pull_requests({"prs": item.prs, "pr": item.pr})
    given = {key: getattr(item, key) for key in _REF_FIELDS}
    return {**given, "prs": numbers, "pr": 0, "merge_branches": [], "commit_message": "", "author_name": ""}


def replaced_repos(stored: Sequence[Object], given: Sequence[RepoInput], scope: Scope) -> list[Object]:
    """``repo_info`` of a freestyle job is its new list; a repository that was configured keeps its other settings.

    Raises: Invalid: unknown code host.
    """
    known = {_identity_by_name(repo, scope): repo for repo in stored}
    repos = []
    for item in given:
        host = find_codehost(item.codehost_name, scope)
        before = known.get((str(host.id), item.repo_namespace, item.repo_name), {})
        settings = {key: getattr(item, key) for key in ("remote_name", "checkout_path") if getattr(item, key)}
        if item.submodules is not None:
            settings["submodules"] = item.submodules
        repos.append(
            {
                **before,
                "source": text(host.document.get("type")),
                "codehost_id": host.id,
                "repo_owner": item.repo_namespace,
                "repo_namespace": item.repo_namespace,
                "repo_name": item.repo_name,
                "source_from": "",
                **_refs(item),
                **settings,
            }
        )
    return repos


def overlay_refs(base: Iterable[Object], over: Iterable[Object]) -> list[Object]:
    """Repositories of a build or test configuration, with what a workflow checks out of them (both complete)."""
    refs = {identity(repo): repo for repo in over}
    fields = (*_REF_FIELDS, "prs", "merge_branches", "is_primary")
    return [
        {**repo, **{key: refs[identity(repo)][key] for key in fields if key in refs[identity(repo)]}}
        if identity(repo) in refs
        else repo
        for repo in base
    ]


def shown_repos(plan: Doc, result: Doc) -> list[Object]:
    """As the detail of a task shows them; commits that were really checked out win over those known at creation."""
    found = objects(result.get("repos"))
    shown = []
    for index, repo in enumerate(repos_of_plan(plan)):
        merged = {**repo, **(found[index] if index < len(found) else {})}
        entry: Object = {key: text(merged.get(key)) for key in _DETAIL}
        entry |= {key: merged[key] for key in ("prs", "tag", "enable_commit", "merge_branches") if merged.get(key)}
        shown.append(entry)
    return shown
