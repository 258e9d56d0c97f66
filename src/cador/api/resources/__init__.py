"""Routes of configuration: projects, services, builds, tests, code hosts, registries, base images, people, apply.

``ROUTES`` is what ``create_app`` mounts, in this order.
"""

from typing import Final

from cador.api.resources import builds, declarative, groups, people, projects, services, system
from cador.api.routing import Routes

ROUTES: Final[tuple[Routes, ...]] = (
    projects.ROUTES,
    services.ROUTES,
    builds.ROUTES,
    system.ROUTES,
    people.ROUTES,
    groups.ROUTES,
    declarative.ROUTES,
)
