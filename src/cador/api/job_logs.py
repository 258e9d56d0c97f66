"""Logs of jobs. Source: API documents, "View Real-time Workflow Task Logs", "View Complete Workflow Task Logs"."""

import asyncio
import time
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from cador.api.catalogue import NO_DOCUMENTS, Operation
from cador.api.errors import Refusal, bad_request
from cador.api.params import integer
from cador.api.permissions import by_operation
from cador.api.routing import Call, Routes
from cador.api.streams import (
    EVENT_HEADERS,
    LiveLog,
    Stream,
    Write,
    bytes_answer,
    documented_events,
    named_event,
    own_event,
    sentence,
)
from cador.domain.errors import Forbidden, NotFound, Unavailable
from cador.operations.finding import find_task
from cador.operations.job_logs import JobLog, job_log
from cador.operations.reading import in_reader
from cador.operations.sessions import NotAuthenticated
from cador.ports.logs import LogName, LogRestAway

ROUTES: Final = Routes("logs")

TEXT: Final = "text/plain; charset=utf-8"
EVENTS: Final = "text/event-stream"
DEFAULT_TAIL: Final = 10
OWN_TAIL: Final = 1000
REPLAY_S: Final = 3.0
"""How long an offset past the end of a growing log is taken for one that will come again."""

_SSE: Final = "/openapi/logs/sse/v4/workflow/{workflow_id}/{workflow_task_id}/{workflow_job_task_id}/{tail_lines}"
_WHOLE: Final = "/openapi/logs/log/v4/workflow/{workflow_id}/{workflow_task_id}/{workflow_job_task_id}"
_OWN: Final = "/api/v1/tasks/{workflow}/{number}/jobs/{job}/log"


def _not_found(error: NotFound) -> Refusal:
    return Refusal(Operation.GET_TASK, f"job {error.name} not found" if error.kind == "job" else NO_DOCUMENTS)


@ROUTES.get(_SSE, by_operation("get_workflow"), faults={NotFound: _not_found}, reply_type=EVENTS)
async def live(call: Call) -> Response:
    """Live log of a job: the last lines, then what is written, one event per line; ends when the log is complete."""
    key, number, log = await _documented(call)
    tail = integer(call.path_value("tail_lines"))
    stream = LiveLog(
        call.ctx,
        log,
        key,
        number,
        lambda end, lines: documented_events(lines),
        keep_alive_s=call.limits.keep_alive_s,
        start_wait_s=call.limits.start_wait_s,
    )

    async def produce(write: Write) -> None:
        name = await stream.started(write)
        if name is not None:
            lines = DEFAULT_TAIL if tail is None else tail
            await stream.follow(write, name, await _tail_offset(call, name, lines))

    until = partial(_may_no_more, call, key, number)
    return Stream(produce, headers=EVENT_HEADERS, media_type=EVENTS, until=until)


@ROUTES.get(_WHOLE, by_operation("get_workflow"), faults={NotFound: _not_found}, reply_type="text/plain", head=True)
async def whole(call: Call) -> Response:
    """Whole log of a job; of a running one what there is so far."""
    _, _, log = await _documented(call)
    return await _text(call, log)


