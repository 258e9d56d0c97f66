"""Steps ``archive`` and ``tar_archive``: files of the workspace that are kept. The server collects them at the end."""

import posixpath
from collections.abc import Mapping, Sequence
from typing import Final

from cador.domain.variables import expand_shell_names
from cador.jobs.base import Doc
from cador.jobs.steps.base import StepParts, workspace_path
from cador.jobs.values import objects, text
from cador.ports.executor import Keep

ARCHIVE: Final = "archive"


def compile_archive(spec: Doc, env: Mapping[str, str]) -> StepParts:
    """``upload_detail``: pairs of ``file_path`` (below the workspace) and ``dest_path``. A missing file is an error of
    the job, an entry without ``file_path`` is skipped. Raises: Invalid: a path that leaves the workspace."""
    keeps = []
    for detail in objects(spec.get("upload_detail")):
        path = expand_shell_names(text(detail.get("file_path")), env)
        if not path:
            continue
        where = workspace_path(expand_shell_names(text(detail.get("dest_path")), env).lstrip("/"), "dest_path")
        keeps.append(Keep(workspace_path(path, "file_path"), posixpath.normpath(f"{ARCHIVE}/{where}"), required=True))
    return StepParts(keep=tuple(keeps))


def compile_results(paths: Sequence[str], prefix: str, env: Mapping[str, str]) -> StepParts:
    """Reports and results of tests: kept after a failed script, too; what is not there is no error."""
    expanded = [expand_shell_names(path, env) for path in paths if path.strip()]
    return StepParts(
        keep=tuple(Keep(workspace_path(path, "report path"), prefix, on_failure=True) for path in expanded)
    )
