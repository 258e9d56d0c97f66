"""The short form: one file, one project. Each entry is short for one long document; the expansion is mechanical.

What an entry of a section becomes is said by its :class:`Section`; a further kind is a line in ``PROJECT_SECTIONS`` or
``SYSTEM_SECTIONS``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from cador.operations.declarative import (
    other_system_sections,
    place_sections,
    project_sections,
    scan_sections,
    shapes,
    sharing_sections,
    system_sections,
)
from cador.operations.declarative.documents import UNSUPPORTED, Document
from cador.operations.declarative.nodes import Misfit, Node, unknown_key
from cador.operations.declarative.project_sections import service_variables
from cador.operations.declarative.reader import Reader, empty_mapping, scalar_text
from cador.operations.declarative.sections import Section
from cador.operations.declarative.shapes import Part, Shape, keyed, schema_of, within

SYSTEM_SECTIONS: Final[tuple[Section, ...]] = (
    system_sections.BASE_IMAGES,
    system_sections.CODE_HOSTS,
    system_sections.REGISTRIES,
    scan_sections.SONAR,
    scan_sections.STORAGE,
    other_system_sections.DATABASES,
    other_system_sections.PROJECT_MANAGEMENT,
    place_sections.CLUSTERS,
    place_sections.MAIL,
    place_sections.IM_APPS,
    place_sections.PROXY,
    place_sections.TOOLS,
    place_sections.DOCKERFILE_TEMPLATES,
    place_sections.BUILD_TEMPLATES,
    place_sections.SERVICE_TEMPLATES,
    system_sections.PLUGINS,
    system_sections.USERS,
    system_sections.GROUPS,
    system_sections.ROLES,
    system_sections.SECRETS,
)
PROJECT_SECTIONS: Final[tuple[Section, ...]] = (
    system_sections.ROLES,
    system_sections.SECRETS,
    project_sections.SERVICES,
    place_sections.ENVIRONMENTS,
    project_sections.BUILDS,
    project_sections.TESTS,
    scan_sections.SCANS,
    project_sections.WORKFLOWS,
    sharing_sections.SHARING,
    project_sections.VIEWS,
    project_sections.TICKETS,
)
LATER: Final = ("triggers",)

PROJECT: Final[Shape] = {
    "key": shapes.text("Small letters, digits and hyphens.", needed=True),
    "name": shapes.text("As shown."),
    "type": shapes.choice("yaml", "helm", "loaded", "vm"),
    "public": shapes.flag("Everybody may look at it."),
    "description": shapes.text(),
    "weight": shapes.number("Share of the project in the queue beside others."),
    "variables": project_sections.SERVICE_VARIABLES,
    "production_variables": project_sections.SERVICE_VARIABLES,
}
MEMBERS: Final = shapes.texts("Roles in the project: project-admin, read-only, read-project-only.")

Faults = list[Misfit]
R = TypeVar("R")


def shape() -> dict[str, Part]:
    """The whole short form."""
    return {
        "version": shapes.choice("1", about="Of the form."),
        "include": shapes.texts("Further files, relative to this one."),
        "project": within(PROJECT),
        "system": within(
            {
                "settings": keyed(shapes.SCALAR, "base_url, language, limits and retention"),
                **{section.key: section.part for section in SYSTEM_SECTIONS},
            },
            "What belongs to no project; needs an administrator's token.",
        ),
        "members": keyed(MEMBERS.schema, "Accounts with their roles."),
        **{section.key: section.part for section in PROJECT_SECTIONS},
    }


def schema() -> dict[str, Any]:
    """JSON Schema of a short document."""
    made = schema_of(shape())
    made["properties"]["version"] = {"enum": ["1", 1]}
    made["patternProperties"] = {"^x-": {}}
    return made


def is_short(node: Node) -> bool:
    """Whether a document is of the short form (it has no ``kind``)."""
    return node.mapping is not None and not {"kind", "apiVersion"} & node.mapping.keys()


def expand(node: Node) -> tuple[list[Document], Faults]:
    """The long documents of one short document, and everything wrong with it. Deterministic."""
    documents, faults = _expand(node)
    return [replace(document, fixed=node.fixed) for document in documents], faults


def _expand(node: Node) -> tuple[list[Document], Faults]:
    faults: Faults = []
    documents: list[Document] = []
    top = Reader(node, "")
    known = ("version", "project", "system", "members", *(section.key for section in PROJECT_SECTIONS))
    for key in top:
        if key in LATER:
            faults.append(Misfit(f"{key} {UNSUPPORTED}", top.mark(key)))
        elif key not in known and not key.startswith("x-"):
            faults.append(unknown_key(key, (*known, *LATER), top.mark(key), ""))
    _collect(faults, _version, top)
    if "system" in top and (system := _collect(faults, Reader, top.child("system"), "system")) is not None:
        documents += _system(system, faults)
    project = ""
    if "project" in top and (reader := _collect(faults, Reader, top.child("project"), "project")) is not None:
        found = _collect(faults, _project, reader)
        if found is not None:
            documents.append(found)
            project = found.name
    needing = [key for key in ("members", *(section.key for section in PROJECT_SECTIONS)) if key in top]
    if needing and not project:
        if "project" not in top:
            faults.append(Misfit("'project' with a key is missing", top.mark(needing[0]), place=needing[0]))
        return documents, faults
    documents += _members(top, project, faults)
    documents += _all(top, PROJECT_SECTIONS, project, faults)
    return documents, faults


def _collect(faults: Faults, make: Callable[..., R], *args: Any) -> R | None:
    try:
        return make(*args)
    except Misfit as error:
        faults.append(error)
        return None


def _all(top: Reader, sections: Sequence[Section], project: str, faults: Faults) -> list[Document]:
    documents: list[Document] = []
    for section in sections:
        if section.key not in top:
            continue
        place = f"{top.place}.{section.key}" if top.place else section.key
        pairs = (
            [(section.only, top.child(section.key))] if section.only else _collect(faults, top.pairs, section.key) or []
        )
        for name, node in pairs:
            if section.listed:
                node = Node({section.listed: node}, node.mark, keys={section.listed: node.mark})
            entry = _collect(faults, Reader, empty_mapping(node), place if section.only else f"{place}.{name}")
            found = _collect(faults, section.document, name, entry, project) if entry is not None else None
            if found is not None:
                documents.append(found)
    return documents


def _version(top: Reader) -> None:
    if top.text("version", "1") != "1":
        raise top.misfit('only version "1" is known', "version")


def _system(system: Reader, faults: Faults) -> list[Document]:
    known = ("settings", *(section.key for section in SYSTEM_SECTIONS))
    for key in system:
        if key not in known:
            faults.append(unknown_key(key, known, system.mark(key), "system"))
    documents: list[Document] = []
    for name, node in _collect(faults, system.pairs, "settings") or []:
        value = _collect(faults, scalar_text, node, f"system.settings.{name}")
        if value is not None:
            documents.append(Document("Setting", name, "", {"value": value}, node.mark))
    return documents + _all(system, SYSTEM_SECTIONS, "", faults)


def _project(entry: Reader) -> Document:
    entry.only(*PROJECT)
    key = entry.need("key")
    spec: dict[str, Any] = {}
    for word, name in (("name", "project_name"), ("type", "project_type"), ("description", "description")):
        if word in entry:
            spec[name] = entry.text(word)
    if "public" in entry:
        spec["is_public"] = entry.flag("public")
    for word in ("variables", "production_variables"):
        if word in entry:
            spec[word] = service_variables(entry, word)
    if "weight" in entry:
        spec["weight"] = entry.raw("weight")
    return Document("Project", key, key, spec, entry.mark())


def _members(top: Reader, project: str, faults: Faults) -> list[Document]:
    documents = []
    for account, node in _collect(faults, top.pairs, "members") or []:
        holder = Reader(Node({"roles": node}, node.mark, keys={"roles": node.mark}), f"members.{account}")
        roles = _collect(faults, holder.texts, "roles")
        if roles is not None:
            documents.append(Document("RoleBinding", account, project, {"roles": roles}, node.mark))
    return documents
