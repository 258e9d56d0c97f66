"""What the process executor costs, beside bare processes, in one run: ``python benchmarks/process_executor.py``.

Figures: start to the first instruction of the step (bare: the child's own first instruction), jobs per second with ten
at once and the server's processor time for each, and how long a stop takes until the end is heard.

The jobs root is made below ``TMPDIR``. Making files is most of what a job costs the server, so the file system decides:
an ext4 without journal searches through all inodes deleted in the last minute for each new one, which multiplies the
figures (``perf`` shows ``recently_deleted``). Measure on the file system that is to be used, and on a tmpfs beside it.
"""

import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cador.executors.process import ProcessExecutor
from cador.ports.executor import End, FolderStep, JobFolder, Limits, Output

SAMPLES = 200
STAMP = 'echo "$EPOCHREALTIME"'


def shown(name: str, values: list[float]) -> None:
    ordered = sorted(values)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    print(f"{name:58} p50 {p50 * 1000:7.2f} ms   p99 {p99 * 1000:7.2f} ms")


def step(text: str) -> JobFolder:
    return JobFolder(steps=(FolderStep("s", "shell", text, quiet=True),))


def bare(*command: str) -> float:
    began = time.time()
    out = subprocess.run([*command, STAMP], capture_output=True, check=True).stdout
    return float(out) - began


async def ours(executor: ProcessExecutor, key: str, limits: Limits) -> float:
    began = time.time()
    first = 0.0
    await executor.start(key, JobFolder(steps=step(STAMP).steps, limits=limits))
    async for event in executor.follow(key, key, 0):
        if isinstance(event, Output):
            first = float(event.data) - began
    await executor.remove(key, key)
    return first


async def starts(executor: ProcessExecutor, name: str) -> None:
    """In turns, so that whatever else the machine does disturbs all alike."""
    limits = Limits(cpu_milli=1000, memory_bytes=1 << 30, pids=1000)
    figures: dict[str, list[float]] = {}
    for number in range(SAMPLES):
        figures.setdefault("bare: bash -c", []).append(bare("bash", "-c"))
        figures.setdefault("bare: sh -c 'bash -c ...; exit'", []).append(bare("sh", "-c", 'bash -c "$0"; exit 0'))
        figures.setdefault(f"{name}: start to first instruction", []).append(
            await ours(executor, f"a-{number}", Limits())
        )
        figures.setdefault(f"{name}: the same with limits", []).append(await ours(executor, f"l-{number}", limits))
    for what, values in figures.items():
        shown(what, values)


def processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def sustained(executor: ProcessExecutor, prefix: str, seconds: float = 5.0) -> tuple[float, float]:
    """Jobs per second, and seconds of the server's processor time for each; that of the jobs is not in it."""
    done, used = 0, processor_s()
    until = time.monotonic() + seconds

    async def slot(number: int) -> None:
        nonlocal done
        turn = 0
        while time.monotonic() < until:
            key = f"{prefix}-{number}-{turn}"
            turn += 1
            await executor.start(key, step(":"))
            async for _ in executor.follow(key, key, 0):
                pass
            await executor.harvest(key, key)
            await executor.remove(key, key)
            done += 1

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(slot(number))
    return done / seconds, (processor_s() - used) / done


async def stops(executor: ProcessExecutor, prefix: str, text: str, count: int) -> list[float]:
    found = []
    for number in range(count):
        key = f"{prefix}-{number}"
        await executor.start(key, step(text))
        began = 0.0
        async for event in executor.follow(key, key, 0):
            if isinstance(event, Output):
                began = time.monotonic()
                await executor.stop(key, key, "cancel", 1.5)
            elif isinstance(event, End):
                found.append(time.monotonic() - began)
        await executor.remove(key, key)
    return found


async def main(means: list[str]) -> None:
    for name in means:
        with tempfile.TemporaryDirectory() as folder:
            executor = ProcessExecutor(root=Path(folder), installation="benchmark", containment=name)
            await executor.open()
            print(executor.containment_note())
            await starts(executor, name)
            rate, used = await sustained(executor, "b")
            print(f"{name}: ten at once: {rate:.0f} jobs per second, {used * 1000:.2f} ms of the server for each")
            shown(f"{name}: stop, heeding TERM", await stops(executor, "c", "echo x; sleep 1000", 30))
            deaf = "trap '' TERM; setsid sleep 1000 & echo x; while :; do sleep 1; done"
            shown(f"{name}: stop, deaf to TERM (grace 1.5 s)", await stops(executor, "d", deaf, 3))
            await executor.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["auto"]))
