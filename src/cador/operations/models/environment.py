"""Kinds ``environment`` and ``production_environment``: where a project's services run, and what runs there."""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import KV, Body, check_free_name, check_line, check_name, require

RESERVED: Final = frozenset({"check", "helm", "image", "kube", "production", "scale", "service", "share"})
"""Words of the addresses that environments are reached under."""
FORBIDDEN_NAMESPACES: Final = ("kube-system", "kube-public", "kube-node-lease")
_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_VARIABLE_TYPES: Final = ("bool", "string", "enum", "yaml")
_MOST_SERVICES: Final = 2_000


class GlobalVariable(KV):
    """A variable of the environment. ``related_services``: the services that take it."""

    related_services: list[str] = Field(default_factory=list)


class ServiceVariable(KV):
    """A variable of a service in an environment. ``use_global_variable``: its value is the environment's."""

    use_global_variable: bool = False
    is_reference_variable: bool = False


class ContainerBody(Body):
    """A module and the image it runs."""

    name: str = ""
    image: str = ""
    image_name: str = ""


class EnvironmentService(Body):
    """A service in an environment. What is left out is taken from the service: variables, images of modules."""

    service_name: str = ""
    deploy_strategy: Literal["deploy", "import", "draft"] = "deploy"
    containers: list[ContainerBody] = Field(default_factory=list)
    variable_kvs: list[ServiceVariable] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rules(self) -> "EnvironmentService":
        require(self.service_name, "service name cannot be empty")
        check_variables(self.variable_kvs, "variable_kvs")
        for number, container in enumerate(self.containers):
            require(container.name, f"containers[{number}] name cannot be empty")
            check_line(container.image, f"containers[{number}] image")
        return self


class EnvironmentBody(Body):
    """``cluster_name`` may stand for ``cluster_id``; ``registry_id`` may be a registry's id, name or address with
    namespace, and is the default registry when it is left out."""

    project_key: str = ""
    env_key: str = ""
    env_name: str = ""
    cluster_id: str = ""
    cluster_name: str = ""
    namespace: str = ""
    registry_id: str = ""
    global_variables: list[GlobalVariable] = Field(default_factory=list)
    services: list[EnvironmentService] = Field(default_factory=list, max_length=_MOST_SERVICES)

    @model_validator(mode="before")
    @classmethod
    def _of_clusters(cls, value: Any) -> Any:
        """What would be lost is refused."""
        if isinstance(value, Mapping):
            base = value.get("sub_env")
            if value.get("env_configs"):
                raise Invalid("env_configs cannot be given: this server does not connect to clusters yet")
            if isinstance(base, Mapping) and base.get("enable"):
                raise Invalid("sub_env cannot be enabled: this server does not connect to clusters yet")
        return value

    @model_validator(mode="after")
    def _rules(self) -> "EnvironmentBody":
        require(self.project_key, "project key is required")
        require(self.env_key, "env key is required")
        check_name(self.env_key, "env key")
        if self.env_key in RESERVED:
            raise Invalid(f"env key cannot be {self.env_key}", place="env_key")
        if not self.cluster_id and not self.cluster_name:
            raise Invalid("cluster_id is required", place="cluster_id")
        require(self.namespace, "namespace is required")
        if not _NAMESPACE.fullmatch(self.namespace):
            raise Invalid("namespace consists of up to 63 lower-case letters, digits and hyphens", place="namespace")
        check_env_name(self.env_name)
        check_variables(self.global_variables, "global_variables")
        check_services(self.services)
        return self


class HelmEnvironmentBody(Body):
    """The body of the documents' route for charts: ``env_name`` is the key, ``alias`` what is shown."""

    project_key: str = ""
    env_name: str = ""
    alias: str = ""
    cluster_id: str = ""
    namespace: str = ""
    registry_id: str = ""
    production: bool = False

    def plain(self) -> dict[str, Any]:
        """The same as the other body."""
        body = self.model_dump(exclude={"alias", "production", "env_name"})
        return {**body, "env_key": self.env_name, "env_name": self.alias}


