"""``source: fromjob``: the services of an earlier job of this start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cador.domain.errors import NotStartable
from cador.domain.workflow import Job
from cador.jobs.base import JobTaskPlan, Scope
from cador.jobs.rules import reference
from cador.jobs.values import mapping, objects, pair, repos_of_plan, text

_DEEPEST: Final = 100


@dataclass(frozen=True, slots=True)
class ServiceModule:
    """One module of a service. ``repos``: of the job it was taken from, for ``ref_repos``."""

    service: str
    module: str
    repos: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)

    @property
    def pair(self) -> tuple[str, str]:
        return self.service, self.module


def referred_services(job: Job, scope: Scope) -> list[ServiceModule]:
    """What the job that *job* refers to really does in this start; its stored selection when it does not run.

    Raises: NotStartable: there is no such job.
    """
    name = reference(job.spec)
    plans = scope.plans.get(name)
    if plans is not None:
        return _of_plans(plans)
    stored = scope.workflow.job(name)
    for _ in range(_DEEPEST):
        if stored is None:
            raise NotStartable(f"job {job.name}: refered job {name} not found")
        if stored.spec.get("source") != "fromjob":
            return [ServiceModule(*pair) for pair in stored_services(stored.spec)]
        name = reference(stored.spec)
        stored = scope.workflow.job(name)
    raise NotStartable(f"job {job.name}: refered job {name} not found")


def _of_plans(plans: Sequence[JobTaskPlan]) -> list[ServiceModule]:
    found: dict[tuple[str, str], ServiceModule] = {}
    for plan in plans:
        listed = objects(plan.plan.get("service_and_images")) or objects(plan.plan.get("targets"))
        modules: list[Mapping[str, Any]] = [*listed] or [plan.info]
        for entry in modules:
            if all(named := pair(entry)):
                found.setdefault(named, ServiceModule(*named, repos=tuple(repos_of_plan(plan.plan))))
    return list(found.values())


def stored_services(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of service and module a definition selects, whatever its job type calls the list; each once."""
    for key in (
        "default_service_and_builds",
        "service_and_builds",
        "target_services",
        "service_and_tests",
        "service_and_scannings",
        "targets",
        "service_and_images",
        "default_services",
        "services",
    ):
        pairs: dict[tuple[str, str], None] = {}
        for entry in objects(spec.get(key)):
            service = text(entry.get("service_name"))
            for module in objects(entry.get("modules")) or [entry]:
                pair = (service, text(mapping(module).get("service_module")))
                if all(pair):
                    pairs[pair] = None
        if pairs:
            return list(pairs)
    return []
