"""What a big log costs: each measured in a process of its own."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]

PROGRAM = textwrap.dedent(
    """
    import asyncio, pathlib, resource, sys
    from cador.ports.logs import LogName
    from cador.storage.logs import FileLogs

    name = LogName("flood", 1, "job", 1)
    logs = FileLogs(pathlib.Path(sys.argv[1]), clock=lambda: 1.7e9, max_bytes=1 << 30)
    block = b"".join(b"line %07d with a secret hunter2hunter2 now and then\\n" % n for n in range(1_000))
    logs.open(LogName("flood", 2, "job", 1)).close()

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    async def read(start):
        total, last = 0, b""
        async for chunk in logs.follow(name, start):
            assert len(chunk.data) <= 65_536
            total, last = total + len(chunk.data), chunk.data
        return total, last

    async def main():
        writer = logs.open(name, ("another-secret",))
        before = peak()
        readers = [asyncio.create_task(read(0)) for _ in range(2)]
        raw = 0
        while raw < 200 << 20:
            raw += len(block)
            writer.feed(block, raw)
            await asyncio.sleep(0)
            if raw % (50 * len(block)) == 0:
                assert await asyncio.to_thread(writer.sync) == raw
        lines = raw // len(block) * 1_000
        size = logs.size(name)
        assert size > 200 << 20
        width = size // lines
        for n in (10, 100_000, lines - 5):
            assert logs.tail_offset(name, n) == size - n * width
        await asyncio.to_thread(writer.close)
        for n in (10, 100_000, lines - 5):
            assert logs.tail_offset(name, n) == size - n * width
        for reader in readers:
            total, last = await reader
            assert (total, last) == (size, last)
        assert logs.size(name) == size
        at = size // 2 // width * width
        assert logs.read(name, at, 1_000).data.startswith(b"[20")
        print(peak() - before)

    asyncio.run(main())
    """
)


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30 << 20
