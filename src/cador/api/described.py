"""Bases of bodies and replies: what ``/openapi.json`` describes."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, RootModel

T = TypeVar("T")


class Described(BaseModel):
    """Its validator is built when it is first used. That of a reply never is, and hundreds of them cost a server that
    starts a quarter of a second and some megabytes."""

    model_config = ConfigDict(defer_build=True)


class DescribedRoot(RootModel[T], Generic[T]):
    """The same of what is no object: a list, or an object with any keys."""

    model_config = ConfigDict(defer_build=True)
