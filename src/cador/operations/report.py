"""The report of a task: one file that says all of it, for people without access to the server.

Gathers what the page needs, masked as the API masks it; ``report_page`` turns it into HTML.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from cador.domain.errors import CadorError, Unavailable
from cador.domain.masking import Masker
from cador.domain.task import JOB_KEPT, WorkflowTask
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.finding import find_task
from cador.operations.history import EventView, Names, all_events, told
from cador.operations.report_jobs import LogTail
from cador.operations.report_page import Report, render
from cador.operations.task_values import ApprovalView, StageView, TaskDetail
from cador.operations.task_views import task_artifacts, task_detail
from cador.operations.why import Why
from cador.operations.why_facts import why_of
from cador.ports.logs import LogName, LogRestAway
from cador.ports.stores import AttemptRow, Tx

LOG_LINES: Final = 200
"""So many last lines of each log."""
LOG_BYTES: Final = 256 << 10
"""And not more of one, however long its lines are."""
ALL_LOG_BYTES: Final = 4 << 20
"""Nor more of all: those of jobs that did not pass come first."""
EVENTS: Final = 2000
_BUILDERS: Final = ThreadPoolExecutor(2, thread_name_prefix="report")
"""A large report takes a second of a processor: however many are asked for, two are made at once."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Rest:
    """What the detail of a task does not tell."""

    events: tuple[EventView, ...]
    more_events: bool
    why: Why
    tokens: tuple[str, ...]
    """Sealed values of the task: what they hide must not be in the report."""


async def task_report(ctx: Context, actor: Actor, workflow_key: str, number: int) -> bytes:
    """The report as one HTML page, at most ``report_page.MOST_BYTES``. Raises: NotFound("task"), Forbidden."""
    task_id = await find_task(ctx, actor, "get_workflow", workflow_key, number)
    detail = await task_detail(ctx, actor, workflow_key, number)
    rest = await ctx.db.read(_rest, ctx, actor, task_id)
    artifacts, away = await _artifacts(ctx, actor, workflow_key, number)

    def build() -> bytes:
        masker = Masker(_opened(ctx, rest.tokens))
        report = Report(
            detail=_masked(detail, masker),
            why=rest.why,
            events=tuple(replace(event, text=masker.mask_text(event.text)) for event in rest.events),
            more_events=rest.more_events,
            artifacts=tuple(artifacts),
            artifacts_away=away,
            logs=dict(_logs(ctx, detail)),
            at=ctx.clock.now(),
        )
        return render(report)

    return await asyncio.get_running_loop().run_in_executor(_BUILDERS, build)


async def _artifacts(ctx: Context, actor: Actor, key: str, number: int) -> tuple[list[tuple[str, int]], str]:
    """What the jobs left, or why it cannot be told now: a report is worth having without it."""
    try:
        return await task_artifacts(ctx, actor, key, number), ""
    except Unavailable as error:
        return [], str(error)


def _rest(tx: Tx, ctx: Context, actor: Actor, task_id: int) -> _Rest:
    task: WorkflowTask = tx.tasks.load(task_id)
    events = all_events(tx, task_id, EVENTS + 1)
    tokens = {*_tokens(ctx, tx.tasks.snapshot(task_id))}
    for job in tx.tasks.jobs(task_id):
        tokens.update(_tokens(ctx, job.plan))
    return _Rest(
        events=told(events[:EVENTS], Names.of(task)),
        more_events=len(events) > EVENTS,
        why=why_of(tx, ctx, actor, task, tx.tasks.row(task_id)),
        tokens=tuple(tokens),
    )


def _tokens(ctx: Context, doc: Any) -> Iterator[str]:
    """All sealed texts of a document, at any depth."""
    if isinstance(doc, str):
        if ctx.sealer.is_sealed(doc):
            yield doc
    elif isinstance(doc, Mapping):
        for value in doc.values():
            yield from _tokens(ctx, value)
    elif isinstance(doc, Iterable):
        for value in doc:
            yield from _tokens(ctx, value)


def _opened(ctx: Context, tokens: Iterable[str]) -> Iterator[str]:
    for token in tokens:
        try:
            yield ctx.sealer.open(token)
        except CadorError as error:  # sealed with another key: nobody here has ever seen its value
            log.warning("report_token_not_opened", error=str(error))


def _masked(detail: TaskDetail, masker: Masker) -> TaskDetail:
    """What jobs and people wrote may repeat a secret; the documents are masked already."""
    mask = masker.mask_text

    def asked(view: ApprovalView | None) -> ApprovalView | None:
        if view is None:
            return None
        voters = tuple(replace(voter, comment=mask(voter.comment)) for voter in view.voters)
        return replace(view, description=mask(view.description), voters=voters)

    def stage(view: StageView) -> StageView:
        jobs = tuple(
            replace(
                job,
                row=replace(job.row, error=mask(job.row.error), result=_mask_all(job.row.result, mask)),
                approval=asked(job.approval),
            )
            for job in view.jobs
        )
        return replace(view, error=mask(view.error), jobs=jobs, approval=asked(view.approval))

    return replace(
        detail,
        row=replace(detail.row, error=mask(detail.row.error), remark=mask(detail.row.remark)),
        stages=tuple(map(stage, detail.stages)),
        warnings=tuple(map(mask, detail.warnings)),
        attempts=tuple(replace(attempt, error=mask(attempt.error)) for attempt in detail.attempts),
    )


def _mask_all(doc: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(doc, str):
        return mask(doc)
    if isinstance(doc, Mapping):
        return {key: _mask_all(value, mask) for key, value in doc.items()}
    if isinstance(doc, list | tuple):
        return [_mask_all(value, mask) for value in doc]
    return doc


def _logs(ctx: Context, detail: TaskDetail) -> Iterator[tuple[tuple[int, int], LogTail]]:
    """The end of each log by job id and attempt, as long as there is room: what did not pass first, then the newest
    attempts."""
    row = detail.row
    jobs = {job.row.id: job.row for stage in detail.stages for job in stage.jobs}

    def order(attempt: AttemptRow) -> tuple[bool, bool]:
        job = jobs[attempt.job_id]
        return job.status in JOB_KEPT, attempt.attempt != job.attempt

    room = ALL_LOG_BYTES
    for attempt in sorted((a for a in detail.attempts if jobs[a.job_id].kind != "approval"), key=order):
        if room <= 0:
            return
        name = LogName(row.workflow_key, row.number, jobs[attempt.job_id].name, attempt.attempt)
        try:
            tail = _tail(ctx, name, min(room, LOG_BYTES))
        except (CadorError, OSError) as error:
            tail = LogTail("", note=f"it cannot be read now: {error}")
        room -= len(tail.text)
        yield (attempt.job_id, attempt.attempt), tail


def _tail(ctx: Context, name: LogName, most: int) -> LogTail:
    state = ctx.logs.state(name)
    if state is None:
        return LogTail("", note="there is none, or it was removed")
    size = state.size
    start = ctx.logs.tail_offset(name, LOG_LINES)
    within_a_line = size - start > most
    if within_a_line:
        start = size - most
    data = bytearray()
    at = start
    while at < size and len(data) <= most:
        chunk = ctx.logs.read(name, at, most)
        if chunk.end <= at:
            break
        data += chunk.data
        at = chunk.end
    text = bytes(data).decode("utf-8", "replace")
    if within_a_line:
        text = text.partition("\n")[2] or text
    if state.away:
        text += f"{LogRestAway(name, state.away)}\n"
    return LogTail(text, cut=start > 0)
