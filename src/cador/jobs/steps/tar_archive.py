"""Step ``tar_archive``: pack files of the workspace into one archive that is kept."""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Final

from cador.domain.variables import expand_shell_names
from cador.jobs.base import Doc
from cador.jobs.steps.base import StepParts, workspace_path
from cador.jobs.values import text
from cador.ports.executor import FolderStep, Keep

_FOLDER: Final = ".cador-kept"
"""Where archives wait in the workspace until the server takes them; no archive holds it."""

_PROGRAM: Final = """set --
for path in {paths}; do
  if [ -e "./$path" ] || [ -L "./$path" ]; then
    set -- "$@" "./$path"
  else
    printf '%s: not found, left out\\n' "$path"
  fi
done
if [ $# -eq 0 ]; then
  echo 'there is nothing to pack'
  exit 0
fi
mkdir -p {folder} || exit 1
tar -czf {folder}/{file} --exclude=./{top} "$@" || exit 1
printf 'packed into %s\\n' {file}
"""


def compile_tar_archive(name: str, spec: Doc, env: Mapping[str, str]) -> StepParts:
    """``result_dirs``: files and folders below the workspace; ``dest_dir``: where the archive goes among the job's
    artifacts; ``file_name``. Runs after a failed step, too. What is not there is named and left out.

    Raises: Invalid: a path that leaves the workspace.
    """
    paths = _paths(spec.get("result_dirs") or (), env)
    if not paths:
        return StepParts()
    prefix, file = text(spec.get("dest_dir")), text(spec.get("file_name"))
    folder = f"{_FOLDER}/{prefix}"
    program = _PROGRAM.format(paths=" ".join(map(quote, paths)), folder=quote(folder), file=quote(file), top=_FOLDER)
    step = FolderStep(name, "tar_archive", program, interpreter=("/bin/sh",), on_failure=True)
    return StepParts((step,), keep=(Keep(folder, prefix, on_failure=True),))


def _paths(paths: Sequence[str], env: Mapping[str, str]) -> list[str]:
    expanded = (expand_shell_names(text(path).strip(), env) for path in paths)
    return list(dict.fromkeys(workspace_path(path, "artifact path") for path in expanded if path))
