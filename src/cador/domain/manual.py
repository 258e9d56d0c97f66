"""Manual stages: the task pauses before them until somebody who may says go."""

from dataclasses import replace

from cador.domain import events as ev
from cador.domain.change import Change
from cador.domain.commands import Admit, Tell
from cador.domain.errors import StageNotExecutable
from cador.domain.job_machine import Cause, move
from cador.domain.task import JobStatus, Slot, StageStatus, TaskStatus

NOT_ALLOWED = "task status does not allow manual execution"


def pause(change: Change, index: int) -> None:
    """The task arrived at a manual stage: it uses nothing and counts against no limit until it is executed."""
    change.stages[index] = replace(change.stages[index], status=StageStatus.PAUSE)
    change.status, change.slot = TaskStatus.PAUSE, Slot.NONE
    change.commands += [Tell(f"pause:{index}", change.task.retry_num), Admit()]


def stage_executed(change: Change, event: ev.StageExecuted) -> None:
    """Let the task wait for its turn; it goes on in this stage. Raises: StageNotExecutable."""
    if change.status is not TaskStatus.PAUSE:
        raise StageNotExecutable(NOT_ALLOWED)
    stage = change.stages[event.stage] if 0 <= event.stage < len(change.stages) else None
    if stage is None or stage.status is not StageStatus.PAUSE:
        raise StageNotExecutable(f"stage {event.stage} of {change.task.label} does not wait to be executed")
    by = event.user_name or event.user_id or "unknown"
    change.stages[event.stage] = replace(stage, status=StageStatus.IDLE, executed_by=by)
    for job in change.stage_jobs(event.stage):
        if job.id in event.skipped and job.status is JobStatus.IDLE:
            change.put(move(job, Cause.DESELECT, JobStatus.SKIPPED, start_at=event.at, end_at=event.at))
    change.status = TaskStatus.WAITING
    change.commands.append(Admit())