@ROUTES.get(
    _OWN, by_operation("get_workflow"), query=("tail:int", "from:int", "attempt:int"), reply_type=EVENTS, head=True
)
async def own(call: Call) -> Response:
    """Log of a job as events with ids (``Last-Event-ID`` or ``from`` resume), or plain text for ``Accept: text/plain``.

    Events: ``start`` (attempt, offset), lines as ``message`` with the offset behind them as id, ``end`` (status). A
    further attempt of the same job begins with a ``start`` of its own.
    """
    number = integer(call.path_value("number"))
    if number is None:
        raise bad_request("invalid task number")
    key, attempt = call.path_value("workflow"), call.number("attempt")
    if attempt is not None and attempt < 1:
        raise bad_request("attempt counts from 1")
    log = await job_log(call.ctx, call.actor, key, number, call.path_value("job"), attempt)
    if attempt is not None and log.name is not None and not await _exists(call, log.name):
        raise NotFound("attempt", str(attempt))
    accept = call.headers.get("accept", "")
    if "text/plain" in accept and EVENTS not in accept:
        return await _text(call, log)
    start = _resume_from(call)
    tail = call.number("tail")
    stream = LiveLog(
        call.ctx,
        log,
        key,
        number,
        own_event,
        keep_alive_s=call.limits.keep_alive_s,
        start_wait_s=None,
        attempt=attempt,
    )

    async def produce(write: Write) -> None:
        name = await stream.started(write)
        offset = 0
        if name is not None:
            offset = await _first_offset(call, name, start, OWN_TAIL if tail is None else tail)
        while name is not None:
            await write(named_event("start", {"attempt": name.attempt, "offset": offset}))
            await stream.follow(write, name, offset)
            name, offset = await stream.next_attempt(write, name), 0
        await write(named_event("end", {"status": stream.log.status, "attempt": stream.log.attempt}))

    until = partial(_may_no_more, call, key, number)
    return Stream(produce, headers=EVENT_HEADERS, media_type=EVENTS, until=until)


async def _may_no_more(call: Call, key: str, number: int) -> None:
    """Return when who follows may look no more: a token that ended must not read on for as long as the job runs."""
    while True:
        await asyncio.sleep(call.limits.recheck_s)
        try:
            await find_task(call.ctx, await call.sessions.again(call.actor), "get_workflow", key, number)
        except (NotAuthenticated, Forbidden, NotFound):
            return
        except Unavailable:
            continue


def _resume_from(call: Call) -> int | None:
    """Offset to go on from, None: none given. Raises: Refusal."""
    sent = call.headers.get("last-event-id", "").strip() or call.value("from")
    if not sent:
        return None
    offset = integer(sent)
    if offset is None or offset < 0:
        raise bad_request("from and Last-Event-ID are byte offsets")
    return offset


async def _first_offset(call: Call, name: LogName, start: int | None, tail: int) -> int:
    if start is None:
        return await _tail_offset(call, name, tail)
    deadline = time.monotonic() + REPLAY_S
    while True:
        try:
            state = await in_reader(call.ctx.logs.state, name)
        except Unavailable:
            return start
        if state is not None and start <= state.size:
            return start
        if (state is not None and state.complete) or time.monotonic() >= deadline:
            return 0  # an offset of an earlier attempt: from the beginning
        await asyncio.sleep(0.1)  # its server went, and the next one has not yet read again what that had shown


async def _tail_offset(call: Call, name: LogName, lines: int) -> int:
    try:
        return await in_reader(call.ctx.logs.tail_offset, name, lines)
    except Unavailable:  # who follows it says so, or has it by then
        return 0


async def _exists(call: Call, name: LogName) -> bool:
    try:
        return await in_reader(call.ctx.logs.exists, name)
    except Unavailable:
        return True


async def _documented(call: Call) -> tuple[str, int, JobLog]:
    number = integer(call.path_value("workflow_task_id"))
    if number is None:
        raise bad_request("invalid task id")
    key = call.path_value("workflow_id")
    return key, number, await job_log(call.ctx, call.actor, key, number, call.path_value("workflow_job_task_id"))


async def _text(call: Call, log: JobLog) -> Response:
    name = log.name
    try:
        state = await in_reader(call.ctx.logs.state, name) if name is not None else None
    except Unavailable as error:  # in the log's place, for whoever reads it there
        state, told = None, sentence(error)
    else:
        told = sentence(LogRestAway(name, state.away)) if name is not None and state is not None and state.away else b""
    size = state.size if state is not None else 0

    def read(start: int, limit: int) -> Any:
        if start >= size or name is None:
            return told[start - size : start - size + limit]
        return call.ctx.logs.read(name, start, min(limit, size - start)).data[: size - start]

    return bytes_answer(read, size + len(told), call.headers, media_type=TEXT)
