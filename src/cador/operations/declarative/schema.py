"""JSON Schema of declarative files, for editors: made of the sections of the short form and the models of the kinds."""

from collections.abc import Mapping
from typing import Any, Final

from cador.operations.declarative import shapes
from cador.operations.declarative.documents import API_VERSION, FORMS, WORKFLOW_KEYS, KindForm
from cador.operations.declarative.expand import schema as short_schema
from cador.operations.models.body import Body

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FILES: Final = {"yaml": "yamlFile", "script": "scriptFile", "build_script": "scriptFile", "sql": "sqlFile"}


def schema() -> dict[str, Any]:
    """Of one document of a stream, in either form."""
    definitions: dict[str, Any] = {"Short": short_schema()}
    kinds = []
    for kind, form in FORMS.items():
        definitions[kind] = _document(kind, form, definitions)
        kinds.append({"if": _is(kind), "then": {"$ref": f"#/$defs/{kind}"}})
    long = {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {"kind": {"enum": list(FORMS)}},
        "allOf": kinds,
    }
    return {
        "$schema": DIALECT,
        "title": "cador.yaml",
        "description": "Everything a set-up needs: the short form, or documents of the long form.",
        "type": "object",
        "if": {"anyOf": [{"required": ["kind"]}, {"required": ["apiVersion"]}]},
        "then": long,
        "else": {"$ref": "#/$defs/Short"},
        "$defs": definitions,
    }


def _is(kind: str) -> dict[str, Any]:
    return {"properties": {"kind": {"const": kind}}, "required": ["kind"]}


def _document(kind: str, form: KindForm, definitions: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "type": "object",
        "required": ["name", "project"] if form.project and not form.anywhere else ["name"],
        "properties": {
            "name": shapes.SCALAR,
            "project": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": shapes.SCALAR},
            "annotations": {"type": "object", "additionalProperties": shapes.SCALAR},
        },
        "additionalProperties": False,
    }
    if form.of_system:
        del metadata["properties"]["project"]
    return {
        "type": "object",
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind},
            "metadata": metadata,
            "spec": _spec(kind, form, definitions),
        },
        "additionalProperties": False,
    }


def _spec(kind: str, form: KindForm, definitions: dict[str, Any]) -> dict[str, Any]:
    if form.model is None:
        known: dict[str, Any] = {key: {} for key in form.extra or WORKFLOW_KEYS}
        # what a workflow has besides is dropped with a warning
        return {"type": "object", "properties": known, "additionalProperties": kind == "Workflow"}
    made = _of_model(form.model, definitions)
    for key in (form.named, form.project, *form.extra):
        if key:
            made["properties"].setdefault(key, {})
    for key, file in _FILES.items():
        if key in made["properties"]:
            made["properties"][file] = {"type": "string", "description": f"A file whose text stands for {key}."}
            made["properties"]["interpolate"] = shapes.flag().schema
    return made


def _of_model(model: type[Body], definitions: dict[str, Any]) -> dict[str, Any]:
    """Its fields, with references in place of values, and nothing else."""
    raw = model.model_json_schema()
    for name, nested in raw.pop("$defs", {}).items():
        definitions.setdefault(name, _loose(nested))
    made: dict[str, Any] = _loose(raw)
    made.pop("title", None)
    made.pop("required", None)  # what is needed is said with its own text by the server
    return made


def _loose(node: Any) -> Any:
    """*node* of a model's schema as files may write it: ``${NAME}`` and null in place of any scalar."""
    if isinstance(node, list):
        return [_loose(one) for one in node]
    if not isinstance(node, Mapping):
        return node
    if node.get("type") == "string":
        return _told(node, {"enum": [*node["enum"]]} if "enum" in node else shapes.SECRET_TEXT)
    if node.get("type") in ("integer", "number", "boolean"):
        return _told(node, {"anyOf": [{"type": [node["type"], "null"]}, shapes.REFERENCE]})
    made = {
        key: {name: _loose(child) for name, child in value.items()} if key == "properties" else _loose(value)
        for key, value in node.items()
        if key not in ("title", "default", "maxLength", "minLength")
    }
    if "properties" in made and "additionalProperties" not in made:
        made["additionalProperties"] = False
    return made


def _told(node: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    about = node.get("description")
    return {**schema, "description": about} if about else dict(schema)
