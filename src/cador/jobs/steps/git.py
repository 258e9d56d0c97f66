"""Step ``git``: check repositories out. Source: API documents, ``Repository``; what is checked out in which order of
precedence: tag, commit, branch, pull request; then branches or pull requests are merged.

Credentials are never part of a URL, an argument list or ``.git/config``: they lie in files of mode 0600 that git's own
credential store or ssh reads, and that are removed when the step ends. Everything a user can write (branch, name, path)
is checked here and travels as a quoted shell word, never as text of the program.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any, Final
from urllib.parse import quote as percent
from urllib.parse import unquote, urlsplit, urlunsplit

from cador.domain.errors import Invalid
from cador.domain.naming import pull_requests
from cador.domain.variables import expand_shell_names
from cador.jobs.base import CodeHostAccess
from cador.jobs.steps.base import CONTROL, StepParts, workspace_path
from cador.jobs.values import namespace_of, text
from cador.ports.executor import FolderStep

FACTS: Final = "cador.repo."
"""Outputs of this name and the number of the repository: commit id, author, then the message, one per line."""

_BAD_REF: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_COMMIT: Final = re.compile(r"[0-9a-fA-F]{7,64}")
_NAME: Final = r"(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*)"
_HOST: Final = re.compile(rf"{_NAME}(?::[0-9]+)?")
_SSH_ADDRESS: Final = re.compile(rf"(?:ssh://|(?!ssh:/))(?:[A-Za-z0-9._~+][A-Za-z0-9._~+-]*@)?{_NAME}(?:[:/][^\s\\]*)?")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a repository is, without credentials, and what opens it. ``store``: a line for git's credential store."""

    url: str
    store: str = ""
    ssh_key: str = ""
    known_hosts: str = ""
    verify_tls: bool = True


def remote(repo: Mapping[str, Any], access: CodeHostAccess | None) -> Remote:
    """Raises: Invalid: a name or address that cannot be part of a URL."""
    if access is None:
        access = CodeHostAccess(id=0, type=text(repo.get("source")), address=text(repo.get("address")))
    kind = access.type.lower()
    namespace, name = namespace_of(repo), text(repo.get("repo_name"))
    for what, value in (("repo_namespace", namespace), ("repo_name", name), ("address", access.address)):
        if not value and what == "address":
            raise Invalid(f"repository {name}: its code host has no address")
        if CONTROL.search(value) or value.startswith("-") or "?" in value or "#" in value:
            raise Invalid(f"{what} {value!r} is not valid")
        if what != "address" and any(part in ("", ".", "..") for part in value.split("/")) and value:
            raise Invalid(f"{what} {value!r} is not valid")
    if not name or "/" in name:
        raise Invalid(f"repo_name {name!r} is not valid")
    path = "/".join(part for part in (namespace, name) if part)
    if _by_ssh(access):
        return _ssh_remote(access, path)
    if access.address.startswith(("/", "file://")):
        return Remote(f"{access.address.rstrip('/')}/{percent_path(path)}.git")
    parts = urlsplit(access.address if "://" in access.address else f"https://{access.address}")
    if parts.scheme not in ("http", "https", "git"):
        raise Invalid(f"address {access.address} of the code host is none of http, https, git, ssh or file")
    host = parts.netloc.rpartition("@")[2]
    if not _HOST.fullmatch(host):
        raise Invalid(f"address of the code host: {host!r} is no host")
    base = parts.path.rstrip("/")
    middle = f"/a/{percent_path(name if not namespace else path)}" if kind == "gerrit" else f"/{percent_path(path)}.git"
    user, password = _login(kind, access) if parts.scheme != "git" else ("", "")  # which knows of no logins
    if not password and parts.password:
        user, password = unquote(parts.username or ""), unquote(parts.password)
    store = f"{parts.scheme}://{percent(user, safe='')}:{percent(password, safe='')}@{host}" if password else ""
    return Remote(urlunsplit((parts.scheme, host, base + middle, "", "")), store, verify_tls=not access.disable_ssl)


def _by_ssh(access: CodeHostAccess) -> bool:
    if access.auth_type.upper() == "SSH" or access.address.startswith("ssh://"):
        return True
    return "://" not in access.address and "@" in access.address and not access.address.startswith("/")


