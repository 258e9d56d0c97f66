"""What the bodies of the documents' routes have in common."""

from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import ConfigDict, Field, model_validator

from cador.api.bodies import without_nulls
from cador.api.described import Described

MOST_LISTED: Final = 1_000
"""Elements of one list of a request: jobs, services, repositories, variables."""

T = TypeVar("T")
Listed: TypeAlias = Annotated[list[T], Field(max_length=MOST_LISTED)]


class LenientBody(Described):
    """Wrong types are faults, unknown keys are left alone, ``null`` counts as absent."""

    model_config = ConfigDict(strict=True, defer_build=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return without_nulls(value)
