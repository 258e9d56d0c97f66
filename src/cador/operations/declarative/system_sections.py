"""The sections below ``system`` of the short form."""

from typing import Any, Final

from cador.operations.declarative import shapes
from cador.operations.declarative.documents import UNSUPPORTED
from cador.operations.declarative.reader import Reader, scalar_text
from cador.operations.declarative.sections import Section, fields

BASE_IMAGES: Final = fields(
    "base_images",
    "BaseImage",
    renamed={"image": "value", "from": "image_from", "type": "image_type"},
    defaults={"image_from": "custom"},
)
CODE_HOSTS: Final = fields("codehosts", "CodeHost")
REGISTRIES: Final = fields("registries", "Registry", renamed={"default": "is_default"})

_USER: Final = {
    "name": shapes.text("As shown."),
    "email": shapes.text(),
    "phone": shapes.text(),
    "password": shapes.secret(),
    "roles": shapes.texts("Of the system: admin."),
}


def _user(name: str, entry: Reader) -> dict[str, Any]:
    entry.only(*_USER)
    spec: dict[str, Any] = {key: entry.text(key) for key in ("name", "email", "phone", "password") if key in entry}
    if "roles" in entry:
        roles = entry.texts("roles")
        if unknown := [role for role in roles if role != "admin"]:
            raise entry.misfit(f"system role {unknown[0]!r} {UNSUPPORTED}, only admin is", "roles")
        spec["admin"] = "admin" in roles
    return spec


PLUGINS: Final = fields("plugins", "Plugin", without=("is_offical",))

_GROUP: Final = {"description": shapes.text(), "members": shapes.texts("Accounts.")}


def _group(name: str, entry: Reader) -> dict[str, Any]:
    entry.only(*_GROUP)
    spec: dict[str, Any] = {"uids": entry.texts("members")}
    if "description" in entry:
        spec["description"] = entry.text("description")
    return spec


ROLES: Final = fields("roles", "Role", renamed={"description": "desc"})


def secret_spec(name: str, entry: Reader) -> dict[str, Any]:
    """Keys and values; none has a meaning of its own."""
    return {
        "data": {key: scalar_text(node, f"{entry.place}.{key}") for key, node in (entry.node.mapping or {}).items()}
    }


SECRETS: Final = Section("secrets", "Secret", secret_spec, {}, of_any=shapes.SCALAR)
GROUPS: Final = Section("groups", "Group", _group, _GROUP)
USERS: Final = Section("users", "User", _user, _USER)
