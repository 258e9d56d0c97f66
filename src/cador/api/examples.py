"""Requests and replies of the API documents, shown in ``/openapi.json``: ``examples.yaml`` beside this file.

Each entry: ``route`` (method and template of the path), ``name`` and ``title`` as in the documents, ``request`` and
``reply`` bodies as far as there are any. Ids and addresses are those of the documents.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Example:
    """``request``, ``reply``: JSON values; None: there is none."""

    name: str
    title: str
    request: Any = None
    reply: Any = None


def load_examples() -> Mapping[tuple[str, str], tuple[Example, ...]]:
    """All examples by method and path template."""
    text = files("cador.api").joinpath("examples.yaml").read_text(encoding="utf-8")
    found: dict[tuple[str, str], tuple[Example, ...]] = {}
    for entry in yaml.load(text, Loader=yaml.CSafeLoader):
        method, path = entry.pop("route").split(" ", 1)
        found[method, path] = (*found.get((method, path), ()), Example(**entry))
    return found
