"""What a step compiles to, and paths users may name."""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cador.domain.errors import Invalid
from cador.ports.executor import FolderStep, Keep

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class StepParts:
    """A compiled step. ``files``: below the private folder, by path. ``outputs``: names besides the declared ones."""

    steps: tuple[FolderStep, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    keep: tuple[Keep, ...] = ()
    outputs: tuple[str, ...] = ()


def workspace_path(path: str, what: str) -> str:
    """*path* relative to the workspace, normalised; ``.`` is the workspace itself.

    Raises: Invalid: it is absolute, leaves the workspace, begins with a hyphen or holds control characters.
    """
    if CONTROL.search(path):
        raise Invalid(f"{what} holds control characters: {path!r}")
    inside = re.sub(r"\A(?:\$WORKSPACE|\$\{WORKSPACE\}|/workspace)(?:/+|\Z)", "", path)
    if inside.startswith("/"):
        raise Invalid(f"{what} must be relative to the workspace: {path}")
    if ".." in inside.split("/"):
        raise Invalid(f"{what} must not leave the workspace: {path}")
    normal = posixpath.normpath(inside or ".")
    if normal.startswith("-"):
        raise Invalid(f"{what} must not begin with a hyphen: {path}")
    return normal
