"""What branches, tags and pull requests point to right now, and who committed that with which message: asked with git
alone, for every kind of code host.

``git ls-remote`` names the commit. Its author and message are no part of that answer: they are read from a fetch of the
single commit, without files where the server can leave them out, and remembered, for a commit never changes. What
cannot be read is a problem of one line, never an error: the job finds out itself.
"""

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from cador.domain.errors import Invalid
from cador.domain.naming import pull_requests
from cador.jobs.steps.git import Remote, pull_request_ref, ref_name, remote
from cador.jobs.values import namespace_of, text
from cador.ports.code_hosts import CodeHostAccess, Resolved

AT_ONCE: Final = 8
"""Processes of git at a time, for one start."""
REMEMBERED: Final = 512
"""Commits whose author and message are kept."""
MESSAGE_CHARS: Final = 16_384
_AUTHOR_CHARS: Final = 255
FILE_KIB: Final = 64 * 1024
"""Longest file git may write: bounds what a server that sends whole trees costs."""
_ANSWER_BYTES: Final = 4 << 20
"""Longest answer, and longest complaint, that is read: a server may say anything."""
_REAP_S: Final = 1.0
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
_WHOLE: Final = (40, 64)
"""Digits of a commit id that is not abbreviated: SHA-1, SHA-256."""
_NO_FILES: Final = ("tree:0", "blob:none", "")
"""Filters of a fetch, best first. One that a server refuses is followed by the next; one that it does not know at all
is ignored by git itself."""
_SAYS_NOTHING: Final = "Could not read from remote repository"


@dataclass(frozen=True, slots=True)
class _Question:
    """What is to be known of one repository; equal questions are asked once. ``refs``: best first. ``commit``: the
    one that was given, perhaps abbreviated, else empty."""

    name: str
    where: Remote
    refs: tuple[str, ...]
    commit: str = ""


class GitRefs:
    """A :class:`cador.ports.code_hosts.CommitResolver`. Any number of calls may run at once."""

    def __init__(self, remembered: int = REMEMBERED, file_kib: int = FILE_KIB) -> None:
        self._most, self._file_kib = remembered, file_kib
        self._known: OrderedDict[tuple[str, str], Mapping[str, str]] = OrderedDict()
        """(address with namespace and name, commit id) -> author and message, last used at the end."""

    async def __call__(
        self, repos: Sequence[tuple[Mapping[str, Any], CodeHostAccess]], within_s: float
    ) -> list[Resolved]:
        slots = asyncio.Semaphore(AT_ONCE)
        deadline = asyncio.get_running_loop().time() + within_s
        late = f"no answer within {within_s:g} s"
        asked = [_question(repo, access) for repo, access in repos]

        async def one(question: _Question) -> Resolved:
            found: dict[str, str] = {}
            problem = ""
            try:
                async with asyncio.timeout_at(deadline), slots:
                    problem = await self._ask(question, found)
            except TimeoutError:
                problem = f"{late}, the commit is not known yet"
                if commit := found.get("commit_id"):
                    problem = f"{late}, author and message of {commit[:8]} are not known yet"
            except OSError as error:
                problem = str(error)
            return Resolved(found, f"repository {question.name}: {problem}" if problem else "")

        async with asyncio.TaskGroup() as group:
            questions = dict.fromkeys(each for each in asked if isinstance(each, _Question))
            children = {question: group.create_task(one(question)) for question in questions}
        return [each if isinstance(each, Resolved) else children[each].result() for each in asked]

    async def _ask(self, question: _Question, found: dict[str, str]) -> str:
        """Fill *found* step by step. Returns what is wrong, or nothing."""
        private = Path(tempfile.mkdtemp(prefix="cador-refs-"))
        try:
            git = Git(question.where, private, self._file_kib)
            code, answer, complaint = await git.run("ls-remote", "--", question.where.url, *question.refs)
            if code != 0:
                return reason(complaint, question.where)
            pairs = (line.split("\t", 1) for line in answer.splitlines() if "\t" in line)
            pointed = {ref: commit for commit, ref in pairs}
            hits = [(pointed[ref], ref) for ref in question.refs if ref in pointed]
            if question.commit:
                given = question.commit
                commit, ref = next((hit for hit in hits if hit[0].startswith(given)), (given, ""))
                if len(commit) not in _WHOLE:
                    return f"commit {commit} is abbreviated: its author and message are known after the checkout"
            elif hits:
                commit, ref = hits[0]
            else:
                return f"{question.refs[-1]} not found"
            found["commit_id"] = question.commit or commit
            key = (question.where.url, commit)
            known = self._known.get(key)
            if known is None:
                known, complaint = await _read(git, commit, ref.removesuffix("^{}"))
                if not known:
                    return f"author and message of {commit[:8]} are not known: {reason(complaint, question.where)}"
                self._known[key] = known
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
            found |= known
            return ""
        finally:
            shutil.rmtree(private, ignore_errors=True)


resolve_commits: Final = GitRefs()
"""The resolver of this process."""


def wanted_refs(repo: Mapping[str, Any]) -> list[str]:
    """The refs whose commit names the repository's state, best first: tag, last branch to merge, last pull request,
    branch; ``HEAD`` when none is named. Raises: Invalid."""
    if tag := text(repo.get("tag")):
        ref_name(tag, "tag")
        return [f"refs/tags/{tag}^{{}}", f"refs/tags/{tag}"]
    if merged := list(repo.get("merge_branches") or ()):
        return [f"refs/heads/{ref_name(text(merged[-1]), 'branch')}"]
    if numbers := pull_requests(repo):
        return pull_request_ref(repo, int(numbers[-1])).split()
    if branch := text(repo.get("branch")):
        return [f"refs/heads/{ref_name(branch, 'branch')}"]
    return ["HEAD"]


