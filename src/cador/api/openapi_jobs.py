"""Job types in ``/openapi.json``: a job of a definition told apart by ``type``, an input of a start by ``job_type``.

Both are unions with a discriminator. An extension's type, and one that a start request cannot name, is an object whose
members are the type's own affair.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from cador.api.run_body import JobParameters
from cador.jobs import types
from cador.jobs.custom_deploy import CustomInput
from cador.jobs.freestyle import FreestyleInput
from cador.jobs.plugin import PluginInput
from cador.jobs.sql import SqlInput
from cador.jobs.tapd import TapdInput
from cador.jobs.zadig_build import BuildInput
from cador.jobs.zadig_deploy import DeployInput
from cador.jobs.zadig_distribute_image import DistributeInput
from cador.jobs.zadig_scanning import ScanningInput
from cador.jobs.zadig_test import TestingInput

Json = dict[str, Any]

PARAMETERS: Final[Mapping[str, type[BaseModel]]] = {
    "zadig-build": BuildInput,
    "zadig-deploy": DeployInput,
    "zadig-test": TestingInput,
    "zadig-scanning": ScanningInput,
    "zadig-distribute-image": DistributeInput,
    "freestyle": FreestyleInput,
    "plugin": PluginInput,
    "custom-deploy": CustomInput,
    "sql": SqlInput,
    "tapd": TapdInput,
}
"""``parameters`` of a start, where a type has some of its own."""

_TEXT: Final[Json] = {"type": "string"}
_FLAG: Final[Json] = {"type": "boolean"}
_NUMBER: Final[Json] = {"type": "integer"}
_ID: Final[Json] = {"type": ["string", "integer"]}
_OBJECT: Final[Json] = {"type": "object"}
_LIST: Final[Json] = {"type": ["array", "null"], "items": {"type": "object"}}
_WORDS: Final[Json] = {"type": ["array", "null"], "items": {"type": "string"}}
_SOURCE: Final[Json] = {
    "type": "string",
    "description": "`runtime`: chosen at the start; `fromjob`: what `job_name` names; else fixed here",
}

SPECS: Final[Mapping[str, Mapping[str, Json]]] = {
    "zadig-build": {
        "docker_registry_id": _TEXT,
        "service_and_builds": _LIST,
        "default_service_and_builds": _LIST,
        "ref_repos": _FLAG,
        "source": _SOURCE,
    },
    "zadig-deploy": {
        "env": _TEXT,
        "production": _FLAG,
        "source": _SOURCE,
        "job_name": _TEXT,
        "origin_job_name": _TEXT,
        "deploy_type": _TEXT,
        "deploy_contents": _WORDS,
        "services": _LIST,
        "service_and_images": _LIST,
        "skip_check_run_status": _FLAG,
    },
    "freestyle": {
        "properties": _OBJECT,
        "steps": _LIST,
        "envs": _LIST,
        "repos": _LIST,
        "outputs": _LIST,
        "script": _TEXT,
        "script_type": _TEXT,
        "freestyle_type": _TEXT,
        "advanced_setting": _OBJECT,
        "source": _SOURCE,
    },
    "zadig-test": {
        "test_type": _TEXT,
        "source": _SOURCE,
        "job_name": _TEXT,
        "test_modules": _LIST,
        "service_and_tests": _LIST,
    },
    "zadig-scanning": {
        "scanning_type": _TEXT,
        "source": _SOURCE,
        "job_name": _TEXT,
        "scannings": _LIST,
        "service_and_scannings": _LIST,
    },
    "zadig-distribute-image": {
        "source": _SOURCE,
        "job_name": _TEXT,
        "source_registry_id": _TEXT,
        "target_registry_id": _TEXT,
        "cluster_id": _TEXT,
        "timeout": _NUMBER,
        "targets": _LIST,
        "enable_target_image_tag_rule": _FLAG,
        "target_image_tag_rule": _TEXT,
    },
    "custom-deploy": {
        "cluster_id": _TEXT,
        "docker_registry_id": _TEXT,
        "namespace": _TEXT,
        "source": _SOURCE,
        "skip_check_run_status": _FLAG,
        "timeout": _NUMBER,
        "targets": _LIST,
    },
    "plugin": {"plugin": _OBJECT, "properties": _OBJECT, "advanced_setting": _OBJECT},
    "sql": {"id": _ID, "type": _TEXT, "sql": _TEXT, "source": _SOURCE},
    "tapd": {
        "tapd_id": _TEXT,
        "project_id": _TEXT,
        "project_name": _TEXT,
        "type": _TEXT,
        "status": _TEXT,
        "source": _SOURCE,
        "iterations": _LIST,
    },
    "approval": {"timeout": _NUMBER, "type": _TEXT, "description": _TEXT, "native_approval": _OBJECT},
}
"""``spec`` of a definition: the members of the documented types. Others are kept where they were known before."""

_COMMON: Final[Mapping[str, Json]] = {
    "name": {"type": "string", "description": "lower-case letters, digits and hyphens; unique in the workflow"},
    "run_policy": _TEXT,
    "skipped": _FLAG,
}


def schemas(ref: str) -> dict[str, Any]:
    """The components ``Job`` and ``JobInput`` with all they refer to. *ref*: template of a reference."""
    known = types.by_name(types.BUILT_IN)
    models: dict[type[BaseModel], None] = dict.fromkeys([*PARAMETERS.values(), JobParameters])
    prefixed = ref.format(model="Job{model}")  # requests have models of the same names
    names, made = models_json_schema([(model, "validation") for model in models], ref_template=prefixed)
    found: dict[str, Any] = {f"Job{name}": schema for name, schema in made.get("$defs", {}).items()}
    jobs: dict[str, str] = {}
    inputs: dict[str, str] = {}
    for word in known:
        title = "".join(part.capitalize() for part in word.split("-"))
        found[f"{title}Job"] = _job(word)
        jobs[word] = ref.format(model=f"{title}Job")
        model = PARAMETERS.get(word)
        found[f"{title}JobInput"] = _input(word, names[model, "validation"] if model else {"type": "object"})
        inputs[word] = ref.format(model=f"{title}JobInput")
    found["Job"] = {
        "description": "A job of a workflow, told apart by `type`.",
        "oneOf": [{"$ref": target} for target in jobs.values()],
        "discriminator": {"propertyName": "type", "mapping": jobs},
    }
    found["UntypedJobInput"] = _input("", names[JobParameters, "validation"])
    found["TypedJobInput"] = {
        "description": "The input of a job, told apart by `job_type`.",
        "oneOf": [{"$ref": target} for target in inputs.values()],
        "discriminator": {"propertyName": "job_type", "mapping": inputs},
    }
    found["JobInput"] = {
        "description": "Runs the job of this name with this input. The definition decides of which type it is: "
        "`job_type` may be absent or empty.",
        "anyOf": [{"$ref": ref.format(model="TypedJobInput")}, {"$ref": ref.format(model="UntypedJobInput")}],
    }
    return found


def _job(word: str) -> Json:
    spec: Json = {"type": ["object", "null"]}
    if members := SPECS.get(word):
        spec["properties"] = dict(members)
    return {
        "type": "object",
        "required": ["name", "type"],
        "properties": {**_COMMON, "type": {"const": word}, "spec": spec},
    }


def _input(word: str, parameters: Mapping[str, Any]) -> Json:
    kind: Json = {"const": word} if word else {"enum": ["", None]}
    return {
        "type": "object",
        "required": ["job_name", "job_type"] if word else ["job_name"],
        "properties": {
            "job_name": _TEXT,
            "job_type": kind,
            "parameters": {"anyOf": [dict(parameters), {"type": "null"}]},
            "breakpoint_before": {"type": "boolean", "description": "kept; nothing stops there"},
            "breakpoint_after": {"type": "boolean", "description": "kept; nothing stops there"},
        },
    }
