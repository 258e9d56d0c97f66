"""Kind ``cluster``: where jobs and services run."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import yaml
from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.domain.masking import MASK
from cador.operations.models.body import Body, check_free_name, check_line, require
from cador.operations.models.service import check_shape

LOCAL: Final = "local"
ALL_PROJECTS: Final = "<all_projects>"
EXECUTORS: Final = ("kubernetes", "container", "process")
TYPES: Final = ("agent", "kubeconfig")
PROVIDERS: Final = (
    "standard Kubernetes",
    "Alibaba ACK",
    "Tencent TKE",
    "Huawei CCE",
    "Amazon EKS",
    "TKE Serverless",
    "Google GCP",
    "Azure AKS",
)
"""By number on the wire."""
_MOST_KUBECONFIG: Final = 1 << 20


class ClusterBody(Body):
    """``executor``: ``kubernetes`` (default where there is a ``kube_config`` or ``type``), ``container`` or
    ``process``. ``project_names``: who may use it, ``<all_projects>`` is everybody. ``kube_config``: text of the file.
    """

    secrets: ClassVar[tuple[str, ...]] = ("kube_config",)

    name: str = ""
    type: str = ""
    kube_config: str = ""
    executor: str = ""
    production: bool = False
    description: str = ""
    provider: int = 0
    project_names: list[str] = Field(default_factory=list, max_length=10_000)

    @model_validator(mode="after")
    def _rules(self) -> "ClusterBody":
        require(self.name, "name cannot be empty")
        check_free_name(self.name, "name")
        check_line(self.description, "description")
        if self.kube_config:
            self.type = self.type or "kubeconfig"
        self.executor = self.executor or ("kubernetes" if self.type or self.name != LOCAL else "process")
        if self.executor not in EXECUTORS:
            raise Invalid(f"executor must be one of {', '.join(EXECUTORS)}", place="executor")
        if not 0 <= self.provider < len(PROVIDERS):
            raise Invalid(f"provider must be between 0 and {len(PROVIDERS) - 1}", place="provider")
        self.project_names = list(dict.fromkeys(self.project_names)) or [ALL_PROJECTS]
        if self.executor == "kubernetes":
            self._check_kubernetes()
        elif self.type or self.kube_config:
            raise Invalid(f"type and kube_config belong to the executor kubernetes, not to {self.executor}")
        return self

    def _check_kubernetes(self) -> None:
        if self.type not in TYPES and self.name != LOCAL:
            raise Invalid(f"type must be one of {', '.join(TYPES)}", place="type")
        if self.type == "kubeconfig":
            require(self.kube_config, "kube_config cannot be empty")
            check_kubeconfig(self.kube_config)


class ClusterChange(Body):
    """What the documents let be changed, and of ours ``kube_config`` and ``executor``. What is absent stays."""

    name: str | None = None
    description: str | None = None
    project_names: list[str] | None = None
    kube_config: str | None = None
    executor: str | None = None


def check_kubeconfig(text: str) -> None:
    """Whether it looks like one; nothing of it gets into a message. Raises: Invalid."""
    if text == MASK:
        return
    if len(text) > _MOST_KUBECONFIG:
        raise Invalid(f"kube_config is longer than {_MOST_KUBECONFIG} characters", place="kube_config")
    try:
        check_shape(text, "kube_config")
        value: Any = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise Invalid("kube_config is no YAML", place="kube_config") from None
    if not isinstance(value, Mapping) or not isinstance(value.get("clusters"), list):
        raise Invalid("kube_config is no kubeconfig: it has no list of clusters", place="kube_config")
