"""Manifests out of a repository: one fetch without history, then the files that are asked for."""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cador.domain.errors import Invalid
from cador.integrations.git_refs import FILE_KIB, Git, reason
from cador.jobs.steps.git import ref_name, remote
from cador.jobs.values import text
from cador.ports.code_hosts import CodeHostAccess, Unreadable

MOST_FILES: Final = 200
MOST_BYTES: Final = 1 << 20
"""Of one manifest."""
_ENDINGS: Final = (".yaml", ".yml")
_TREE: Final = "040000"
_FILES: Final = ("100644", "100755")


async def read_repository(
    repo: Mapping[str, Any], access: CodeHostAccess, paths: Sequence[str], within_s: float
) -> list[str]:
    """A :class:`cador.ports.code_hosts.RepositoryReader`."""
    private = Path(tempfile.mkdtemp(prefix="cador-files-"))
    try:
        async with asyncio.timeout(within_s):
            try:
                where = remote(repo, access)
                ref = f"refs/heads/{ref_name(text(repo.get('branch')), 'branch')}"
            except Invalid as error:
                raise Unreadable(str(error)) from error
            git = Git(where, private, FILE_KIB)
            for words in (
                ("init", "-q", "--bare", "--template=", "repo"),
                ("-C", "repo", "fetch", "-q", "--depth=1", "--no-tags", "--", where.url, ref),
            ):
                code, _, complaint = await git.run(*words)
                if code != 0:
                    raise Unreadable(f"repository {text(repo.get('repo_name'))}: {reason(complaint, where)}")
            return [await _manifest(git, path) for path in paths]
    except TimeoutError:
        raise Unreadable(f"repository {text(repo.get('repo_name'))}: no answer within {within_s:g} s") from None
    finally:
        shutil.rmtree(private, ignore_errors=True)


async def _manifest(git: Git, path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise Unreadable(f"path {path} must stay inside the repository")
    inside = "/".join(parts)
    entries = await _entries(git, f"{inside}/" if inside else "")
    if not entries and inside:
        entries = await _entries(git, inside)
        if entries and entries[0][0] == _TREE:
            entries = []
    found = [
        (name, size) for mode, name, size in entries if mode in _FILES and (name == inside or name.endswith(_ENDINGS))
    ]
    if not found:
        raise Unreadable(f"path {path}: there is no YAML file")
    if len(found) > MOST_FILES or sum(size for _, size in found) > MOST_BYTES:
        raise Unreadable(f"path {path}: more than {MOST_FILES} files or {MOST_BYTES} bytes are no manifest")
    texts = []
    for name, _ in sorted(found):
        code, content, _ = await git.run("-C", "repo", "cat-file", "blob", f"FETCH_HEAD:{name}")
        if code != 0:
            raise Unreadable(f"path {name} cannot be read")
        texts.append(content.strip("\n"))
    return "\n---\n".join(texts) + "\n"


async def _entries(git: Git, path: str) -> list[tuple[str, str, int]]:
    """Mode, name and size of what is at *path*; of a folder (with a slash at the end), what is in it."""
    words = ("--", path) if path else ()
    code, listed, _ = await git.run("-C", "repo", "--literal-pathspecs", "ls-tree", "-l", "-z", "FETCH_HEAD", *words)
    if code != 0:
        return []
    entries = []
    for line in filter(None, listed.split("\0")):
        facts, _, name = line.partition("\t")
        mode, _, _, size = facts.split()
        entries.append((mode, name, int(size) if size.isdigit() else 0))
    return entries
