"""All job types: the built-in ones, and those that installed packages add (entry points of ``cador.job_types``)."""

from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Final

from cador.jobs.approval import APPROVAL
from cador.jobs.base import JobType
from cador.jobs.custom_deploy import CUSTOM_DEPLOY
from cador.jobs.freestyle import FREESTYLE
from cador.jobs.known_types import KNOWN
from cador.jobs.plugin import PLUGIN
from cador.jobs.release_types import RELEASES
from cador.jobs.sql import SQL
from cador.jobs.tapd import TAPD
from cador.jobs.zadig_build import BUILD
from cador.jobs.zadig_deploy import DEPLOY
from cador.jobs.zadig_distribute_image import DISTRIBUTE
from cador.jobs.zadig_scanning import SCANNING
from cador.jobs.zadig_test import TEST

ENTRY_POINTS: Final = "cador.job_types"

BUILT_IN: Final[tuple[JobType, ...]] = (
    BUILD,
    FREESTYLE,
    TEST,
    SCANNING,
    PLUGIN,
    APPROVAL,
    SQL,
    TAPD,
    DEPLOY,
    CUSTOM_DEPLOY,
    DISTRIBUTE,
    *RELEASES,
    *KNOWN,
)


def load_types() -> Mapping[str, JobType]:
    """Job types by name. Raises: ValueError: two of one name; and what loading an extension raises."""
    found = [entry.load() for entry in entry_points(group=ENTRY_POINTS)]
    return by_name([*BUILT_IN, *found])


def by_name(types: Iterable[JobType]) -> dict[str, JobType]:
    table: dict[str, JobType] = {}
    for job_type in types:
        if job_type.name in table:
            raise ValueError(f"two job types are called {job_type.name}")
        table[job_type.name] = job_type
    return table