class EnvironmentChange(Body):
    """What is absent stays."""

    registry_id: str | None = None
    env_name: str | None = None

    @model_validator(mode="after")
    def _rules(self) -> "EnvironmentChange":
        check_env_name(self.env_name or "")
        return self


class ServiceEntry(Body):
    service_name: str = ""
    variable_kvs: list[ServiceVariable] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rules(self) -> "ServiceEntry":
        require(self.service_name, "service name cannot be empty")
        check_variables(self.variable_kvs, "variable_kvs")
        return self


class ServiceList(Body):
    """Services to be brought to their newest revision, with new values of variables."""

    service_list: list[ServiceEntry] = Field(default_factory=list, max_length=_MOST_SERVICES)

    @model_validator(mode="after")
    def _rules(self) -> "ServiceList":
        if not self.service_list:
            raise Invalid("service_list cannot be empty", place="service_list")
        return self


class AddServices(ServiceList):
    env_key: str = ""

    @model_validator(mode="after")
    def _key(self) -> "AddServices":
        require(self.env_key, "env key is required")
        return self


class RemoveServices(Body):
    """``not_delete_resource``: what runs stays."""

    env_key: str = ""
    service_names: list[str] = Field(default_factory=list, max_length=_MOST_SERVICES)
    not_delete_resource: bool = False

    @model_validator(mode="after")
    def _rules(self) -> "RemoveServices":
        require(self.env_key, "env key is required")
        if not self.service_names:
            raise Invalid("service_names cannot be empty", place="service_names")
        return self


class VariablesBody(Body):
    global_variables: list[GlobalVariable] = Field(default_factory=list)

    @model_validator(mode="after")
    def _rules(self) -> "VariablesBody":
        check_variables(self.global_variables, "global_variables")
        return self


WORKLOAD_TYPES: Final = ("Deployment", "StatefulSet", "CloneSet")


class ScaleBody(Body):
    project_key: str = ""
    env_key: str = ""
    service_name: str = ""
    workload_name: str = ""
    workload_type: str = ""
    target_replicas: int = 0

    @model_validator(mode="after")
    def _rules(self) -> "ScaleBody":
        for key in ("project_key", "env_key", "service_name", "workload_name", "workload_type"):
            require(getattr(self, key), f"{key} is required")
        if self.workload_type not in WORKLOAD_TYPES:
            raise Invalid(f"unsupported workload type: {self.workload_type}", place="workload_type")
        if self.target_replicas < 0:
            raise Invalid("target_replicas must be greater than or equal to 0", place="target_replicas")
        return self


class ImageBody(Body):
    """``product_name``: the project's key; ``name``: the workload's."""

    product_name: str = ""
    env_name: str = ""
    service_name: str = ""
    name: str = ""
    container_name: str = ""
    image: str = ""

    @model_validator(mode="after")
    def _rules(self) -> "ImageBody":
        for key in ("service_name", "name", "container_name", "image"):
            require(getattr(self, key), f"{key} is required")
        check_line(self.image, "image")
        return self


def check_env_name(name: str) -> None:
    if name:
        check_free_name(name.replace("/", "-"), "env_name")


def check_variables(variables: "list[ServiceVariable] | list[GlobalVariable]", place: str) -> None:
    seen: set[str] = set()
    for number, kv in enumerate(variables):
        where = f"{place}[{number}]"
        require(kv.key, f"{where} key cannot be empty")
        if kv.key in seen:
            raise Invalid(f'{where} duplicates key "{kv.key}"')
        seen.add(kv.key)
        if kv.type not in _VARIABLE_TYPES:
            raise Invalid(f"{where} type must be one of {', '.join(_VARIABLE_TYPES)}")


def check_services(services: list[EnvironmentService]) -> None:
    seen: set[str] = set()
    for number, service in enumerate(services):
        if service.service_name in seen:
            raise Invalid(f"services[{number}] is there twice: {service.service_name}")
        seen.add(service.service_name)


def check_production(namespace: str) -> None:
    """Raises: Invalid: a namespace that belongs to Kubernetes itself."""
    if namespace in FORBIDDEN_NAMESPACES:
        raise Invalid(f"a production environment cannot use the namespace {namespace}", place="namespace")