def _ssh_remote(access: CodeHostAccess, path: str) -> Remote:
    address = access.address.rstrip("/")
    if not _SSH_ADDRESS.fullmatch(address) or "::" in address:  # git takes that for a helper of its own
        raise Invalid(f"address {address} of the code host is no SSH address")
    glue = "/" if ":" in address else ":"
    key = access.ssh_key.replace("\r\n", "\n").strip("\n")
    return Remote(f"{address}{glue}{path}.git", ssh_key=f"{key}\n" if key else "", known_hosts=access.known_hosts)


def _login(kind: str, access: CodeHostAccess) -> tuple[str, str]:
    """User and password for HTTP, by kind of code host."""
    match kind:
        case "github":
            return "x-access-token", access.token
        case "gerrit":
            return access.username, access.password or access.token
        case _ if access.token:
            return access.username or "oauth2", access.token
        case _:
            return access.username, access.password


def percent_path(path: str) -> str:
    return percent(path, safe="/~@+:,;=!$&'()*")


def ref_name(value: str, what: str) -> str:
    """*value* as a branch or tag. Raises: Invalid: git would not take it, or would take it for something else."""
    bad = _BAD_REF.search(value) or value.startswith(("-", "/", ".")) or value.endswith(("/", ".", ".lock"))
    if not value or bad or "/." in value or value == "@":
        raise Invalid(f"{what} {value!r} is not a valid name")
    return value


def pull_request_ref(repo: Mapping[str, Any], number: int) -> str:
    """The ref a code host publishes the head of a pull request under; two of them, separated by a blank, when the kind
    of the host does not tell. Raises: Invalid."""
    match text(repo.get("source")).lower():
        case "gitlab":
            return f"refs/merge-requests/{number}/head"
        case "github" | "gitee" | "gitee-enterprise":
            return f"refs/pull/{number}/head"
        case "gerrit":
            ref = text(repo.get("checkout_ref"))
            if not ref.startswith("refs/changes/"):
                raise Invalid(f"change {number}: its ref is not known")
            return ref_name(ref, "checkout_ref")
        case _:
            return f"refs/pull/{number}/head refs/merge-requests/{number}/head"


def compile_git(
    name: str,
    repos: Sequence[Mapping[str, Any]],
    codehost: Callable[[int], CodeHostAccess | None],
    env: Mapping[str, str],
    first: int = 0,
) -> StepParts:
    """*first*: number of the first repository within the job. *env*: for names in checkout paths.

    Raises: Invalid: something cannot be checked out as written.
    """
    files: dict[str, bytes] = {}
    calls = []
    for number, repo in enumerate(repos, start=first):
        host_id = repo.get("codehost_id") or 0
        access = codehost(int(host_id)) if host_id else None
        if host_id and access is None:
            path = "/".join(filter(None, (namespace_of(repo), text(repo.get("repo_name")))))
            raise Invalid(f"repository {path}: code host {host_id} not found")
        where = remote(repo, access)
        folder = f"git/{number}"
        for file, content in (("store", where.store), ("key", where.ssh_key), ("hosts", where.known_hosts)):
            if content:
                files[f"{folder}/{file}"] = (content.rstrip("\n") + "\n").encode()
        calls.append(_call(number, repo, where, env))
    program = "\n".join([_LIBRARY, *calls, ""])
    step = FolderStep(name, "git", program, interpreter=("/bin/sh",))
    return StepParts((step,), files, outputs=tuple(f"{FACTS}{n}" for n in range(first, first + len(repos))))


