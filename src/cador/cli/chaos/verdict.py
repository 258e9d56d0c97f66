"""What must hold after everything: asked of the servers, and compared with what the jobs themselves wrote down."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from cador.cli.chaos.people import FINAL, People, Task
from cador.cli.client import Client, segment

INVARIANTS: Final = (
    "every start that was acknowledged is a task, numbered without a gap",
    "every task came to its end, and to the one its workflow leads to",
    "a cancel, a vote or a retry that was acknowledged had its effect",
    "no job ran twice for one attempt, none that passed did not run",
    "jobs of a serial stage ran one after the other, stages too",
    "no workflow ever had more tasks running than its limit",
    "every log of a job that passed is whole, each line once and in order",
    "the events of a task, replayed, give the task",
    "nothing is left behind: no process, no job folder",
)


@dataclass(slots=True)
class Verdict:
    """``broken``: by index of :data:`INVARIANTS`, what does not hold."""

    broken: dict[int, list[str]] = field(default_factory=dict)
    tasks: int = 0
    jobs: int = 0
    runs: int = 0
    lines: int = 0
    interrupted: int = 0

    def no(self, invariant: int, text: str) -> None:
        self.broken.setdefault(invariant, []).append(text)


class Judge:
    def __init__(self, people: People, trace: Path, jobs_root: Path) -> None:
        self._people, self._trace, self._jobs_root = people, trace, jobs_root
        self._verdict = Verdict()

    def judge(self) -> Iterator[tuple[int, int]]:
        """Yields how far it is, as (tasks looked at, of how many); the verdict is in :attr:`verdict` afterwards."""
        tasks = self._people.tasks
        self._verdict = Verdict(tasks=len(tasks))
        self._numbers(tasks)
        marks = self._trace.read_text().splitlines() if self._trace.exists() else []
        began = Counter(mark.removeprefix("begin ") for mark in marks if mark.startswith("begin "))
        ended = Counter(mark.removeprefix("end ") for mark in marks if mark.startswith("end "))
        self._verdict.runs = sum(began.values())
        rounds: dict[str, list[tuple[int, int]]] = {}
        for number, task in enumerate(tasks, 1):
            detail = self._get(task)
            events = self._events(task)
            rounds.setdefault(task.plan.key, []).extend(_rounds(events))
            self._end(task, detail)
            self._wishes(task, detail, events)
            self._runs(task, detail, events, began, ended)
            self._order(task, detail)
            self._logs(task, detail)
            self._replay(task)
            yield number, len(tasks)
        self._limits(tasks, rounds)
        self._left()

    @property
    def verdict(self) -> Verdict:
        return self._verdict

    # -- asking

    def _get(self, task: Task) -> dict[str, Any]:
        detail: dict[str, Any] = self._people.ask(lambda client: client.get(_path(task)))
        return detail

    def _events(self, task: Task) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            page = self._people.ask(partial(_page, task, after))
            found += page["events"]
            if page["next"] is None or page["next"] == after:
                return found
            after = page["next"]

    # -- invariants

    def _numbers(self, tasks: list[Task]) -> None:
        by_plan: dict[str, list[int]] = {}
        for task in tasks:
            by_plan.setdefault(task.plan.key, []).append(task.number)
        for key, numbers in by_plan.items():
            if sorted(numbers) != list(range(1, len(numbers) + 1)):
                self._verdict.no(0, f"{key}: tasks {sorted(numbers)}")

    def _end(self, task: Task, detail: dict[str, Any]) -> None:
        status = detail["status"]
        allowed = {task.plan.status()}
        if any(wish == "cancel" for wish in task.wishes):
            allowed.add("cancelled")
        # Also one that was refused: it was asked again because the reply to the first, which counted, was lost.
        if any(wish.startswith("reject") for wish in task.wishes):
            allowed.add("failed")
        lost = [job for job in _jobs(detail) if "interrupted" in job["error"]]
        if lost:
            allowed.add("failed")
        if status not in FINAL or not detail["ended_at"]:
            self._verdict.no(1, f"{_name(task)} has not ended: {detail['status_detail']}")
        elif status not in allowed:
            self._verdict.no(1, f"{_name(task)} is {status} instead of {' or '.join(sorted(allowed))} {task.wishes}")

    def _wishes(self, task: Task, detail: dict[str, Any], events: list[dict[str, Any]]) -> None:
        kinds = Counter(event["kind"] for event in events)
        for wish, kind in (("cancel", "cancel_requested"), ("retry", "retry_requested")):
            wanted = sum(one == wish for one in task.wishes)
            # A cancel that finds the task ended is acknowledged and changes nothing.
            if wish == "cancel" and wanted and not kinds[kind] and detail["status"] == "failed":
                continue
            if kinds[kind] < wanted:
                self._verdict.no(2, f"{_name(task)}: {wanted} times {wish}, {kinds[kind]} events")
        votes = sum(one.startswith(("approve", "reject")) and "refused" not in one for one in task.wishes)
        if kinds["voted"] < votes:
            self._verdict.no(2, f"{_name(task)}: {votes} votes were acknowledged, {kinds['voted']} are known")

    def _runs(
        self,
        task: Task,
        detail: dict[str, Any],
        events: list[dict[str, Any]],
        began: Counter[str],
        ended: Counter[str],
    ) -> None:
        known: Counter[str] = Counter()
        seen: set[tuple[int, int, int]] = set()
        for event in events:
            data = event["data"]
            if event["kind"] == "job_started":
                execution = (data["job_id"], data["attempt"], data["recovery"])
                if execution in seen:
                    self._verdict.no(3, f"{_name(task)}: two starts of {execution}")
                seen.add(execution)
                known[event["about"]] += 1
            if event["kind"] == "job_ended" and data["result"] == "lost":
                self._verdict.interrupted += 1
        for job in _jobs(detail):
            self._verdict.jobs += 1
            mark = f"{task.plan.key}/{task.number}/{job['name']}"
            if began[mark] > known[job["name"]]:
                self._verdict.no(3, f"{mark} began {began[mark]} times in {known[job['name']]} executions")
            if job["status"] == "passed" and not ended[mark]:
                self._verdict.no(3, f"{mark} is passed and never came to its end")
            if ended[mark] > 1:
                self._verdict.no(3, f"{mark} came to its end {ended[mark]} times")

    def _order(self, task: Task, detail: dict[str, Any]) -> None:
        stage_end = 0.0
        for stage in detail["stages"]:
            spans = [
                (_unix(job["started_at"]), _unix(job["ended_at"]), job["name"])
                for job in stage["jobs"]
                if job["started_at"] and job["ended_at"]
            ]
            job_end = stage_end
            for begin, end, name in spans:
                if begin < stage_end:
                    self._verdict.no(4, f"{_name(task)}: {name} began before the stage before it had ended")
                elif not stage["parallel"] and begin < job_end:
                    self._verdict.no(4, f"{_name(task)}: {name} began before the job before it had ended")
                job_end = end
            stage_end = max([stage_end, *(end for _, end, _ in spans)])

    def _limits(self, tasks: list[Task], rounds: dict[str, list[tuple[int, int]]]) -> None:
        limits = {task.plan.key: task.plan.limit for task in tasks}
        for key, spans in rounds.items():
            if limits[key] < 0:
                continue
            moves = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
            running = 0
            for _, step in moves:
                running += step
                if running > limits[key]:
                    self._verdict.no(5, f"{key}: {running} tasks at once, {limits[key]} are allowed")
                    break

    def _logs(self, task: Task, detail: dict[str, Any]) -> None:
        for job in _jobs(detail):
            plan = task.plan.jobs[job["job"]]
            if job["status"] != "passed":
                continue
            path = f"{_path(task)}/jobs/{segment(job['name'])}/log"
            text = self._people.ask(partial(_text, path))
            mark = f"{task.plan.key}/{task.number}/{job['name']}"
            wanted = [f"line {n} of {mark}" for n in range(1, plan.lines // 5 * 5 + 1)]
            printed = [line.partition("   ")[2] for line in text.splitlines() if "   line " in line]
            self._verdict.lines += len(printed)
            if printed != wanted:
                self._verdict.no(6, f"{mark}: {len(printed)} lines instead of {len(wanted)}")

    def _replay(self, task: Task) -> None:
        past = self._people.ask(lambda client: client.get(f"{_path(task)}/state", at=f"{time.time():.3f}"))
        if not past["agrees"]:
            self._verdict.no(7, f"{_name(task)}: its events tell another story than its rows")

    def _left(self) -> None:
        left = (
            [one.name for one in self._jobs_root.iterdir() if "." in one.name[1:]] if self._jobs_root.exists() else []
        )
        if left:
            self._verdict.no(8, f"job folders: {', '.join(sorted(left)[:5])}")
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                words = (process / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if f"{self._jobs_root}/" in words:
                self._verdict.no(8, f"process {process.name}: {words.replace(chr(0), ' ')[:80]}")


def _rounds(events: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """From when to when a task was running, in ids of events, for each of its rounds: ids grow in the order in which
    transactions that count each other were committed."""
    begin: int | None = None
    last = 0
    for event in events:
        if event["kind"] == "admitted" and begin is None:
            begin = event["id"]
        if event["kind"] == "retry_requested" and begin is not None:
            yield begin, last
            begin = None
        last = event["id"]
    if begin is not None:
        yield begin, last


def _jobs(detail: dict[str, Any]) -> list[dict[str, Any]]:
    return [job for stage in detail["stages"] for job in stage["jobs"]]


def _name(task: Task) -> str:
    return f"{task.plan.key}/{task.number}"


def _path(task: Task) -> str:
    return f"/api/v1/tasks/{segment(task.plan.key)}/{task.number}"


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _page(task: Task, after: int, client: Client) -> Any:
    return client.get(f"{_path(task)}/events", after=after)


def _text(path: str, client: Client) -> str:
    with client.download(path, accept="text/plain") as response:
        return response.read().decode(errors="replace")
