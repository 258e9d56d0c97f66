"""Long documents: kinds, their order, and how they stand in a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cador.domain.errors import Invalid
from cador.domain.secrets import SECRET_KEYS
from cador.operations.declarative.from_secret import as_written, with_masks
from cador.operations.declarative.names import names_of, resolve
from cador.operations.declarative.nodes import NOWHERE, Mark, Misfit, Node, find_mark, plain, unknown_key
from cador.operations.declarative.substitution import escape
from cador.operations.models.body import Body, read_body
from cador.operations.models.builds import BuildBody, TestBody
from cador.operations.models.cluster import ClusterBody
from cador.operations.models.codehost import CodeHostBody
from cador.operations.models.databases import DatabaseBody
from cador.operations.models.environment import EnvironmentBody
from cador.operations.models.groups import GroupBody
from cador.operations.models.integrations import ImAppBody, MailBody, ProxyBody, ToolBody
from cador.operations.models.plugins import PluginBody
from cador.operations.models.project import ProjectBody
from cador.operations.models.project_management import ProjectManagementBody
from cador.operations.models.registry import RegistryBody
from cador.operations.models.roles import CollaborationBody, RoleBody
from cador.operations.models.scans import ScanBody, SonarBody
from cador.operations.models.service import ServiceBody
from cador.operations.models.storage import StorageBody
from cador.operations.models.stored_secret import SecretBody
from cador.operations.models.system import AnySettingBody, BaseImageBody, UserBody
from cador.operations.models.templates import BuildTemplateBody, DockerfileTemplateBody, ServiceTemplateBody
from cador.operations.models.ticket import TicketBody
from cador.operations.models.view import ViewBody

API_VERSION: Final = "cador.dev/v1"
MAX_PLACE: Final = 1_024
PLACE: Final = "cador.dev/place"
"""Annotation: where an object stands in the file it was written in."""
UNSUPPORTED: Final = "is not supported yet by this server"


@dataclass(frozen=True, slots=True)
class KindForm:
    """``kind``: the stored word. ``model``: of the spec, None where another part of the program reads it.
    ``named``: the field of the body that holds ``metadata.name``; ``project``: the one that holds the project's key.
    ``extra``: keys a spec may have besides the model's."""

    kind: str
    model: type[Body] | None
    named: str = "name"
    project: str = ""
    extra: tuple[str, ...] = ()
    anywhere: bool = False
    """It may be one of the system or one of a project."""

    @property
    def of_system(self) -> bool:
        return not self.project and not self.anywhere and self.kind != "project"


FORMS: Final[Mapping[str, KindForm]] = {
    "Secret": KindForm("secret", SecretBody, anywhere=True),
    "Setting": KindForm("setting", AnySettingBody, extra=("is_credential",)),
    "BaseImage": KindForm("baseimage", BaseImageBody, named="label"),
    "CodeHost": KindForm("codehost", CodeHostBody),
    "Registry": KindForm("registry", RegistryBody),
    "Sonar": KindForm("sonar", SonarBody, named="system_identity"),
    "Storage": KindForm("storage", StorageBody),
    "Database": KindForm("database", DatabaseBody),
    "ProjectManagement": KindForm("projectmanagement", ProjectManagementBody, named="system_identity"),
    "Cluster": KindForm("cluster", ClusterBody),
    "MailServer": KindForm("mail", MailBody),
    "IMApp": KindForm("imapp", ImAppBody),
    "Proxy": KindForm("proxy", ProxyBody, named="type"),
    "Tool": KindForm("tool", ToolBody, named="label"),
    "DockerfileTemplate": KindForm("dockerfiletemplate", DockerfileTemplateBody),
    "BuildTemplate": KindForm("buildtemplate", BuildTemplateBody),
    "ServiceTemplate": KindForm("servicetemplate", ServiceTemplateBody),
    "Plugin": KindForm("plugin", PluginBody),
    "User": KindForm("user", UserBody, named="account"),
    "Group": KindForm("group", GroupBody),
    "Project": KindForm("project", ProjectBody, named="project_key"),
    "Role": KindForm("role", RoleBody, anywhere=True),
    "RoleBinding": KindForm(
        "rolebinding", None, named="account", project="project_key", extra=("roles",), anywhere=True
    ),
    "Service": KindForm("service", ServiceBody, named="service_name", project="project_key", extra=("production",)),
    "Environment": KindForm(
        "environment", EnvironmentBody, named="env_key", project="project_key", extra=("production",)
    ),
    "Build": KindForm("build", BuildBody, project="project_key"),
    "Test": KindForm("test", TestBody, project="project_key"),
    "Scan": KindForm("scan", ScanBody, project="project_key"),
    "Workflow": KindForm("workflow", None, project="project"),
    "Collaboration": KindForm("collaboration", CollaborationBody, project="project_key"),
    "WorkflowView": KindForm("view", ViewBody, project="project_key"),
    "ApprovalTicket": KindForm("ticket", TicketBody, named="approval_id", project="project_key"),
}
"""In the order of applying."""

