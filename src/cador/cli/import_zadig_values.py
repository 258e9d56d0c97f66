"""Values of an import: names, references, and what replies of a Zadig mean. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from cador.operations.declarative.substitution import escape
from cador.operations.models.body import Body

Doc = dict[str, Any]
RUNTIME: Final = frozenset(
    {
        "commit_message",
        "author_name",
        "checkout_ref",
        "address",
        "username",
        "repo_index",
        "submission_id",
        "use_default",
    }
)
"""Keys of a repository that a run fills in."""


class Reference(str):
    """A text that is a reference; every other ``$`` is meant."""

    __slots__ = ()


HOOKS: Final = frozenset({"hook_address", "weChat_webHook", "dingding_webhook", "feishu_webhook"})
"""Addresses of chat robots: who knows one may write there."""
TARGET: Final = ("service_name", "service_module")
LIMITS: Final = ("cpu_req", "cpu_limit", "memory_req", "memory_limit")


def with_references(value: Any, key: str = "") -> Any:
    match value:
        case Reference():
            return str(value)
        case str():
            return escape({key: value})[key]
        case Mapping():
            return {name: with_references(child, name) for name, child in value.items()}
        case list():
            return [with_references(child, key) for child in value]
        case _:
            return value


def is_repository(node: Mapping[str, Any]) -> bool:
    return "repo_name" in node and isinstance(node.get("codehost_id"), int)


def known_fields(model: type[Body], spec: Doc, extra: Iterable[str]) -> Doc:
    """*spec* without keys that the kind does not have."""
    return {key: value for key, value in spec.items() if key in model.model_fields or key in extra}


def docker_step(docker: Doc) -> Doc:
    source = str(docker.get("source") or docker.get("dockerfile_source") or "local")
    found: Doc = {
        "dockerfile_source": "template" if source == "template" else "local",
        "build_context_dir": str(docker.get("work_dir") or docker.get("build_context_dir") or "."),
        "dockerfile_directory": str(docker.get("docker_file") or docker.get("dockerfile_directory") or "Dockerfile"),
    }
    for key in ("build_args", "template_name", "platforms"):
        if docker.get(key):
            found[key] = str(docker[key])
    return found


def other_secret(one: Doc) -> str:
    return {"SSH": "ssh_key", "PrivateAccessToken": "private_access_token"}.get(str(one.get("auth_type")), "")


def free_name(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f/\\]+", "-", text).strip()[:128] or "unnamed"


def text_of(value: Any) -> str:
    return "" if value is None else str(value)


def says_something(value: Any) -> bool:
    """Whether there is anything in *value* but empty lists and switches that are off."""
    if isinstance(value, Mapping):
        return bool(value.get("items")) or (value.get("enabled") is True and len(value) > 1)
    return bool(value)


def lines_of(secrets: Mapping[str, str], notes: Iterable[str]) -> Iterator[str]:
    """What the comments at the top of the file say."""
    if secrets:
        yield "Secrets to set before applying (in the environment, or a file for --env-file):"
        yield from (f"  {name}=   # {place}" for name, place in secrets.items())
    if listed := list(notes):
        yield "Not taken, or changed:"
        yield from (f"  {note}" for note in listed)
