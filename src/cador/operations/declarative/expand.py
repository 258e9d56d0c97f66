"""The short form: one file, one project. Each entry is short for one long document; the expansion is mechanical."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from cador.operations.declarative.documents import UNSUPPORTED, Document
from cador.operations.declarative.nodes import Misfit, Node
from cador.operations.declarative.pieces import (
    advanced_settings,
    docker_step,
    parameters,
    repositories,
    targets,
    tools,
)
from cador.operations.declarative.reader import Reader, empty_mapping
from cador.operations.declarative.workflows import workflow_spec

SECTIONS: Final = ("version", "project", "system", "members", "services", "builds", "tests", "workflows")
LATER: Final = ("scans", "environments", "views")
SYSTEM: Final = ("settings", "codehosts", "registries", "base_images", "users")
SYSTEM_LATER: Final = ("clusters", "databases", "mail", "imapps", "projectmanagement", "sonar", "storage", "plugins")
DEFAULT_OS: Final = "ubuntu 22.04"

Faults = list[Misfit]
R = TypeVar("R")


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
    for key in top:
        if key in LATER:
            faults.append(Misfit(f"{key} {UNSUPPORTED}", top.mark(key)))
        elif key not in SECTIONS and not key.startswith("x-"):
            try:
                Reader(Node({key: top.child(key)}, node.mark, keys=node.keys), "").only(*SECTIONS, *LATER)
            except Misfit as error:
                faults.append(error)
    _collect(faults, _version, top)
    if "system" in top:
        system = Reader(top.child("system"), "system")
        documents += _system(system, faults)
    project = ""
    if "project" in top:
        reader = Reader(top.child("project"), "project")
        found = _collect(faults, _project, reader)
        if found is not None:
            documents.append(found)
            project = found.name
    sections: tuple[tuple[str, Callable[[str, Reader, str], Document]], ...] = (
        ("services", _service),
        ("builds", _build),
        ("tests", _test),
        ("workflows", _workflow),
    )
    needing = [key for key in ("members", "services", "builds", "tests", "workflows") if key in top]
    if needing and not project:
        if "project" not in top:
            faults.append(Misfit("'project' with a key is missing", top.mark(needing[0]), place=needing[0]))
        return documents, faults
    documents += _members(top, project, faults)
    for section, make in sections:
        for name, entry in _entries(top, section, faults):
            found = _collect(faults, make, name, entry, project)
            if found is not None:
                documents.append(found)
    return documents, faults


def _collect(faults: Faults, make: Callable[..., R], *args: Any) -> R | None:
    try:
        return make(*args)
    except Misfit as error:
        faults.append(error)
        return None


def _entries(top: Reader, section: str, faults: Faults) -> list[tuple[str, Reader]]:
    entries: list[tuple[str, Reader]] = []
    for name, node in _collect(faults, top.pairs, section) or []:
        place = f"{top.place}.{section}.{name}" if top.place else f"{section}.{name}"
        reader = _collect(faults, Reader, empty_mapping(node), place)
        if reader is not None:
            entries.append((name, reader))
    return entries


def _version(top: Reader) -> None:
    if top.text("version", "1") != "1":
        raise top.misfit('only version "1" is known', "version")


def _document(kind: str, name: str, project: str, entry: Reader, spec: dict[str, Any]) -> Document:
    return Document(kind, name, project, spec, entry.mark())


def _system(system: Reader, faults: Faults) -> list[Document]:
    documents: list[Document] = []
    for key in system:
        if key in SYSTEM_LATER:
            faults.append(Misfit(f"system.{key} {UNSUPPORTED}", system.mark(key)))
    _collect(faults, system.only, *SYSTEM, *SYSTEM_LATER)
    for name, node in _collect(faults, system.pairs, "settings") or []:
        value = node.text if not isinstance(node.value, (dict, list)) else ""
        documents.append(Document("Setting", name, "", {"value": value}, node.mark))
    kinds: tuple[tuple[str, Callable[[str, Reader], Document]], ...] = (
        ("base_images", _base_image),
        ("codehosts", _code_host),
        ("registries", _registry),
        ("users", _user),
    )
    for section, make_one in kinds:
        for name, entry in _entries(system, section, faults):
            found = _collect(faults, make_one, name, entry)
            if found is not None:
                documents.append(found)
    return documents


def _base_image(name: str, entry: Reader) -> Document:
    entry.only("image", "from", "type")
    spec = {"value": entry.need("image"), "image_from": entry.text("from", "custom")}
    if "type" in entry:
        spec["image_type"] = entry.text("type")
    return _document("BaseImage", name, "", entry, spec)


def _code_host(name: str, entry: Reader) -> Document:
    texts = (
        "type",
        "address",
        "access_token",
        "application_id",
        "client_secret",
        "username",
        "password",
        "auth_type",
        "ssh_key",
        "private_access_token",
        "known_hosts",
        "namespace",
    )
    flags = ("enable_proxy", "disable_ssl")
    entry.only(*texts, *flags, "projects")
    spec: dict[str, Any] = {key: entry.text(key) for key in texts if key in entry}
    spec |= {key: entry.flag(key) for key in flags if key in entry}
    if "projects" in entry:
        spec["projects"] = entry.texts("projects")
    return _document("CodeHost", name, "", entry, spec)


def _registry(name: str, entry: Reader) -> Document:
    texts = ("provider", "address", "namespace", "region", "access_key", "secret_key", "tls_cert")
    entry.only(*texts, "default", "enable_tls")
    spec: dict[str, Any] = {key: entry.text(key) for key in texts if key in entry}
    if "default" in entry:
        spec["is_default"] = entry.flag("default")
    if "enable_tls" in entry:
        spec["enable_tls"] = entry.flag("enable_tls")
    return _document("Registry", name, "", entry, spec)


def _user(name: str, entry: Reader) -> Document:
    entry.only("name", "email", "phone", "password", "roles")
    spec: dict[str, Any] = {key: entry.text(key) for key in ("name", "email", "phone", "password") if key in entry}
    if "roles" in entry:
        roles = entry.texts("roles")
        if unknown := [role for role in roles if role != "admin"]:
            raise entry.misfit(f"system role {unknown[0]!r} {UNSUPPORTED}, only admin is", "roles")
        spec["admin"] = "admin" in roles
    return _document("User", name, "", entry, spec)


def _project(entry: Reader) -> Document:
    entry.only("key", "name", "type", "public", "description", "weight")
    key = entry.need("key")
    spec: dict[str, Any] = {"project_name": entry.text("name", key), "project_type": entry.text("type", "yaml")}
    if "public" in entry:
        spec["is_public"] = entry.flag("public")
    if "description" in entry:
        spec["description"] = entry.text("description")
    if "weight" in entry:
        spec["weight"] = entry.raw("weight")
    return _document("Project", key, key, entry, spec)


def _members(top: Reader, project: str, faults: Faults) -> list[Document]:
    documents = []
    for account, node in _collect(faults, top.pairs, "members") or []:
        holder = Reader(Node({"roles": node}, node.mark, keys={"roles": node.mark}), f"members.{account}")
        roles = _collect(faults, holder.texts, "roles")
        if roles is not None:
            documents.append(Document("RoleBinding", account, project, {"roles": roles}, node.mark))
    return documents


def _service(name: str, entry: Reader, project: str) -> Document:
    entry.only("yaml", "variables", "production")
    spec: dict[str, Any] = {"yaml": entry.need("yaml")}
    if "variables" in entry:
        spec["variable_yaml"] = []
        for key, node in entry.pairs("variables"):
            kv: dict[str, Any] = {"key": key, "type": "string"}
            if node.mapping is None:
                kv["value"] = node.text
            else:
                variable = Reader(node, f"{entry.place}.variables.{key}").only(
                    "type", "value", "options", "description"
                )
                kv |= {"type": variable.text("type", "string"), "value": variable.text("value")}
                if "options" in variable:
                    kv["options"] = variable.texts("options")
                if "description" in variable:
                    kv["desc"] = variable.text("description")
            spec["variable_yaml"].append(kv)
    if "production" in entry:
        spec["production"] = entry.flag("production")
    return _document("Service", name, project, entry, spec)


_SCRIPT_KEYS: Final = (
    "description",
    "os",
    "tools",
    "repos",
    "parameters",
    "script",
    "timeout",
    "resources",
    "cache",
    "outputs",
    "cluster",
    "privileged",
)


def _script(entry: Reader) -> dict[str, Any]:
    spec: dict[str, Any] = {"build_os": entry.text("os", DEFAULT_OS)}
    if "description" in entry:
        spec["description"] = entry.text("description")
    if "tools" in entry:
        spec["installs"] = tools(entry)
    if "repos" in entry:
        spec["repo_info"] = repositories(entry)
    if "parameters" in entry:
        spec["parameters"] = parameters(entry)
    if (advanced := advanced_settings(entry)) is not None:
        spec["advanced_settings"] = advanced
    return spec


def _build(name: str, entry: Reader, project: str) -> Document:
    entry.only(*_SCRIPT_KEYS, "for", "docker", "package")
    spec = _script(entry)
    if "for" in entry:
        spec["services"] = targets(entry, "for")
    if "script" in entry:
        spec["build_script"] = entry.text("script")
    if "docker" in entry:
        spec["docker_build_step"] = docker_step(Reader(entry.child("docker"), f"{entry.place}.docker"))
    if "package" in entry:
        spec["post_build"] = {"file_archive": {"file_location": entry.text("package")}}
    return _document("Build", name, project, entry, spec)


def _test(name: str, entry: Reader, project: str) -> Document:
    entry.only(*_SCRIPT_KEYS, "report", "html_report", "pass_rate", "artifacts")
    spec = _script(entry)
    if "script" in entry:
        spec["script"] = entry.text("script")
    if "report" in entry:
        spec["report_path"] = entry.text("report")
    if "html_report" in entry:
        spec["html_report_path"] = entry.text("html_report")
    if "pass_rate" in entry:
        spec["pass_rate"] = entry.number("pass_rate")
    if "artifacts" in entry:
        spec["artifact_paths"] = entry.texts("artifacts")
    return _document("Test", name, project, entry, spec)


def _workflow(name: str, entry: Reader, project: str) -> Document:
    return _document("Workflow", name, project, entry, workflow_spec(name, entry))