_TURNS: Final = {kind: number for number, kind in enumerate(FORMS)}
LATER: Final = ("Trigger",)

WORKFLOW_KEYS: Final = (
    "name",
    "workflow_key",
    "display_name",
    "workflow_name",
    "project",
    "project_key",
    "description",
    "concurrency_limit",
    "multi_run",
    "params",
    "stages",
    "notify_ctls",
    "share_storages",
    "disabled",
    "remark",
    "remark_required",
    "task_timeout",
    "debug",
    "enable_approval_ticket",
    "ignore_cache",
    "category",
    "workflow_type",
)


@dataclass(frozen=True, slots=True)
class Document:
    """One object. ``project``: ``""`` for those of the system. ``spec``: the body of its API call, names instead of
    ids allowed. ``node``: the spec as written, if it was written in the long form. ``fixed``: its references are
    replaced, so that each ``$`` left is meant as it stands."""

    kind: str
    name: str
    project: str
    spec: Mapping[str, Any]
    mark: Mark = NOWHERE
    labels: Mapping[str, str] = field(default_factory=dict)
    node: Node | None = None
    fixed: bool = False

    @property
    def identity(self) -> tuple[str, str, str]:
        kind = f"{self.kind}/production" if self.production else self.kind
        return (kind, self.project, self.name)

    @property
    def of_system(self) -> bool:
        return not self.project

    @property
    def turn(self) -> tuple[float, str, str]:
        """By which documents are applied in order: a secret of a project comes right after the project."""
        turn = float(_TURNS[self.kind])
        if self.form.anywhere and self.project:
            turn = max(turn, _TURNS["Project"] + 0.5)
        return (turn, self.project, self.name)

    @property
    def production(self) -> bool:
        """Of a service or environment: it is of the production set."""
        return "production" in self.form.extra and self.spec.get("production") is True

    @property
    def form(self) -> KindForm:
        return FORMS[self.kind]

    def misfit(self, problem: str, path: tuple[str | int, ...] = ()) -> Misfit:
        """The error that something below *path* of the spec is wrong."""
        mark = find_mark(self.node, path) if self.node is not None else self.mark
        return Misfit(problem, mark if mark.line else self.mark, place=f"{self.kind}/{self.name}")

    def wire(self) -> dict[str, Any]:
        """As it stands in a file or is sent: whoever reads it replaces references (again), so a ``$`` of a document
        whose references are replaced is doubled."""
        metadata: dict[str, Any] = {"name": self.name}
        if self.project:
            metadata["project"] = self.project
        if self.labels:
            metadata["labels"] = dict(self.labels)
        wire = {"apiVersion": API_VERSION, "kind": self.kind, "metadata": metadata, "spec": dict(self.spec)}
        wire = as_written(wire)
        return dict(escape(wire) if self.fixed else wire)

    def sent(self) -> dict[str, Any]:
        """As it is sent to a server, which names its place in messages."""
        wire = self.wire()
        if str(self.mark):
            wire["metadata"]["annotations"] = {PLACE: str(self.mark).replace("$", "$$")}
        return wire


