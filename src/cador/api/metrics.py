"""Prometheus figures: HTTP by route template, and what the engine counts through :class:`cador.ports.metrics.Meter`."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from cador import __version__

_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0)
_QUEUE: Final[Mapping[str, str]] = {
    "waiting": "Tasks that wait for a slot",
    "running": "Tasks that are running",
    "waiting_for_approval": "Tasks that wait for people",
    "oldest_waiting_s": "Seconds the oldest waiting task has been waiting",
}


class StoreFigures(Protocol):
    """What a server copies to the shared store; counted since its start."""

    @property
    def pending(self) -> int: ...
    @property
    def oldest_s(self) -> float: ...
    @property
    def failures(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def error(self) -> str: ...


class Metrics:
    """All figures of one server process. Also the engine's meter: hand it to both."""

    content_type: Final = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._store: Callable[[], StoreFigures] | None = None
        Gauge("cador_info", "Version of this server", ["version"], registry=registry).labels(__version__).set(1)
        self._requests = Counter(
            "cador_http_requests", "HTTP requests", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "cador_http_request_seconds", "Time to the end of the answer", ["route"], buckets=_FAST, registry=registry
        )
        self._queue = {name: Gauge(f"cador_queue_{name}", text, registry=registry) for name, text in _QUEUE.items()}
        self._tasks_started = Counter("cador_tasks_started", "Tasks started", registry=registry)
        self._waited = Histogram(
            "cador_task_wait_seconds", "From accepted to running", buckets=(*_FAST, *_LONG[5:]), registry=registry
        )
        self._tasks_ended = Counter("cador_tasks_ended", "Tasks ended", ["status"], registry=registry)
        self._task_seconds = Histogram("cador_task_seconds", "Time tasks take", buckets=_LONG, registry=registry)
        self._jobs_started = Counter("cador_jobs_started", "Job tasks started", ["executor"], registry=registry)
        self._latency = Histogram(
            "cador_job_start_seconds", "From decided to running", buckets=_FAST, registry=registry
        )
        self._jobs_ended = Counter("cador_jobs_ended", "Job tasks ended", ["type", "status"], registry=registry)
        self._job_seconds = Histogram("cador_job_seconds", "Time job tasks take", buckets=_LONG, registry=registry)
        self._running = Gauge("cador_jobs_running", "Executions followed here", ["executor"], registry=registry)
        self._retries = Counter("cador_command_retries", "Commands tried again", ["kind"], registry=registry)
        self._recovered = Counter(
            "cador_recovered", "Executions taken over after a restart or loss", ["what"], registry=registry
        )
        self._loop_lag = Histogram(
            "cador_loop_lag_seconds", "Lateness of the event loop", buckets=_FAST, registry=registry
        )

    def watch_store(self, figures: Callable[[], "StoreFigures"]) -> None:
        """Show what goes to the shared store; *figures* is asked whenever somebody looks."""
        self._store = figures
        registry = self.registry
        self._store_gauges = {
            "pending": Gauge("cador_store_pending", "Copies that wait for the shared store", registry=registry),
            "oldest_s": Gauge("cador_store_oldest_seconds", "Age of the oldest of them", registry=registry),
            "away": Gauge("cador_store_away", "1 while the shared store does not answer", registry=registry),
        }
        self._store_counters = {
            "done": Counter("cador_store_copies", "Copies made", registry=registry),
            "failures": Counter("cador_store_failures", "Tries that failed", registry=registry),
            "refused": Counter("cador_store_refused", "Copies the store will never take", registry=registry),
        }
        self._store_counted = dict.fromkeys(self._store_counters, 0)

    def _look_at_store(self) -> None:
        if self._store is None:
            return
        found = self._store()
        self._store_gauges["pending"].set(found.pending)
        self._store_gauges["oldest_s"].set(found.oldest_s)
        self._store_gauges["away"].set(1 if found.error else 0)
        for name, counter in self._store_counters.items():
            count = int(getattr(found, name))
            counter.inc(count - self._store_counted[name])
            self._store_counted[name] = count

    def text(self, queue: Mapping[str, float]) -> bytes:
        """The exposition text; *queue*: figures read from the database just now, by name."""
        self._look_at_store()
        for name, gauge in self._queue.items():
            if name in queue:
                gauge.set(queue[name])
        return generate_latest(self.registry)

    # -- HTTP

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """*route*: template of the path, never the path itself."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    # -- the engine's meter

    def task_started(self, waited_s: float | None) -> None:
        self._tasks_started.inc()
        if waited_s is not None:
            self._waited.observe(waited_s)

    def task_ended(self, status: str, took_s: float) -> None:
        self._tasks_ended.labels(status).inc()
        self._task_seconds.observe(took_s)

    def job_started(self, executor: str, latency_s: float) -> None:
        self._jobs_started.labels(executor).inc()
        self._latency.observe(latency_s)

    def job_ended(self, type_name: str, status: str, took_s: float) -> None:
        self._jobs_ended.labels(type_name, status).inc()
        self._job_seconds.observe(took_s)

    def running_jobs(self, executor: str, change: int) -> None:
        self._running.labels(executor).inc(change)

    def command_retried(self, kind: str) -> None:
        self._retries.labels(kind).inc()

    def recovered(self, what: str, count: int = 1) -> None:
        self._recovered.labels(what).inc(count)

    def loop_lag(self, seconds: float) -> None:
        self._loop_lag.observe(seconds)
