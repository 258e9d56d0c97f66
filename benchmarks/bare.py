"""The same work with nothing of cador in it: what a figure is compared with, in the same run."""

import asyncio
import subprocess
import time


def latency_ms() -> float:
    """Until the first instruction of a shell."""
    begun = time.time()
    out = subprocess.run(["bash", "-c", "echo $EPOCHREALTIME"], capture_output=True, text=True, check=True).stdout
    return (float(out) - begun) * 1000


def chain_s(count: int, script: str) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        subprocess.run(["sh", "-c", script], check=True)
    return time.perf_counter() - begun


def pool_s(count: int, slots: int) -> float:
    """A pool of asyncio: what one would write without a server - nothing stored, no log, no limits but one."""

    async def main() -> float:
        gate = asyncio.Semaphore(slots)

        async def one() -> None:
            async with gate:
                process = await asyncio.create_subprocess_exec("sh", "-c", "true")
                await process.wait()

        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        return time.perf_counter() - begun

    return asyncio.run(main())
