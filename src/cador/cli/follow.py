"""Following a task until its end: a picture that stays up to date, and the lines its jobs write."""

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Protocol

from cador.cli.client import Client, Refused, Unreached
from cador.cli.logs import PATIENCE_S, log_lines
from cador.cli.output import console, on_terminal, plain, say
from cador.cli.task_names import task_detail
from cador.cli.task_view import FINAL, WAITING, open_approvals, paused_stage, picture, span

if TYPE_CHECKING:
    from rich.live import Live

Detail = dict[str, Any]

LOOK_S: Final = 0.3
"""Seconds between two looks at the task."""
DRAIN_S: Final = 10.0
"""Seconds that the last lines of the logs may take after the end of the task."""
QUIET_S: Final = 1.0
"""Seconds without a line, after the end of the task, until a stream is taken up again."""
_STAMP: Final = len("[2026-01-01 00:00:00]   ")


class Screen(Protocol):
    def show(self, detail: Detail) -> None: ...

    def line(self, job: str, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def asking(self) -> AbstractContextManager[None]:
        """The terminal is free for a question meanwhile."""


class LiveScreen:
    """A terminal: log lines scroll, the picture of the task stays below them."""

    def __init__(self, stack: ExitStack) -> None:
        self._console = console(sys.stdout)
        self._ascii = not self._console.encoding.startswith("utf")
        self._live = self._started()
        stack.callback(lambda: self._live.stop())

    def _started(self) -> "Live":
        from rich.live import Live

        live = Live(console=self._console, auto_refresh=False, vertical_overflow="visible")
        live.start()
        return live

    def show(self, detail: Detail) -> None:
        self._live.update(picture(detail, time.time(), ascii_only=self._ascii), refresh=True)

    def line(self, job: str, text: str) -> None:
        from rich.text import Text

        shown = Text()
        shown.append(f"{job} ", "cyan").append("│ " if not self._ascii else "| ", "dim").append(unstamped(text))
        self._console.print(shown, soft_wrap=True)

    def note(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(plain(text), "bold"), soft_wrap=True)

    @contextmanager
    def asking(self) -> Iterator[None]:
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._started()  # a new one: the old one would erase the question


class PlainScreen:
    """A file or a pipe: log lines on stdout, what changes on stderr, each once."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def show(self, detail: Detail) -> None:
        for stage in detail["stages"]:
            self._tell(f"stage {stage['name']}", stage)
            for job in stage["jobs"]:
                self._tell(f"job {job['name']}", job)
        self._tell(f"task {detail['workflow_key']}/{detail['task_id']}", detail)

    def line(self, job: str, text: str) -> None:
        print(f"{job} | {unstamped(text)}", flush=True)

    def note(self, text: str) -> None:
        say(plain(text))

    def asking(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _tell(self, name: str, thing: Mapping[str, Any]) -> None:
        status = str(thing["status"])
        if status and self._told.get(name) != status:
            self._told[name] = status
            took = f" after {span(thing, time.time())}" if thing.get("end_time") and thing.get("start_time") else ""
            reason = f": {thing['error']}" if thing.get("error") else ""
            say(f"{name}: {status.replace('_', ' ')}{took}{reason}")


def unstamped(line: str) -> str:
    """A log line without its time, which whoever watches knows."""
    if line.startswith("[") and line[_STAMP - 4 : _STAMP] == "]   ":
        return line[_STAMP:]
    return line


def follow(
    client: Client,
    workflow: str,
    number: int,
    *,
    logs: bool = True,
    stop: threading.Event | None = None,
    on_approval: Callable[[Detail, Screen], None] | None = None,
    until_approval: bool = False,
) -> Detail:
    """Watch a task until it ends. Returns its last detail.

    *logs*: the lines of its jobs, too. *on_approval*: called once for every set of open approvals and manual stages.
    *until_approval*: also return when somebody must decide. *stop*: return early, with what is known.
    A server that is restarted meanwhile is waited for. Raises: Unreached, Refused, Failure.
    """
    stop = stop or threading.Event()
    with ExitStack() as stack:
        screen: Screen = LiveScreen(stack) if on_terminal(sys.stdout) else PlainScreen()
        follower = _Follower(client, workflow, number, screen, stop)
        stack.callback(follower.close)
        return follower.watch(logs, on_approval, until_approval)


class _Follower:
    def __init__(self, client: Client, workflow: str, number: int, screen: Screen, stop: threading.Event) -> None:
        self._client, self._workflow, self._number = client, workflow, number
        self._screen, self._stop = screen, stop
        self._closed = threading.Event()
        self._lines: queue.Queue[tuple[str, str]] = queue.Queue(maxsize=2_000)
        self._threads: dict[tuple[str, int], threading.Thread] = {}
        self._asked: set[str] = set()

    def close(self) -> None:
        """End the threads that read logs."""
        self._closed.set()
        end = time.monotonic() + 2.0
        while (alive := [thread for thread in self._threads.values() if thread.is_alive()]) and time.monotonic() < end:
            self._client.hang_up()  # again and again: a thread may be about to connect
            alive[0].join(0.05)

    def watch(self, logs: bool, on_approval: Callable[[Detail, Screen], None] | None, until_approval: bool) -> Detail:
        while True:
            detail = self._look()
            if logs:
                self._follow_logs(detail)
            self._screen.show(detail)
            if detail["status"] in FINAL or self._stop.is_set():
                self._drain(detail)
                return detail
            waiting = {f"{approval.name} {detail.get('retry_num', 0)}" for approval in open_approvals(detail)}
            if paused := paused_stage(detail):
                waiting.add(f"stage {paused.name} {detail.get('retry_num', 0)}")
            if waiting - self._asked:
                self._asked |= waiting
                self._print_for(LOOK_S)
                if on_approval:
                    on_approval(detail, self._screen)
                    continue
            if waiting and until_approval:
                return detail
            self._print_for(LOOK_S)

    def _look(self) -> Detail:
        """The task now; a server that is away is waited for."""
        since = 0.0
        while True:
            try:
                return task_detail(self._client, self._workflow, self._number)
            except (Unreached, Refused) as error:
                if isinstance(error, Refused) and error.status not in (502, 503, 504):
                    raise
                if not since:
                    since = time.monotonic()
                    self._screen.note(f"{error.message}; trying again")
                if time.monotonic() - since > PATIENCE_S or self._stop.wait(1.0):
                    raise

    def _follow_logs(self, detail: Detail) -> None:
        for stage in detail["stages"]:
            for job in stage["jobs"]:
                key = (str(job["name"]), int(job["start_time"] or 0))
                if job["type"] == "approval" or job["status"] in ("", "prepare", WAITING, "skipped") or not key[1]:
                    continue
                if key not in self._threads:
                    thread = threading.Thread(target=self._read, args=(key[0],), daemon=True, name=f"log {key[0]}")
                    self._threads[key] = thread
                    thread.start()

    def _read(self, job: str) -> None:
        try:
            for line in log_lines(self._client, self._workflow, self._number, job, stop=self._closed):
                self._put((job, line))
        except (Unreached, Refused) as error:
            self._put((job, f"(its log cannot be read: {error.message})"))

    def _put(self, item: tuple[str, str]) -> None:
        while not self._closed.is_set():
            try:
                return self._lines.put(item, timeout=0.5)
            except queue.Full:
                continue  # whoever prints is slower than the job; wait, or hear that we are closed

    def _print_for(self, seconds: float) -> None:
        """Print lines as they come, for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                item = self._lines.get(timeout=left)
            except queue.Empty:
                return
            self._screen.line(*item)

    def _drain(self, detail: Detail) -> None:
        """Print what is left: the task is over, so every log is complete or about to be."""
        end = time.monotonic() + DRAIN_S
        quiet_at = time.monotonic()
        while time.monotonic() < end and not self._stop.is_set():
            if not self._lines.empty():
                quiet_at = time.monotonic()
            elif not any(thread.is_alive() for thread in self._threads.values()):
                break
            elif time.monotonic() - quiet_at > QUIET_S:
                # A stream may not have heard yet that its job is over. Asked again, it goes on where it was and knows.
                self._client.hang_up()
                quiet_at = time.monotonic()
            self._print_for(0.05)
        for (job, _), thread in self._threads.items():
            if thread.is_alive() and not self._stop.is_set():
                self._screen.note(
                    f"the log of {job} may go on: cador task logs {self._workflow}/{self._number} -j {job}"
                )
        self._screen.show(detail)
