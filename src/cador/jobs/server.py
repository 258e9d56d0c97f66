"""What job types have in common that the server itself carries out: one job task, an action instead of steps.

What such a type adds is its input, its plan, the arguments of its action and what the end of that means. Facts for the
detail of the task are left by the action in the output :data:`FACTS`, as JSON.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

from cador.domain.workflow import Job, Workflow
from cador.jobs.base import Collected, Conclusion, Doc, JobTaskPlan, Run, Scope
from cador.jobs.sandbox import USUAL_MIN, timeout_s
from cador.jobs.values import text, with_input_told
from cador.ports.actions import ActionCall
from cador.ports.executor import JobFolder
from cador.ports.stores import Resource

FACTS: Final = "cador.facts"
ALL_PROJECTS: Final = ("*", "<all_projects>")

Object = dict[str, Any]


class ServerType(ABC):
    """Base of these types. See :class:`cador.jobs.base.JobType`; ``repeatable`` says whether the job begins anew when
    its server ended in the middle of it."""

    name: str
    kind = "server"
    repeatable = False

    def check(self, job: Job, workflow: Workflow) -> None:
        return

    def update(self, job: Job, parameters: Doc, scope: Scope) -> Job:
        """Raises: Invalid: ``failed to update jobspec for job: <name>, err: <cause>``."""
        return with_input_told(job, lambda: self.updated(job, parameters, scope))

    @abstractmethod
    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        """The new spec of *job*. Raises: Invalid."""

    def expand(self, job: Job, scope: Scope) -> list[JobTaskPlan]:
        return [
            JobTaskPlan(
                name=job.name,
                key=job.name,
                display_name=job.name,
                timeout_s=timeout_s(job.spec.get("timeout"), USUAL_MIN),
                plan=self.plan(job, scope),
                info={"job_name": job.name},
            )
        ]

    @abstractmethod
    def plan(self, job: Job, scope: Scope) -> Object:
        """The plan of the one job task. Raises: NotStartable."""

    def renew(self, plan: Doc, local_time: str) -> Object:
        return dict(plan)

    def compile(self, plan: Doc, run: Run) -> JobFolder:
        arguments = self.arguments(plan, run)
        return JobFolder(
            steps=(),
            secrets=tuple(dict.fromkeys(run.secrets())),
            action=ActionCall(self.name, arguments, self.repeatable),
        )

    @abstractmethod
    def arguments(self, plan: Doc, run: Run) -> Object:
        """Of the action that is called like the type; credentials opened. Raises: Invalid: the job fails with it."""

    def conclude(self, plan: Doc, outputs: Mapping[str, str], passed: bool, collected: Collected) -> Conclusion:
        return Conclusion(result=json.loads(outputs[FACTS]) if FACTS in outputs else {})

    @abstractmethod
    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object: ...


def seen_by(resource: Resource | None, project: str) -> bool:
    """Whether *project* may use something of the system whose ``projects`` name who may; none named: everybody."""
    if resource is None:
        return False
    projects = [text(name) for name in resource.document.get("projects") or ()]
    return not projects or project in projects or any(name in ALL_PROJECTS for name in projects)
