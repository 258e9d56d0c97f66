"""The documented job types that need a cluster, a database, a container engine or another system.

Run-time input, fan-out, names and what the detail of a task shows follow the documents; carrying them out is for
servers that have what they need. Source: API documents, "Execute the Workflow" and "Get Workflow Task Details".
"""

from typing import Any, Final

from cador.jobs.unavailable import CLUSTER, PerEntry, Unavailable

Object = dict[str, Any]
_UNSUPPORTED: Final = "is not supported by this server"


KNOWN: Final[tuple[Unavailable, ...]] = (
    Unavailable("ai-task", _UNSUPPORTED),
    Unavailable("ai-release-specialist", _UNSUPPORTED),
    # no start request can name these
    PerEntry("zadig-restart", CLUSTER, "services", ("service_name",), first=True, runnable=False),
    PerEntry("zadig-helm-chart-deploy", CLUSTER, "deploy_helm_charts", ("release_name",), first=True, runnable=False),
    PerEntry("istio-release", CLUSTER, "targets", ("workload_name",), first=False, runnable=False),
    PerEntry("istio-rollback", CLUSTER, "targets", ("workload_name",), first=False, runnable=False),
    PerEntry("jenkins", _UNSUPPORTED, "jobs", ("job_name",), first=False, runnable=False),
    *(
        Unavailable(name, _UNSUPPORTED, runnable=False)
        for name in (
            "apisix",
            "apollo",
            "blueking",
            "build",
            "deploy",
            "dms",
            "grafana",
            "guanceyun-check",
            "jira",
            "meego-transition",
            "mse-gray-offline",
            "mse-gray-release",
            "nacos",
            "notification",
            "offline-service",
            "pingcode",
            "sae-deploy",
            "update-env-istio-config",
            "workflow-trigger",
        )
    ),
)
"""Every type the documents or the product know and this server does not carry out."""
