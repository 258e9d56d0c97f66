"""Who asks, and what they may do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cador.domain.errors import Forbidden
from cador.operations.actions import ADMIN as ADMIN
from cador.operations.actions import GET_PROJECT, READ_ONLY, ROLE_ACTIONS, TICKET
from cador.operations.actions import PROJECT_ADMIN as PROJECT_ADMIN
from cador.operations.actions import READ_PROJECT_ONLY as READ_PROJECT_ONLY
from cador.operations.actions import SYSTEM as SYSTEM

EVERYWHERE: Final = "*"
"""The namespace of the system's roles."""
_NOTHING: Final[frozenset[str]] = frozenset()

Shared = Mapping[str, Mapping[str, frozenset[str]]]
"""By project and workflow: what somebody may do with single workflows."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The user behind a request.

    ``roles``: role names by project (``*``: of the system), those of groups included, those of public projects not.
    ``custom``: what roles made by users allow, by namespace and name. ``shared``: single workflows. ``scopes``,
    ``projects``: limits of an API token; empty means all that the user may do. ``token_id``: of the token that was
    presented, 0 when the server acts by itself.
    """

    uid: str
    name: str
    account: str
    email: str = ""
    admin: bool = False
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    custom: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict, repr=False)
    shared: Shared = field(default_factory=dict)
    token_id: int = 0

    @property
    def limited(self) -> bool:
        """Whether the token allows less than its user may do."""
        return bool(self.scopes or self.projects)

    def carries(self, action: str, project: str = "") -> bool:
        """Whether the limits of the token let *action* through in *project* (``""``: of the system)."""
        if self.scopes and action not in self.scopes:
            return False
        return not self.projects or project in self.projects

    def may(self, action: str, project: str = "", *, public: bool = False, workflow: str = "") -> bool:
        """Whether *action* is allowed in *project* (``""``: of the system). *public*: the project is open to read.
        *workflow*: the one that is meant, if one is: it may be shared with the actor."""
        if not self.carries(action, project):
            return False
        if self.admin or (action == TICKET and TICKET in self.scopes):
            return True
        if action in self.allowed(project or EVERYWHERE):
            return True
        if action == GET_PROJECT and self.roles.get(project):
            return True  # whatever the role: who works in a project sees it
        if public and action in ROLE_ACTIONS[READ_ONLY]:
            return True
        shared = self.shared.get(project)
        if not shared:
            return False
        return action == GET_PROJECT or action in shared.get(workflow, _NOTHING)

    def need(self, action: str, project: str = "", *, public: bool = False, workflow: str = "") -> None:
        """Raises: Forbidden."""
        if not self.may(action, project, public=public, workflow=workflow):
            raise Forbidden(action, project=project)

    def need_unlimited(self) -> None:
        """For what would let a limited token out of its limits: passwords, further tokens. Raises: Forbidden."""
        if self.limited:
            raise Forbidden(SYSTEM)

    def allowed(self, namespace: str) -> frozenset[str]:
        """All that the roles in *namespace* allow, whatever the token's limits."""
        found = _NOTHING
        for name in self.roles.get(namespace, ()):
            built_in = ROLE_ACTIONS.get(name) if namespace != EVERYWHERE else None
            found |= built_in if built_in is not None else self.custom.get((namespace, name), _NOTHING)
        return found

    def some_of(self, action: str, project: str) -> frozenset[str]:
        """The workflows of *project* with which *action* is allowed one by one."""
        if not self.carries(action, project):
            return _NOTHING
        return frozenset(key for key, actions in self.shared.get(project, {}).items() if action in actions)

    def anywhere(self, action: str) -> bool:
        """Whether *action* is allowed in any project."""
        return any(self.may(action, project) or self.some_of(action, project) for project in ("", *self.places()))

    def places(self) -> frozenset[str]:
        """Projects in which the actor has a role, or a share of a workflow."""
        return frozenset({*self.roles, *self.shared}) - {EVERYWHERE}