def record_name(document: Document) -> str:
    """Under which name it is kept what was applied of it."""
    kind, _, name = document.identity
    return f"{kind}/{name}"


def read_long(node: Node) -> Document:
    """A document of the long form. Raises: Misfit."""
    top = node.mapping or {}
    for key in top:
        if key not in ("apiVersion", "kind", "metadata", "spec"):
            raise unknown_key(key, ("apiVersion", "kind", "metadata", "spec"), node.keys[key], "document")
    version = _text(top.get("apiVersion"))
    if version != API_VERSION:
        raise Misfit(f"apiVersion must be {API_VERSION}, not {version!r}", find_mark(node, ("apiVersion",)))
    kind = _text(top.get("kind"))
    if kind in LATER:
        raise Misfit(f"kind {kind} {UNSUPPORTED}", find_mark(node, ("kind",)))
    if kind not in FORMS:
        error = unknown_key(kind, tuple(FORMS), find_mark(node, ("kind",)), "kind")
        raise Misfit(error.problem.replace("unknown key", "unknown kind"), error.mark)
    name, project, labels, place = _metadata(node, kind)
    spec = top.get("spec")
    if spec is None or spec.mapping is None:
        raise Misfit("spec must be a mapping", find_mark(node, ("spec",)), place=f"{kind}/{name}")
    if place:
        return Document(kind, name, project, plain(spec), Mark(file=place), labels, None, node.fixed)
    return Document(kind, name, project, plain(spec), node.mark, labels, spec, node.fixed)


def _metadata(node: Node, kind: str) -> tuple[str, str, dict[str, str], str]:
    metadata = (node.mapping or {}).get("metadata")
    if metadata is None or metadata.mapping is None:
        raise Misfit("metadata must be a mapping with a name", find_mark(node, ("metadata",)), place=kind)
    known = ("name", "project", "labels", "annotations")
    for key, child in metadata.mapping.items():
        if key not in known:
            raise unknown_key(key, known, metadata.keys.get(key, child.mark), f"{kind}.metadata")
    name, project = _text(metadata.mapping.get("name")), _text(metadata.mapping.get("project"))
    if not name:
        raise Misfit("metadata.name cannot be empty", metadata.mark, place=kind)
    form = FORMS[kind]
    if form.project and not project and not form.anywhere:
        raise Misfit("metadata.project cannot be empty", metadata.mark, place=f"{kind}/{name}")
    if kind == "Project":
        project = name
    elif form.of_system and project:
        raise Misfit(f"a {kind} belongs to no project", find_mark(metadata, ("project",)), place=f"{kind}/{name}")
    labels = _texts_of(metadata, "labels", f"{kind}/{name}")
    place = _texts_of(metadata, "annotations", f"{kind}/{name}").get(PLACE, "")
    return name, project, labels, place[:MAX_PLACE] if place.isprintable() else ""


def _texts_of(metadata: Node, key: str, place: str) -> dict[str, str]:
    node = (metadata.mapping or {}).get(key)
    if node is None or node.value is None:
        return {}
    if node.mapping is None or any(isinstance(child.value, (dict, list)) for child in node.mapping.values()):
        raise Misfit("must be a mapping of texts", find_mark(metadata, (key,)), place=f"{place}.metadata.{key}")
    return {name: child.text for name, child in node.mapping.items()}


def _text(node: Node | None) -> str:
    return node.text if node is not None and not isinstance(node.value, (dict, list)) and node.value is not None else ""


def check_keys(document: Document) -> list[str]:
    """Unknown keys of a long document's spec. Returns warnings (inside a workflow). Raises: Misfit."""
    form, spec = document.form, document.spec
    if document.kind == "Workflow":
        return [
            f"{document.kind}/{document.name}: unknown key {key!r} is dropped"
            for key in spec
            if key not in WORKFLOW_KEYS
        ]
    if form.model is None:
        known = form.extra
        for key in spec:
            if key not in known:
                raise _unknown(document, key, known, ())
        return []
    own = tuple(key for key in (form.named, form.project) if key)
    _check_model(document, form.model, spec, (), (*own, *form.extra))
    return []


