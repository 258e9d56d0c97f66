"""Bodies and replies cost a server that starts nothing but their fields."""

import importlib
import pkgutil
from collections.abc import Iterator

from pydantic import BaseModel, RootModel

import cador


def models(of: type[BaseModel] = BaseModel) -> Iterator[type[BaseModel]]:
    for one in of.__subclasses__():
        yield one
        yield from models(one)


def test_validators_are_built_when_they_are_first_used() -> None:
    """A class that does not say so has another base than ``api.described`` or those of job types and kinds."""
    for module in pkgutil.walk_packages(cador.__path__, "cador."):
        if module.name.startswith(("cador.api", "cador.jobs", "cador.operations")):
            importlib.import_module(module.name)
    ours = [one for one in models() if one.__module__.startswith("cador.")]
    ours = [one for one in ours if one.__pydantic_generic_metadata__["origin"] is not RootModel]  # of the base itself
    assert len(ours) > 100
    assert not [one for one in ours if not one.model_config.get("defer_build")]
