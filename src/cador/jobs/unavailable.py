"""Job types that this server knows by name and shape, but cannot carry out.

A definition with them is stored, a task is created and shows them; the job fails with the reason when it is reached.
What is common is here; the shapes of the documented types are in ``known_types``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cador.domain.errors import Invalid
from cador.domain.naming import norm
from cador.domain.workflow import Job, Workflow
from cador.jobs.base import Collected, Conclusion, Doc, JobTaskPlan, Run, Scope
from cador.jobs.sandbox import timeout_s
from cador.jobs.values import mapping, objects, text, with_input_told
from cador.ports.executor import JobFolder

Object = dict[str, Any]
CLUSTER: Final = "needs a Kubernetes cluster, which this server does not have"
CONTAINER: Final = "needs a container executor, which this server does not have"


@dataclass(frozen=True, slots=True)
class Part:
    """One job task of a job: ``names`` are what stands beside the job's name; ``service`` and ``module`` for lists."""

    plan: Object
    names: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    """Of the key and the display name, when they differ from ``names``."""
    service: str = ""
    module: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What later jobs may refer to, by full path."""


class Unavailable:
    """Base of such types, and the type of those whose spec nobody looks into."""

    kind = "sandbox"
    repeatable = True
    names_first = False
    """Whether what tells tasks apart stands before the job's name, as in ``<service>-<module>-<job>``."""

    def __init__(self, name: str, reason: str, *, runnable: bool = True) -> None:
        """*reason* goes on "a job of type <name> ". *runnable*: whether a start request may name such a job."""
        self.name = name
        self.reason = f"a job of type {name} {reason}"
        self._runnable = runnable

    def check(self, job: Job, workflow: Workflow) -> None:
        return

    def update(self, job: Job, parameters: Doc, scope: Scope) -> Job:
        """Raises: Invalid: no job of this type can be named in a start request; or as sandbox jobs do."""
        if not self._runnable:
            raise Invalid(f"undefined job type of type:{self.name}")
        return with_input_told(job, lambda: self.updated(job, parameters, scope))

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        return dict(job.spec)

    def expand(self, job: Job, scope: Scope) -> list[JobTaskPlan]:
        parts = self.parts(job, scope)
        if parts:
            scope.note(f"job {job.name}: {self.reason}")
        return [self._task(job, part) for part in parts]

    def parts(self, job: Job, scope: Scope) -> list[Part]:
        """The job tasks of *job*. Raises: NotStartable."""
        return [Part(dict(job.spec))]

    def _task(self, job: Job, part: Part) -> JobTaskPlan:
        own = part.key or part.names
        name = norm(*part.names, job.name) if self.names_first else norm(job.name, *part.names)
        info = {"job_name": job.name, "service_name": part.service, "service_module": part.module}
        return JobTaskPlan(
            name=name if part.names else job.name,
            key=".".join([job.name, *own]),
            display_name="-".join([job.name, *own]),
            timeout_s=timeout_s(_minutes(job.spec)),
            plan=part.plan,
            info={key: value for key, value in info.items() if value},
            variables=part.variables,
        )

    def renew(self, plan: Doc, local_time: str) -> Object:
        return dict(plan)

    def compile(self, plan: Doc, run: Run) -> JobFolder:
        raise Invalid(self.reason)

    def conclude(self, plan: Doc, outputs: Mapping[str, str], passed: bool, collected: Collected) -> Conclusion:
        return Conclusion()

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        return dict(plan)


class PerEntry(Unavailable):
    """One job task per entry of a list of the spec; the whole job once when the list is empty."""

    def __init__(
        self, name: str, reason: str, entries: str, fields: tuple[str, ...], *, first: bool, runnable: bool = True
    ) -> None:
        super().__init__(name, reason, runnable=runnable)
        self.entries, self._fields, self.names_first = entries, fields, first

    def parts(self, job: Job, scope: Scope) -> list[Part]:
        parts = []
        for entry in objects(job.spec.get(self.entries)):
            names = tuple(text(entry.get(field)) for field in self._fields)
            parts.append(
                Part(
                    {**job.spec, self.entries: [entry]},
                    tuple(filter(None, names)),
                    service=text(entry.get("service_name")),
                    module=text(entry.get("service_module")),
                )
            )
        return parts or super().parts(job, scope)


def _minutes(spec: Doc) -> Any:
    """``timeout`` of the spec, of its properties or of its advanced settings."""
    for place in (spec, mapping(spec.get("properties")), mapping(spec.get("advanced_setting"))):
        if "timeout" in place:
            return place["timeout"]
    return None
