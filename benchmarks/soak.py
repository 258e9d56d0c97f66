"""A day's tasks within an hour: does anything of the server grow with the number of tasks?

    .venv/bin/python benchmarks/soak.py --minutes 60 --tasks 10000 [--database URL]

Starts tasks at a steady rate, keeps the newest 200 of each workflow (retention), and samples the server once a minute.
The table at the end shows each figure at the start, in the middle and at the end, and what 1,000 tasks cost of it over
the second half.
"""

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from serving import PROJECT, RUN, Server, run_body

WORKFLOWS = 10


@dataclass
class Sample:
    minute: float
    tasks: int
    rss_mb: float
    descriptors: int
    threads: int
    database_mb: float
    wal_mb: float
    logs_mb: float
    files: int
    job_folders: int
    p50_ms: float


def workflow(number: int) -> dict[str, object]:
    def job(name: str, lines: int) -> dict[str, object]:
        script = f"for n in $(seq {lines}); do echo line $n; done"
        return {
            "name": name,
            "type": "freestyle",
            "spec": {
                "properties": {"timeout": 10},
                "steps": [{"name": "run", "type": "shell", "spec": {"script": script}}],
            },
        }

    return {
        "name": f"soak-{number}",
        "display_name": f"soak-{number}",
        "project": PROJECT,
        "concurrency_limit": -1,
        "stages": [
            {"name": "first", "parallel": True, "jobs": [job("a", 20), job("b", 5)]},
            {"name": "then", "parallel": False, "jobs": [job("c", 100)]},
        ],
    }


def size_of(folder: Path) -> tuple[float, int]:
    total = count = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
                count += 1
    return total / 1e6, count


def sample(server: Server, begun: float, started: int, latencies: list[float]) -> Sample:
    proc = Path("/proc") / str(server.process.pid)
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    data = server.folder / "data"
    logs_mb, files = size_of(data)
    database = data / "cador.db"
    database_mb = database.stat().st_size / 1e6 if database.exists() else 0.0
    wal = data / "cador.db-wal"
    folders = [one for one in (server.folder / "jobs").iterdir() if "." in one.name[1:]]
    recent = sorted(latencies[-500:])
    return Sample(
        (time.monotonic() - begun) / 60,
        started,
        int(status["VmRSS"].split()[0]) / 1024,
        len(os.listdir(proc / "fd")),
        int(status["Threads"]),
        database_mb,
        wal.stat().st_size / 1e6 if wal.exists() else 0.0,
        logs_mb - database_mb,
        files,
        len(folders),
        1000 * recent[len(recent) // 2] if recent else 0.0,
    )


def show(one: Sample) -> str:
    return (
        f"{one.minute:6.1f} {one.tasks:7d} {one.rss_mb:8.1f} {one.descriptors:5d} {one.threads:7d} "
        f"{one.database_mb:8.1f} {one.wal_mb:7.1f} {one.logs_mb:8.1f} {one.files:7d} {one.job_folders:5d} "
        f"{one.p50_ms:7.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--database", default="")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--setting", action="append", default=[], help="NAME=VALUE for the server's environment")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cador-soak-", dir=asked.folder))
    settings = dict(one.split("=", 1) for one in asked.setting)
    folder.chmod(0o711)
    server = Server(folder, asked.database, slots=0, **settings)
    samples: list[Sample] = []
    try:
        server.project()
        for number in range(WORKFLOWS):
            server.client.call("POST", "/api/aslan/workflow/v4", workflow(number))
        begun = time.monotonic()
        latencies: list[float] = []
        started = 0
        pause = asked.minutes * 60 / asked.tasks
        next_sample = 0.0
        print("minute   tasks   RSS MB   fds threads    DB MB  WAL MB  rest MB   files  jobs  p50 ms", flush=True)
        while time.monotonic() - begun < asked.minutes * 60:
            due = begun + started * pause
            time.sleep(max(0.0, due - time.monotonic()))
            at = time.perf_counter()
            server.client.call("POST", RUN, run_body(f"soak-{started % WORKFLOWS}", ["a", "b", "c"]))
            latencies = [*latencies[-999:], time.perf_counter() - at]
            started += 1
            if time.monotonic() - begun >= next_sample:
                samples.append(sample(server, begun, started, latencies))
                print(show(samples[-1]), flush=True)
                next_sample += max(6.0, asked.minutes * 60 / 60)
        samples.append(sample(server, begun, started, latencies))
        print(show(samples[-1]))
        middle, last = samples[len(samples) // 2], samples[-1]
        tasks = max(last.tasks - middle.tasks, 1) / 1000
        print("\nper 1,000 tasks of the second half:")
        for name in ("rss_mb", "descriptors", "threads", "database_mb", "wal_mb", "logs_mb", "files", "job_folders"):
            print(f"  {name:<12} {(getattr(last, name) - getattr(middle, name)) / tasks:+9.3f}")
    finally:
        server.process.terminate()
        server.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
