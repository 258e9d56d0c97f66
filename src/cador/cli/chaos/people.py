"""People who use servers that come and go: each wish is repeated until somebody has acknowledged it."""

import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from cador.cli.chaos.plans import Plan
from cador.cli.chaos.servers import Cluster
from cador.cli.client import Client, Refused, Unreached, segment
from cador.cli.contexts import Place
from cador.cli.output import Failure

PATIENCE_S: Final = 120.0
"""How long a wish is repeated."""
STUCK_S: Final = 180.0
"""After so long without any change a task counts as stuck."""
FINAL: Final = frozenset({"passed", "failed", "timeout", "cancelled"})
START: Final = "/openapi/workflows/custom/task"


@dataclass(slots=True)
class Task:
    """A task that was started, and what people did to it. ``wishes``: acknowledged, in order."""

    plan: Plan
    number: int
    wishes: list[str] = field(default_factory=list)
    status: str = ""


class People:
    """As many users as *count* at once; each starts a task, sees it through, and starts the next one."""

    def __init__(self, cluster: Cluster, plans: list[Plan], project: str, seed: int) -> None:
        self._cluster, self._plans, self._project, self._seed = cluster, plans, project, seed
        self._lock = threading.Lock()
        self.tasks: list[Task] = []
        self.requests = self.repeated = 0
        self.failures: list[str] = []

    def go_on(self, number: int, stop: threading.Event) -> None:
        """One user; runs on a thread of its own until *stop* is set, then sees its last task through."""
        chance = random.Random(f"{self._seed}/{number}")  # noqa: S311
        while not stop.is_set():
            try:
                self._one(chance, stop)
            except Failure as failure:
                self._fail(failure.message)
                return

    def _one(self, chance: random.Random, stop: threading.Event) -> None:
        plan = chance.choice(self._plans)
        inputs = [{"job_name": name, "job_type": "freestyle", "parameters": {}} for name in plan.jobs]
        body = {"workflow_key": plan.key, "project_key": self._project, "inputs": inputs}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        reply = self.ask(lambda client: client.call("POST", START, None, body, headers=headers))
        task = Task(plan, int(reply["task_id"]))
        with self._lock:
            self.tasks.append(task)
        dice = chance.random()
        cancel_at = time.monotonic() + chance.uniform(0.0, 3.0) if dice < 0.12 else None
        self._see_through(task, chance, cancel_at)
        if task.status in ("failed", "cancelled") and chance.random() < 0.3 and not stop.is_set():
            self._wish(task, "retry", lambda client: client.call("POST", f"{START}/{plan.key}/{task.number}/retry"))
            self._see_through(task, chance, None)

    def _see_through(self, task: Task, chance: random.Random, cancel_at: float | None) -> None:
        path = f"/api/v1/tasks/{segment(task.plan.key)}/{task.number}"
        seen, since = "", time.monotonic()
        while True:
            detail = self.ask(lambda client: client.get(path))
            task.status = str(detail["status"])
            if task.status in FINAL and detail["ended_at"]:
                return
            shown = repr([(stage["status"], [job["status"] for job in stage["jobs"]]) for stage in detail["stages"]])
            if shown != seen:
                seen, since = shown, time.monotonic()
            # Tasks wait for each other; stuck is one that does nothing although it was let in.
            if task.status == "created":
                since = time.monotonic()
            if time.monotonic() - since > STUCK_S:
                raise Failure(f"{task.plan.key}/{task.number} is stuck: {detail['status_detail']} {shown}")
            if cancel_at is not None and time.monotonic() > cancel_at:
                cancel_at = None
                self._cancel(task)
            for stage in detail["stages"]:
                if stage["status"] == "wait_for_approval":
                    yes = chance.random() < 0.9
                    self._vote(task, stage["name"], approve=yes)
            time.sleep(0.15)

    def _cancel(self, task: Task) -> None:
        query = {"workflowKey": task.plan.key, "taskId": task.number}
        self._wish(task, "cancel", lambda client: client.call("DELETE", START, query))

    def _vote(self, task: Task, stage: str, *, approve: bool) -> None:
        body = {
            "workflow_key": task.plan.key,
            "workflow_name": task.plan.key,
            "task_id": task.number,
            "stage_name": stage,
            "approve": approve,
            "comment": "",
        }
        wish = f"{'approve' if approve else 'reject'} {stage}"
        self._wish(task, wish, lambda client: client.call("POST", f"{START}/approve", None, body))

    def _wish(self, task: Task, wish: str, act: Callable[[Client], Any]) -> None:
        """A wish that may come too late, or twice when its first reply was lost: then it is refused."""
        try:
            self.ask(act)
        except Refused as refused:
            wish += f" (refused: {refused.message})"
        task.wishes.append(wish)

    def ask(self, act: Callable[[Client], Any]) -> Any:
        """Do *act* with one server or another until one has answered. Raises: Refused; Failure: nobody answers."""
        limit = time.monotonic() + PATIENCE_S
        told = "no server was up"
        while time.monotonic() < limit:
            urls = self._cluster.urls()
            if urls:
                client = Client(Place(random.choice(urls), self._cluster.token, "self-test"))  # noqa: S311
                with self._lock:
                    self.requests += 1
                try:
                    return act(client)
                except Unreached as error:
                    told = error.message
                except Refused as refused:
                    if refused.status < 500:
                        raise
                    told = refused.message
                    if refused.status != 503:
                        self._fail(f"a server answered {refused.status}: {refused.message}")
            with self._lock:
                self.repeated += 1
            time.sleep(0.05)
        raise Failure(f"no answer for {PATIENCE_S:.0f} s: {told}")

    def _fail(self, text: str) -> None:
        with self._lock:
            self.failures.append(text)
