"""What the server measures about its work. The engine counts through this; ``/metrics`` shows it."""

from typing import Protocol


class Meter(Protocol):
    """Counters and gauges. Every call is cheap, never raises, and may come from any thread.

    Words: *status* is the final status of a task or job task, *executor* one of ``process``, ``docker``,
    ``kubernetes``, ``server``, *kind* a command's kind. Durations are seconds.
    """

    def task_started(self, waited_s: float | None) -> None:
        """A task became running, *waited_s* after it was accepted; None: it was retried."""

    def task_ended(self, status: str, took_s: float) -> None: ...

    def job_started(self, executor: str, latency_s: float) -> None:
        """A job's process exists, *latency_s* after the engine decided to start it."""

    def job_ended(self, type_name: str, status: str, took_s: float) -> None: ...

    def running_jobs(self, executor: str, change: int) -> None:
        """This process follows one execution more (1) or less (-1)."""

    def command_retried(self, kind: str) -> None: ...

    def recovered(self, what: str, count: int = 1) -> None:
        """After a restart or from a lost replica: ``adopted``, ``lost``, ``rerun``, ``released``."""

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop ran a timer, sampled."""


class SilentMeter:
    """Measures nothing: for tests and for one-off runs without a server."""

    def task_started(self, waited_s: float | None) -> None: ...

    def task_ended(self, status: str, took_s: float) -> None: ...

    def job_started(self, executor: str, latency_s: float) -> None: ...

    def job_ended(self, type_name: str, status: str, took_s: float) -> None: ...

    def running_jobs(self, executor: str, change: int) -> None: ...

    def command_retried(self, kind: str) -> None: ...

    def recovered(self, what: str, count: int = 1) -> None: ...

    def loop_lag(self, seconds: float) -> None: ...