def _check_model(
    document: Document, model: type[Body], value: Any, path: tuple[str | int, ...], extra: Sequence[str] = ()
) -> None:
    if not isinstance(value, Mapping):
        return
    known = (*model.model_fields, *extra)
    for key, child in value.items():
        if key not in known:
            raise _unknown(document, key, known, path)
        if key not in model.model_fields:
            continue
        inner = _model_in(model.model_fields[key].annotation)
        if inner is None:
            continue
        if isinstance(child, list):
            for number, element in enumerate(child):
                _check_model(document, inner, element, (*path, key, number))
        else:
            _check_model(document, inner, child, (*path, key))


def _model_in(annotation: Any) -> type[Body] | None:
    """The model in ``Model``, ``list[Model]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Body):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None


def _unknown(document: Document, key: str, known: Sequence[str], path: tuple[str | int, ...]) -> Misfit:
    at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    mark = find_mark(document.node, (*path, key)) if document.node is not None else document.mark
    return unknown_key(key, tuple(known), mark if mark.line else document.mark, f"{document.kind}/{document.name}{at}")


def body_of(document: Document) -> dict[str, Any]:
    """The spec with name and project filled in from the metadata. Raises: Misfit: they contradict each other."""
    form = document.form
    beside = form.extra if form.model is not None else ()  # keys that are no part of the body
    body = {key: value for key, value in document.spec.items() if key not in beside}
    if document.kind == "Setting" and document.name in SECRET_KEYS:
        body["is_credential"] = True
    for key, value in ((form.named, document.name), (form.project, document.project)):
        if key and body.get(key) not in (None, "", value):
            raise document.misfit(f"{key} is {body[key]!r} here but {value!r} in metadata", (key,))
        if key:
            body[key] = value
    return body


def completed(document: Document, body: Mapping[str, Any]) -> dict[str, Any]:
    """*body* with what a new object needs and its document may leave out: a file that only adds to a project says
    nothing of it but its key."""
    given = {"project_name": document.name, "project_type": "yaml"} if document.kind == "Project" else {}
    return {**given, **body}


def in_order(documents: Sequence[Document]) -> list[Document]:
    """Sorted as they are applied: by kind, then project, then name. Raises: Misfit: one object twice."""
    seen: dict[tuple[str, str, str], Document] = {}
    for document in documents:
        other = seen.setdefault(document.identity, document)
        if other is not document:
            raise Misfit(
                f"stands here twice, also at {other.mark}", document.mark, place=f"{document.kind}/{document.name}"
            )
    return sorted(documents, key=lambda document: document.turn)


def check_models(documents: Sequence[Document]) -> list[Misfit]:
    """What is wrong with each document by itself: unknown keys, and what its model refuses."""
    faults: list[Misfit] = []
    names = names_of(documents)
    for document in documents:
        try:
            check_keys(document)
            body, _ = resolve(document.kind, body_of(document), names.of(document.project))
            if document.form.model is not None:
                read_body(document.form.model, completed(document, with_masks(body)))
        except Misfit as error:
            faults.append(error)
        except Invalid as error:
            faults.append(document.misfit(str(error)))
    return faults


def check_references(documents: Sequence[Document]) -> tuple[list[Misfit], list[str]]:
    """References between *documents*, as far as they can be known without a server: faults and warnings.

    What belongs to a project must be among them when the project is; code hosts, registries, images and users may be
    on the server: for them there is a warning.
    """
    names = names_of(documents)
    projects = {document.project for document in documents if document.kind == "Project"}
    faults: list[Misfit] = []
    warnings: list[str] = []
    for document in documents:
        _, missing = resolve(document.kind, body_of(document), names.of(document.project))
        for kind, name in dict.fromkeys(missing):
            text = f"{kind} {name!r} is not in these files"
            if kind in ("service", "build", "test", "scan") and document.project in projects:
                faults.append(document.misfit(text))
            else:
                warnings.append(f"{document.kind}/{document.name}: {text}")
    return faults, warnings
