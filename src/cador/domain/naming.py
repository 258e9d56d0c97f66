"""Names that are made, not chosen: of job tasks, images, packages and the variables of repositories."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

JOB_NAME_LIMIT: Final = 63
TAG_LIMIT: Final = 128
_NOT_IN_NAME: Final = re.compile(r"[^\w.-]")
_NOT_IN_TAG: Final = re.compile(r"[^A-Za-z0-9_.-]")
_TEMPLATE: Final = re.compile(r"\{\{[ \t]*\.([A-Z_]+)[ \t]*\}\}")


def norm(*parts: str) -> str:
    """Name of a job task: its parts joined by hyphens, lower case, at most 63 characters, no hyphen at the ends.

    It is part of addresses and of paths: what is neither a letter or digit of some script nor ``_ . -`` becomes ``-``.
    """
    return _NOT_IN_NAME.sub("-", "-".join(part for part in parts if part).lower())[:JOB_NAME_LIMIT].strip("-")


def unique(names: Iterable[str]) -> list[str]:
    """*names* in order, each a second time met with ``-2``, ``-3`` ... appended, still within the limit.

    A name that somebody has as it is, is never given to another one.
    """
    wanted = list(names)
    taken = set(wanted)
    seen: set[str] = set()
    reached: dict[str, int] = {}
    result = []
    for name in wanted:
        chosen, number = name, reached.get(name, 1)
        while chosen in seen or (number > 1 and chosen in taken):
            number += 1
            suffix = f"-{number}"
            chosen = name[: JOB_NAME_LIMIT - len(suffix)].rstrip("-") + suffix
        reached[name] = number
        seen.add(chosen)
        result.append(chosen)
    return result


def primary_repo(repos: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The repository that names the image: the last one marked so, else the first."""
    marked = [repo for repo in repos if repo.get("is_primary")]
    return marked[-1] if marked else next(iter(repos), None)


def image_tag(timestamp: str, task_number: str, repo: Mapping[str, Any] | None) -> str:
    """Default tag of an image, at most 128 characters, cut from the part of the branch (or tag).

    *timestamp*: ``YYYYMMDDhhmmss``. *repo*: the primary one, None if there is none. *task_number* may be a placeholder
    for something not longer than itself.
    """
    if repo is None:
        return timestamp
    branch, tag = _clean(repo.get("branch")), _clean(repo.get("tag"))
    numbers = "-".join(str(number) for number in pull_requests(repo))
    start = f"{timestamp}-{task_number}"
    if tag:
        head, middle, end = f"{timestamp}-", tag, ""
    elif branch and numbers:
        head, middle, end = f"{start}-", branch, f"-pr-{numbers}"
    elif numbers:
        head, middle, end = f"{start}-pr-", numbers, ""
    elif branch:
        head, middle, end = f"{start}-", branch, ""
    elif commit := _clean(repo.get("commit_id"))[:8]:
        head, middle, end = f"{start}-", commit, ""
    else:
        return start
    return (head + middle[: max(TAG_LIMIT - len(head) - len(end), 0)] + end)[:TAG_LIMIT]


def image_name(host: str, namespace: str, name: str, tag: str) -> str:
    """Full name of an image. *host*: address of the registry, with or without scheme; empty parts are left out."""
    where = "/".join(part for part in (bare_host(host), namespace.strip("/"), name) if part)
    return f"{where}:{tag}"


def tag_of(image: str) -> str:
    """Text after the last ``:`` of the last path segment, a digest not counted; ``""`` if there is none."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def package_name(name: str, tag: str) -> str:
    return f"{name}-{tag}.tar.gz".replace(":", "-")


def custom_rule(rule: str, facts: Mapping[str, str]) -> str:
    """A project's own rule for images or packages; names nobody knows become empty."""
    return _TEMPLATE.sub(lambda match: facts.get(match[1], ""), rule)


def bare_host(address: str) -> str:
    """Address of a registry as image names hold it: no scheme, no slash at the end."""
    return address.partition("://")[2].rstrip("/") if "://" in address else address.rstrip("/")


def pull_requests(repo: Mapping[str, Any]) -> list[int]:
    """Numbers of the pull requests to merge; the single ``pr`` counts when ``prs`` is empty, 0 is none.

    What is no list of integers names none: definitions keep what they were sent.
    """
    listed = repo.get("prs")
    numbers = [number for number in listed if number and _whole(number)] if isinstance(listed, list | tuple) else []
    single = repo.get("pr")
    return numbers or ([single] if single and _whole(single) else [])


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def commits_of(repos: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Ids of the commits of repositories, each once, as far as they are known."""
    return tuple(dict.fromkeys(str(repo["commit_id"]) for repo in repos if repo.get("commit_id")))


def repo_identifier(name: str) -> str:
    """Name of a repository as part of the names of variables: leading digits 0-9 become A-J, ``-`` and ``.`` ``_``."""
    digits = len(name) - len(name.lstrip("0123456789"))
    head = "".join(chr(ord("A") + int(digit)) for digit in name[:digits])
    return re.sub(r"[-.]", "_", head + name[digits:])


def _clean(text: Any) -> str:
    return _NOT_IN_TAG.sub("-", str(text or ""))
