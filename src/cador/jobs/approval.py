"""Job type ``approval``: wait for people. Source: API documents, "Approve or Reject"; the engine asks and counts."""

from collections.abc import Mapping
from typing import Any, Final

from cador.domain.errors import InvalidDefinition, NotStartable
from cador.domain.workflow import Job, Workflow
from cador.jobs.base import Collected, Conclusion, Doc, JobTaskPlan, Run, Scope
from cador.jobs.definition import APPROVAL_TIMEOUT_MIN
from cador.jobs.rules import approval_fault, check_timeout, reference
from cador.jobs.values import mapping, objects, text
from cador.ports.executor import JobFolder

_WORDS: Final = {"approval not found": "native approval not found"}


class Approval:
    name = "approval"
    kind = "approval"
    repeatable = True

    def check(self, job: Job, workflow: Workflow) -> None:
        kind = _kind(job.spec)
        if quoted := reference(job.spec):
            other = workflow.job(quoted)
            if other is not None and _kind(other.spec) != kind:
                raise InvalidDefinition(f"can not quote job {quoted} in job {job.name}")
        elif fault := approval_fault(kind, job.spec):
            raise InvalidDefinition(_WORDS.get(fault, fault) if kind == "native" else fault)

    def update(self, job: Job, parameters: Doc, scope: Scope) -> Job:
        """There is nothing to set."""
        return job

    def expand(self, job: Job, scope: Scope) -> list[JobTaskPlan]:
        """Raises: NotStartable: nobody could approve, or the kind of approval needs a system that is not connected,
        or it would wait for more than a year."""
        kind = _kind(job.spec)
        if kind != "native":
            raise NotStartable(f"{kind} approval is not configured")
        body = mapping(_origin(job, scope).spec.get("native_approval"))
        if fault := approval_fault(kind, {"native_approval": body} if body else {}):
            raise NotStartable(_WORDS.get(fault, fault))
        minutes = (
            _count(job.spec.get("timeout")) or _count(body.get("timeout", body.get("Timeout"))) or APPROVAL_TIMEOUT_MIN
        )
        check_timeout(minutes)
        plan = {
            "type": kind,
            "description": text(job.spec.get("description") or body.get("description")),
            "timeout": minutes,
            "needed_approvers": _count(body.get("needed_approvers", body.get("NeededApprovers"))) or 1,
            "approve_users": [_approver(user, scope) for user in objects(body.get("approve_users"))],
        }
        return [JobTaskPlan(job.name, job.name, job.name, minutes * 60.0, plan, {"job_name": job.name})]

    def renew(self, plan: Doc, local_time: str) -> dict[str, Any]:
        return dict(plan)

    def compile(self, plan: Doc, run: Run) -> JobFolder:
        """Nothing runs."""
        return JobFolder(steps=())

    def conclude(self, plan: Doc, outputs: Mapping[str, str], passed: bool, collected: Collected) -> Conclusion:
        return Conclusion()

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> dict[str, Any]:
        """Votes are added by who knows them."""
        body = {
            "timeout": plan["timeout"],
            "approve_users": [
                {
                    "user_id": text(user.get("user_id")),
                    "user_name": text(user.get("user_name") or user.get("group_name")),
                    "reject_or_approve": "",
                    "comment": "",
                    "operation_time": 0,
                }
                for user in plan["approve_users"]
            ],
            "needed_approvers": plan["needed_approvers"],
            "reject_or_approve": "",
        }
        return {
            "timeout": plan["timeout"],
            "type": plan["type"],
            "description": plan["description"],
            "native_approval": body,
        }


def _kind(spec: Doc) -> str:
    return text(spec.get("type")) or "native"


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _origin(job: Job, scope: Scope) -> Job:
    """With ``source: fromjob`` the approvers are those of the job at the start of the chain."""
    seen = {job.name}
    while quoted := reference(job.spec):
        other = scope.jobs.get(quoted) or scope.workflow.job(quoted)
        if other is None or other.name in seen:
            raise NotStartable(f"job {job.name}: refered job {quoted} not found")
        seen.add(other.name)
        job = other
    return job


def _approver(user: Doc, scope: Scope) -> dict[str, Any]:
    if user.get("type") == "task_creator":
        uid, name = scope.creator
        return {"type": "user", "user_id": uid, "user_name": name}
    return {**user, "type": text(user.get("type")) or "user"}


APPROVAL: Final = Approval()
