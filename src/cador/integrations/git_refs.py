"""What branches, tags and pull requests point to right now, asked by ``git ls-remote``: for every kind of code host.

Messages and authors are not told by a server; the checkout adds them. A repository that cannot be asked is a problem
of one line, never an error: the job finds out itself.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cador.domain.errors import Invalid
from cador.domain.naming import pull_requests
from cador.jobs.steps.git import Remote, pull_request_ref, ref_name, remote
from cador.jobs.values import namespace_of, text
from cador.ports.code_hosts import CodeHostAccess, Resolved

AT_ONCE: Final = 8
"""Processes of git at a time."""
_ANSWER_BYTES: Final = 1 << 20
_REAP_S: Final = 1.0


async def resolve_commits(repos: Sequence[tuple[Mapping[str, Any], CodeHostAccess]], within_s: float) -> list[Resolved]:
    """See :class:`cador.ports.code_hosts.CommitResolver`."""
    slots = asyncio.Semaphore(AT_ONCE)
    deadline = asyncio.get_running_loop().time() + within_s

    async def one(repo: Mapping[str, Any], access: CodeHostAccess) -> Resolved:
        name = "/".join(filter(None, (namespace_of(repo), text(repo.get("repo_name")))))
        try:
            async with asyncio.timeout_at(deadline):
                async with slots:
                    return await _resolve(repo, access, name)
        except TimeoutError:
            return Resolved({}, f"repository {name}: no answer within {within_s:g} s, the commit is not known yet")
        except (Invalid, OSError) as error:
            return Resolved({}, f"repository {name}: {error}")

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(one(repo, access)) for repo, access in repos]
    return [child.result() for child in asked]


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


async def _resolve(repo: Mapping[str, Any], access: CodeHostAccess, name: str) -> Resolved:
    if repo.get("enable_commit") and repo.get("commit_id") and not repo.get("tag"):
        return Resolved({})
    wanted = wanted_refs(repo)
    where = remote(repo, access)
    private = Path(tempfile.mkdtemp(prefix="cador-refs-"))
    try:
        code, answer, complaint = await _ask(where, wanted, private)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    if code != 0:
        return Resolved({}, f"repository {name}: {_reason(complaint, where)}")
    pairs = (line.split("\t", 1) for line in answer.splitlines() if "\t" in line)
    found = {ref: commit for commit, ref in pairs}
    commit = next((found[ref] for ref in wanted if ref in found), "")
    if not commit:
        return Resolved({}, f"repository {name}: {wanted[-1]} not found")
    return Resolved({"commit_id": commit})


async def _ask(where: Remote, refs: Sequence[str], private: Path) -> tuple[int, str, str]:
    """Exit code, output and complaints of ``git ls-remote``; no process is left, however this ends."""
    process = await asyncio.create_subprocess_exec(
        "git",
        *_options(where, private),
        "ls-remote",
        "--",
        where.url,
        *refs,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_ANSWER_BYTES,
        env=_environment(where, private),
        cwd=private,
        start_new_session=True,
    )
    try:
        answer, complaint = await process.communicate()
        return process.returncode or 0, answer.decode(errors="replace"), complaint.decode(errors="replace")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await asyncio.wait_for(process.communicate(), _REAP_S)


def _options(where: Remote, private: Path) -> list[str]:
    options = ["-c", f"http.sslVerify={'true' if where.verify_tls else 'false'}", "-c", "credential.helper="]
    if where.store:
        store = private / "store"
        store.touch(0o600)
        store.write_text(f"{where.store}\n")
        options += ["-c", f"credential.helper=store --file='{store}'"]
    return options


def _environment(where: Remote, private: Path) -> dict[str, str]:
    """Nothing of the server's own environment but where programs are and how to get out."""
    kept = ("PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
    ssh = f"ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile='{private}/hosts'"
    if where.known_hosts:
        (private / "hosts").write_text(where.known_hosts.rstrip("\n") + "\n")
    if where.ssh_key:
        key = private / "key"
        key.touch(0o600)
        key.write_text(where.ssh_key)
        ssh += f" -o IdentitiesOnly=yes -i '{key}'"
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": str(private),
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": ssh,
        "GIT_CONFIG_NOSYSTEM": "1",
    }


def _reason(complaint: str, where: Remote) -> str:
    """The last line that says something, without credentials."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if line.startswith(("fatal:", "remote:", "ERROR:"))), "")
    reason = (told or (lines[-1] if lines else "git gave no reason"))[:300]
    return reason.replace(where.store, "") if where.store else reason