def _question(repo: Mapping[str, Any], access: CodeHostAccess) -> _Question | Resolved:
    """An answer at once when the repository is named in a way that cannot be asked for."""
    name = "/".join(filter(None, (namespace_of(repo), text(repo.get("repo_name")))))
    commit = text(repo.get("commit_id")).lower() if repo.get("enable_commit") and not repo.get("tag") else ""
    try:
        if not commit:
            return _Question(name, remote(repo, access), tuple(wanted_refs(repo)))
        if not _COMMIT.fullmatch(commit):
            raise Invalid(f"commit id {commit!r} is not valid")
        refs = dict.fromkeys((*wanted_refs({"branch": repo.get("branch")}), "HEAD"))
        return _Question(name, remote(repo, access), tuple(refs), commit)
    except Invalid as error:
        return Resolved({}, f"repository {name}: {error}")


async def _read(git: "Git", commit: str, ref: str) -> tuple[Mapping[str, str], str]:
    """Author and message of *commit*, else git's complaint. *ref*: what points to it, for servers that do not give
    single commits; may be empty."""
    form = ["--object-format=sha256"] if len(commit) == _WHOLE[1] else []
    code, _, complaint = await git.run("init", "-q", "--bare", "--template=", *form, "repo")
    if code != 0:
        return {}, complaint
    for wanted in filter(None, (commit, ref)):
        for no_files in _NO_FILES:
            chosen = f"--filter={no_files}" if no_files else "--no-filter"  # git would remember the one before
            code, _, said = await git.run(
                "-C", "repo", "fetch", "-q", "--depth=1", "--no-tags", chosen, "--", git.where.url, wanted
            )
            if code == 0 or "filter" not in said:
                break
        complaint = said
        if code == 0:
            break
    if code != 0:
        return {}, complaint
    code, told, complaint = await git.run("-C", "repo", "log", "-1", "--format=%an%n%B", commit, "--")
    if code != 0:
        return {}, complaint
    author, _, message = told.replace("\0", "").partition("\n")
    return {"author_name": author[:_AUTHOR_CHARS], "commit_message": message.strip("\n")[:MESSAGE_CHARS]}, ""


class Git:
    """Git for one repository: *private* is an empty folder of ours that credentials and objects lie in."""

    def __init__(self, where: Remote, private: Path, file_kib: int) -> None:
        self.where, self._private = where, private
        self._program = f'ulimit -f {file_kib * 2} 2>/dev/null; exec git "$@"'
        self._options = {
            "http.sslVerify": "true" if where.verify_tls else "false",
            "credential.helper": "",
            "gc.auto": "0",
            "maintenance.auto": "false",
            "fetch.recurseSubmodules": "false",
            "core.bigFileThreshold": "1m",
            "i18n.logOutputEncoding": "UTF-8",
        }
        self._store = ["-c", f"credential.helper=store --file='{self._keep('store', where.store)}'"]
        if not where.store:
            self._store = []
        self._env = self._environment()

    async def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and complaints of a git command; no process is left, however this ends."""
        options = [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        process = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            self._program,
            "git",
            *options,
            *self._store,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._env,
            cwd=self._private,
            start_new_session=True,
        )
        too_much = False
        try:
            try:
                async with asyncio.TaskGroup() as group:
                    answer = group.create_task(_read_all(process.stdout))
                    complaint = group.create_task(_read_all(process.stderr))
            except* _TooMuch:
                too_much = True
            if too_much:
                return 1, "", f"fatal: git said more than {_ANSWER_BYTES >> 20} MiB"
            return await process.wait(), answer.result(), complaint.result()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                await asyncio.wait_for(process.communicate(), _REAP_S)

    def _keep(self, name: str, content: str) -> Path:
        """Write a file that only we can read; none for nothing."""
        path = self._private / name
        if content:
            path.touch(0o600)
            path.write_text(content.rstrip("\n") + "\n")
        return path

    def _environment(self) -> dict[str, str]:
        """Nothing of the server's own environment but where programs are and how to get out."""
        proxies = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
        hosts = self._keep("hosts", self.where.known_hosts)
        ssh = f"ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile='{hosts}'"
        if self.where.ssh_key:
            ssh += f" -o IdentitiesOnly=yes -i '{self._keep('key', self.where.ssh_key)}'"
        return {
            **{name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE", *proxies) if name in os.environ},
            "HOME": str(self._private),
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": ssh,
            "GIT_CONFIG_NOSYSTEM": "1",
        }


class _TooMuch(Exception):
    pass


async def _read_all(stream: asyncio.StreamReader | None) -> str:
    """To its end. Raises: _TooMuch."""
    said = bytearray()
    while stream is not None and (part := await stream.read(1 << 16)):
        said += part
        if len(said) > _ANSWER_BYTES:
            raise _TooMuch
    return said.decode(errors="replace")


def reason(complaint: str, where: Remote) -> str:
    """The line that says what is wrong, without credentials: git's first ``fatal:`` that tells something of its own,
    else what the server or ssh said before it."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    telling = [line for line in lines if _SAYS_NOTHING not in line and not line.lower().startswith("warning:")]
    kinds = (("fatal:",), ("remote:", "ERROR:", "error:"), ("",))
    told = next((line for kind in kinds for line in telling if line.startswith(kind)), "")
    told = told or (lines[0] if lines else "git gave no reason")
    login = where.store.partition("://")[2].rpartition("@")[0]
    password = login.partition(":")[2]
    for secret in (where.store, login, password, unquote(password)):
        told = told.replace(secret, "********") if secret else told
    return told[:300]
