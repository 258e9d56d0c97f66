"""Routes of configuration: projects, services, builds, tests, code hosts, registries, base images, people, apply.

``ROUTES`` is what ``create_app`` mounts, in this order.
"""

from typing import Final

from cador.api.resources import (
    builds,
    clusters,
    declarative,
    environments,
    groups,
    kinds,
    operations,
    other_systems,
    people,
    projects,
    quality,
    roles,
    secrets,
    services,
    system,
)
from cador.api.routing import Routes

ROUTES: Final[tuple[Routes, ...]] = (
    projects.ROUTES,
    services.ROUTES,
    environments.ROUTES,
    builds.ROUTES,
    quality.TESTS,
    quality.SCANS,
    quality.ROUTES,
    system.ROUTES,
    clusters.ROUTES,
    other_systems.ROUTES,
    kinds.ROUTES,
    operations.ROUTES,
    people.ROUTES,
    groups.ROUTES,
    roles.ROUTES,
    declarative.ROUTES,
    secrets.ROUTES,
)
