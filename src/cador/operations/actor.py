"""Who asks, and what they may do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cador.domain.errors import Forbidden

WORKFLOW_ACTIONS: Final = (
    "get_workflow",
    "create_workflow",
    "edit_workflow",
    "delete_workflow",
    "run_workflow",
    "rollback_workflow",
    "debug_workflow",
)
_KINDS: Final = ("service", "production_service", "build", "test", "scan", "environment", "production_environment")

PROJECT_ADMIN: Final = "project-admin"
READ_ONLY: Final = "read-only"
READ_PROJECT_ONLY: Final = "read-project-only"

ROLE_ACTIONS: Final[Mapping[str, frozenset[str]]] = {
    PROJECT_ADMIN: frozenset(
        {
            *WORKFLOW_ACTIONS,
            *(f"{verb}_{kind}" for verb in ("get", "create", "edit", "delete") for kind in _KINDS),
            "run_test",
            "run_scan",
            "get_project",
            "admin_project",
        }
    ),
    READ_ONLY: frozenset({"get_workflow", "get_project", *(f"get_{kind}" for kind in _KINDS)}),
    READ_PROJECT_ONLY: frozenset({"get_project"}),
}
"""Built-in roles of a project. ``admin_project`` is what only its administrators may do (views, tickets, members)."""

SYSTEM: Final = "admin_system"
"""The action of everything that is not of one project; only system administrators have it."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The user behind a request. ``roles``: role names by project, those of public projects not included.
    ``scopes``: of an API token; empty means all that the user may do."""

    uid: str
    name: str
    account: str
    email: str = ""
    admin: bool = False
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()

    def may(self, action: str, project: str = "", *, public: bool = False) -> bool:
        """Whether *action* is allowed in *project* (``""``: of the system). *public*: the project is open to read."""
        if self.scopes and action not in self.scopes:
            return False
        if self.admin:
            return True
        if not project:
            return False
        names = self.roles.get(project, ())
        if public and READ_ONLY not in names:
            names = (*names, READ_ONLY)
        return any(action in ROLE_ACTIONS.get(name, ()) for name in names)

    def need(self, action: str, project: str = "", *, public: bool = False) -> None:
        """Raises: Forbidden."""
        if not self.may(action, project, public=public):
            raise Forbidden(action, project=project)
