"""Kinds ``role`` and ``collaboration``, and the bodies of role bindings."""

from typing import Final, Literal

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.actions import PROJECT_ACTIONS, SHARED_ACTIONS, SYSTEM_ACTIONS
from cador.operations.models.body import Body, check_free_name, check_line, require

_MOST: Final = 1_000


class RoleBody(Body):
    """``actions``: what the role allows; those of a project's role are others than those of the system's."""

    name: str = ""
    desc: str = ""
    actions: list[str] = Field(default_factory=list, max_length=_MOST)

    @model_validator(mode="after")
    def _rules(self) -> "RoleBody":
        require(self.name, "role name is empty")
        check_free_name(self.name, "name")
        check_line(self.desc, "desc")
        if not self.actions:
            raise Invalid("actions cannot be empty", place="actions")
        self.actions = list(dict.fromkeys(self.actions))
        if unknown := [action for action in self.actions if action not in PROJECT_ACTIONS | SYSTEM_ACTIONS]:
            raise Invalid(f"unknown action {unknown[0]}", place="actions")
        return self


class RoleChange(Body):
    """What is absent stays."""

    name: str | None = None
    desc: str | None = None
    actions: list[str] | None = Field(None, max_length=_MOST)


class Identity(Body):
    """Somebody who gets a role: ``uid`` of a user, or ``gid`` of a group."""

    identity_type: Literal["user", "group"] = "user"
    uid: str = ""
    gid: str = ""


class BindingBody(Body):
    """One role for several people."""

    identities: list[Identity] = Field(default_factory=list, max_length=_MOST)
    role: str = ""

    @model_validator(mode="after")
    def _rules(self) -> "BindingBody":
        if not self.identities:
            raise Invalid("identities cannot be empty", place="identities")
        require(self.role, "role cannot be empty")
        for number, identity in enumerate(self.identities):
            field = "gid" if identity.identity_type == "group" else "uid"
            if not getattr(identity, field):
                raise Invalid(f"identities[{number}] {field} cannot be empty", place=f"identities[{number}].{field}")
        return self


class RolesBody(Body):
    """All roles somebody has there from now on."""

    roles: list[str] = Field(max_length=_MOST)


class SharedWorkflow(Body):
    """``verbs``: what may be done with it. ``new`` (a copy for each user) is not offered."""

    name: str = ""
    collaboration_type: Literal["share"] = "share"
    verbs: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rules(self) -> "SharedWorkflow":
        require(self.name, "workflows: name cannot be empty")
        self.verbs = list(dict.fromkeys(self.verbs))
        if unknown := [verb for verb in self.verbs if verb not in SHARED_ACTIONS]:
            raise Invalid(f"workflows: verb {unknown[0]} cannot be shared", place="workflows")
        return self


class CollaborationBody(Body):
    """Single workflows for single people. ``recycle_day`` is kept for clients that send it: nothing is copied here, so
    nothing is recycled."""

    name: str = ""
    project_key: str = ""
    recycle_day: int = Field(0, ge=0)
    user_ids: list[str] = Field(default_factory=list, max_length=10_000)
    group_ids: list[str] = Field(default_factory=list, max_length=_MOST)
    workflows: list[SharedWorkflow] = Field(default_factory=list, max_length=_MOST)
    envs: list[dict[str, object]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rules(self) -> "CollaborationBody":
        require(self.name, "name cannot be empty")
        check_free_name(self.name, "name")
        if self.envs:
            raise Invalid("envs: environments cannot be shared one by one, only workflows", place="envs")
        self.user_ids = list(dict.fromkeys(self.user_ids))
        self.group_ids = list(dict.fromkeys(self.group_ids))
        if not self.user_ids and not self.group_ids:
            raise Invalid("user_ids and group_ids cannot both be empty", place="user_ids")
        names = [workflow.name for workflow in self.workflows]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise Invalid(f"workflows: {twice} stands there twice", place="workflows")
        return self
