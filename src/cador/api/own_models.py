"""Replies of the server's own routes about tasks, for ``/openapi.json``. Times: RFC 3339, null when not reached."""

from typing import Any

from pydantic import ConfigDict

from cador.api.described import Described
from cador.api.detail_models import TaskName, Variable


class Person(Described):
    user_id: str
    user_name: str


class Voter(Person):
    """``vote``: empty, ``approve`` or ``reject``."""

    vote: str
    comment: str
    at: str | None


class OwnApproval(Described):
    """``status``: empty before anybody is asked, then ``waiting``, ``approve``, ``reject``, ``timeout`` or
    ``cancelled``. ``needed``: votes."""

    type: str
    description: str
    status: str
    needed: int
    timeout_min: int
    started_at: str | None
    ended_at: str | None
    voters: list[Voter]


class Manual(Described):
    """A stage that somebody lets begin. ``executors``: null when all may who may run the workflow."""

    modify_params: bool
    executors: list[Person] | None
    executed_by: str


class Step(Described):
    """One step of an attempt, with what else is known of it."""

    model_config = ConfigDict(extra="allow")

    name: str = ""
    type: str = ""
    status: str = ""
    started_at: str | None
    ended_at: str | None


class OwnAttempt(Described):
    attempt: int
    status: str
    error: str
    started_at: str | None
    ended_at: str | None
    steps: list[Step]


class JobBasics(Described):
    name: str
    display_name: str
    type: str
    status: str
    error: str
    attempt: int
    retry_count: int
    started_at: str | None
    ended_at: str | None
    deadline_at: str | None
    approval: OwnApproval | None


class OwnJob(JobBasics):
    """``job``: its name in the definition. ``spec``: what its type shows."""

    key: str
    job: str
    spec: dict[str, Any]
    warnings: list[str]
    attempts: list[OwnAttempt]


class StageBasics(Described):
    name: str
    parallel: bool
    status: str
    error: str
    started_at: str | None
    ended_at: str | None
    approval: OwnApproval | None


class OwnStage(StageBasics):
    manual: Manual | None
    jobs: list[OwnJob]


class Notification(Described):
    """Whom a notification of this task tells of which ``events``; not how it reaches them."""

    type: str
    enabled: bool
    events: list[Any]
    recipients: dict[str, Any]


class OwnStart(Described):
    """When a task may start. ``sure``: ``good`` or ``rough``; ``samples``: past tasks that it stands on."""

    at: str
    sure: str
    samples: int


class OwnQueue(Described):
    """``position``: from 1. ``blocking``: numbers of tasks of its own workflow; ``blocked_by``: all that may be seen
    of others, too."""

    position: int
    blocking: list[int]
    blocked_by: list[TaskName]
    reason: str
    text: str
    expected_start: OwnStart | None


class TaskBasics(Described):
    workflow: str
    project: str
    number: int
    status: str
    status_detail: str
    error: str
    creator: str
    revoker: str
    retries: int
    created_at: str | None
    started_at: str | None
    ended_at: str | None


class OwnTask(TaskBasics):
    """``status``: created, running, passed, failed, timeout or cancelled; ``status_detail`` is finer. ``timeout_min``:
    0 for none. ``archived``: out of the lists, its logs and artifacts are gone."""

    workflow_name: str
    trigger: str
    remark: str
    timeout_min: int
    auto_cancel: str
    debug: bool
    archived: bool
    params: list[Variable]
    stages: list[OwnStage]
    notifications: list[Notification]
    warnings: list[str]
    queue: OwnQueue | None


class Artifact(Described):
    """``path``: below ``artifacts/`` of the task. ``size``: bytes."""

    path: str
    size: int


class ArtifactList(Described):
    artifacts: list[Artifact]


class Edit(Described):
    """A value that was changed; that of a credential is ``********``."""

    name: str
    before: str
    after: str


class ComparedAttempt(OwnAttempt):
    """``changes``: since the attempt before. ``log``: its address; null for jobs that have none."""

    took_s: float | None
    changes: list[Edit]
    log: str | None


class Attempts(Described):
    job: str
    type: str
    attempts: list[ComparedAttempt]


class Event(Described):
    """``about``: the job or stage, empty: the task. ``who``: the person. ``data``: the event as it is stored."""

    id: int
    at: str
    kind: str
    about: str
    who: str
    text: str
    data: dict[str, Any]


class Events(Described):
    """``next``: ``after`` of the following page. ``over``: nothing follows."""

    events: list[Event]
    next: int | None
    over: bool


class PastStage(StageBasics):
    jobs: list[JobBasics]


class PastTask(TaskBasics):
    """``agrees``: all events together give the task as it is stored now."""

    at: str
    agrees: bool
    last_event: Event | None
    stages: list[PastStage]


class Wait(Described):
    """One reason why something does not run; what it does not use is left out. ``hidden``: how many tasks more are in
    the way than may be seen. ``missing``: votes."""

    reason: str
    text: str
    blocking: list[TaskName] = []
    hidden: int = 0
    waits_for: list[str] = []
    people: list[Person] = []
    missing: int = 0
    until: str = ""
    limit: int = 0


class JobWhy(Described):
    name: str
    stage: str
    status: str
    reasons: list[Wait]


class Why(Described):
    """``reasons``: empty for what runs; the first is what holds it now. ``position``: in the queue, null outside."""

    workflow: str
    number: int
    status: str
    status_detail: str
    reasons: list[Wait]
    position: int | None
    expected_start: OwnStart | None
    jobs: list[JobWhy]


class Version(Described):
    name: str
    version: str


class Readiness(Described):
    """``checks``: ``ok``, or what is wrong."""

    ready: bool
    checks: dict[str, str]


class Linted(Described):
    """``warnings``: what the definition names and the server does not know."""

    message: str
    warnings: list[str] = []