def _call(number: int, repo: Mapping[str, Any], where: Remote, env: Mapping[str, str]) -> str:
    """One repository: assignments of quoted words, then the shared function."""
    path = expand_shell_names(text(repo.get("checkout_path")), env) or text(repo.get("repo_name"))
    tag, branch = text(repo.get("tag")), text(repo.get("branch"))
    commit = text(repo.get("commit_id")) if repo.get("enable_commit") else ""
    if commit and not _COMMIT.fullmatch(commit):
        raise Invalid(f"commit id {commit!r} is not valid")
    numbers, listed = pull_requests(repo), repo.get("prs") or ()
    # What is none of a number is left out of ``numbers``; building something else than was meant is no answer here.
    if not isinstance(listed, list | tuple) or any(type(n) is not int or n < 0 for n in (*listed, *numbers)):
        raise Invalid(f"pull request numbers {listed or numbers} are not valid")
    branches = [("branch", text(b), ref_name(text(b), "branch")) for b in repo.get("merge_branches") or ()]
    requests = [("pr", str(n), pull_request_ref(repo, n)) for n in numbers]
    kind, value = next(
        ((k, v) for k, v in (("tag", tag), ("commit", commit), ("branch", branch)) if v),
        ("pr", str(numbers[0])) if numbers else ("default", ""),
    )
    start_ref = value
    if kind in ("tag", "branch"):
        ref_name(value, kind)
    elif kind == "pr":
        start_ref, requests = requests[0][2], requests[1:]
    merges = {"branch": branches or requests, "pr": requests}.get(kind, [])
    words = {
        "number": str(number),
        "dir": workspace_path(path, "checkout_path"),
        "remote": ref_name(text(repo.get("remote_name")) or "origin", "remote_name"),
        "url": where.url,
        "verify": "true" if where.verify_tls else "false",
        "kind": kind,
        "value": value,
        "refs": start_ref,
        "branch": ref_name(branch, "branch") if branch else "",
        "submodules": "yes" if repo.get("submodules") is True else "",
    }
    lines = [f"{key}={quote(value)}" for key, value in words.items()]
    lines += ["begin"]
    lines += [f"merge {what} {quote(label)} {quote(ref)}" for what, label, ref in merges]
    return "\n".join([*lines, "finish"])


_LIBRARY: Final = r"""# Checks repositories out. Words of users come quoted, below; credentials from files.
set -u
export GIT_TERMINAL_PROMPT=0 GIT_MERGE_AUTOEDIT=no
unset GIT_ASKPASS SSH_ASKPASS GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
private=${CADOR_JOB_DIR:?}/files/git
top=$(pwd)
safe=$(mktemp -d) || exit 1
trap 'rm -rf "$safe"; for n in $numbers; do rm -rf "$private/$n" 2>/dev/null; done' EXIT
numbers=

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

quietly() {
  git -c safe.directory='*' -c gc.auto=0 -c maintenance.auto=false -c advice.detachedHead=false \
    -c http.sslVerify="$verify" -c credential.helper= -c credential.helper="store --file='$safe/$number/store'" "$@"
}

run() {
  printf '+ git'
  printf ' %s' "$@"
  printf '\n'
  quietly "$@"
}

try_refs() {
  # $1: fetch depth ("" all); $2: local ref; $3: candidates, tried in order
  for candidate in $3; do
    if run fetch ${1:+"--depth=$1"} "$remote" "+$candidate:$2"; then
      return 0
    fi
  done
  return 1
}

begin() {
  numbers="$numbers $number"
  mkdir -p "$safe/$number" || exit 1
  (umask 077; cp "$private/$number/"* "$safe/$number/") 2>/dev/null
  unset GIT_SSH_COMMAND
  ssh="ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile='$safe/$number/hosts'"
  if [ -f "$safe/$number/key" ]; then
    chmod 600 "$safe/$number/key"
    ssh="$ssh -o IdentitiesOnly=yes -i '$safe/$number/key'"
  fi
  export GIT_SSH_COMMAND="$ssh"
  cd "$top" && mkdir -p "./$dir" && cd "./$dir" || fail "cannot make the folder $dir"
  printf 'repository %s -> %s\n' "$url" "$dir"
  quietly init -q || exit 1
  quietly config user.name >/dev/null || quietly config user.name cador
  quietly config user.email >/dev/null || quietly config user.email cador@localhost.invalid
  quietly remote remove "$remote" 2>/dev/null
  run remote add "$remote" "$url" || exit 1
  case $kind in
  tag) run fetch --depth=1 "$remote" "+refs/tags/$value:refs/tags/$value" || exit 1 ;;
  branch) run fetch --depth=1 "$remote" "+refs/heads/$value:refs/remotes/$remote/$value" || exit 1 ;;
  pr) try_refs "" "refs/heads/pr$value" "$refs" || fail "pull request $value cannot be fetched" ;;
  default) run fetch --depth=1 "$remote" HEAD || exit 1 ;;
  commit) fetch_commit || exit 1 ;;
  esac
  case $kind in
  tag) set -- "refs/tags/$value" ;;
  branch) set -- "refs/remotes/$remote/$value" ;;
  pr) set -- "refs/heads/pr$value" ;;
  default) set -- FETCH_HEAD ;;
  commit) set -- "$value" ;;
  esac
  run checkout -qf --detach "$1" || exit 1
  told=$(quietly rev-parse HEAD) || exit 1
  deep=
}

fetch_commit() {
  if [ ${#value} -ge 40 ] && run fetch --depth=1 "$remote" "$value"; then
    return 0
  fi
  echo 'the server does not give single commits: fetching the history'
  set --
  [ ! -f .git/shallow ] || set -- --unshallow
  if [ -n "$branch" ]; then
    run fetch "$@" "$remote" "+refs/heads/$branch:refs/remotes/$remote/$branch" || return 1
    if quietly cat-file -e "$value^{commit}" 2>/dev/null; then
      return 0
    fi
    set --
  fi
  run fetch "$@" "$remote" "+refs/heads/*:refs/remotes/$remote/*" "+refs/tags/*:refs/tags/*" || return 1
  quietly cat-file -e "$value^{commit}" 2>/dev/null || fail "commit $value is not in the repository"
}

deepen() {
  # Merging needs history: some at first, all of it when that does not reach the common ancestor.
  [ -f .git/shallow ] || return 0
  case $kind in
  tag) set -- "$1" "$remote" "+refs/tags/$value:refs/tags/$value" ;;
  branch) set -- "$1" "$remote" "+refs/heads/$value:refs/remotes/$remote/$value" ;;
  *) set -- "$1" "$remote" ;;
  esac
  run fetch "$@" || exit 1
}

merge() {
  # $1: branch or pr; $2: what to call it; $3: its refs
  if [ -z "$deep" ]; then
    deepen --depth=500
    quietly reset -q --merge || exit 1
    deep=yes
  fi
  if [ "$1" = branch ]; then
    name="branch $2"
    other="refs/remotes/$remote/$2"
    set -- "$1" "$2" "refs/heads/$3"
  else
    name="pull request $2"
    other="refs/heads/pr$2"
  fi
  try_refs 500 "$other" "$3" || fail "$name cannot be fetched"
  if ! quietly merge-base HEAD "$other" >/dev/null 2>&1 && [ -f .git/shallow ]; then
    deepen --unshallow
    try_refs "" "$other" "$3" || fail "$name cannot be fetched"
  fi
  if ! run merge --no-edit --allow-unrelated-histories "$other"; then
    quietly --no-pager diff --name-only --diff-filter=U
    fail "merge of $name failed"
  fi
  told=$(quietly rev-parse "$other^{commit}") || exit 1
}

finish() {
  if [ -n "$submodules" ]; then
    run submodule sync --recursive || exit 1
    run submodule update --init --recursive || exit 1
  fi
  run --no-pager log --oneline -1 || exit 1
  quietly --no-pager log -1 --format='%H%n%an%n%B' "$told" | head -c 16384 >"$RESULTS_DIR/cador.repo.$number"
  cd "$top" || exit 1
}
"""


def commits_found(outputs: Mapping[str, str]) -> list[dict[str, str]]:
    """What git steps told about the repositories of a job, in order; ``{}`` for one that was not reached."""
    numbers = sorted(
        int(key.removeprefix(FACTS)) for key in outputs if re.fullmatch(re.escape(FACTS) + r"\d{1,4}", key)
    )
    found: list[dict[str, str]] = [{} for _ in range(numbers[-1] + 1)] if numbers else []
    for number in numbers:
        commit, _, rest = outputs[f"{FACTS}{number}"].partition("\n")
        author, _, message = rest.partition("\n")
        if _COMMIT.fullmatch(commit):
            found[number] = {"commit_id": commit, "author_name": author, "commit_message": message.rstrip("\n")}
    return found
