"""Too much of everything: logs without end, bodies that are too large, clients that hold connections or do not read."""

import contextlib
import os
import re
import resource
import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.server_process import DEADLINE_S, FINAL, TOKEN, ServerProcess, wait

pytestmark = pytest.mark.real

MIB = 1 << 20


def memory(server: ServerProcess) -> int:
    """Bytes the server's process has in memory."""
    assert server.process is not None
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def on_disk(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


def test_a_flood_in_a_log_is_cut_and_fills_neither_memory_nor_disk(folder: Path) -> None:
    limit, flood = 4 * MIB, 2048 * MIB
    script = f"yes 'a line that says nothing at all' | head -c {flood}; echo; echo the end"
    with ServerProcess(folder, CADOR_LOG__MAX_BYTES_PER_JOB=str(limit)) as server:
        server.define_shop(flood=script, after="echo fine")
        after = server.start_task("after")
        server.ended("after", after)
        before = memory(server)
        number = server.start_task("flood")
        highest = most = 0
        deadline = time.monotonic() + 240

        def over(detail: dict[str, Any]) -> bool:
            nonlocal highest, most
            highest, most = max(highest, memory(server)), max(most, on_disk(folder))
            return detail["status"] in FINAL

        detail = server.until("flood", number, over, within_s=deadline - time.monotonic())
        assert detail["status"] == "passed"
        text = server.job_log("flood", number)
        assert limit - MIB < len(text) < limit + MIB
        assert len(re.findall(r"\[log limit of 4 MiB reached, output is dropped\]", text)) == 1
        print(
            f"flood of {flood // MIB} MiB: {(highest - before) / MIB:.0f} MiB of memory, {most / MIB:.0f} MiB of disk"
        )
        assert highest - before < 48 * MIB
        # What was read is given back at once: far less than what the job wrote.
        assert most < flood // 8
        wait(lambda: on_disk(folder) < 40 * MIB)


def raw(server: ServerProcess) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE_S)


HEAD = f"POST /openapi/workflows/custom/task HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n".encode()


def status_of(connection: socket.socket) -> int:
    data = b""
    while b"\r\n" not in data:
        part = connection.recv(65_536)
        if not part:
            return 0
        data += part
    return int(data.split()[1])


@pytest.mark.parametrize("how", ["announced", "chunked"])
def test_a_body_that_is_too_large_is_refused_unread(how: str, folder: Path) -> None:
    with ServerProcess(folder) as server:
        before = memory(server)
        with raw(server) as connection:
            if how == "announced":
                connection.sendall(HEAD + b"Content-Length: 10737418240\r\n\r\n{")
                assert status_of(connection) == 413
            else:
                connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
                sent = 0
                with contextlib.suppress(OSError):
                    while sent < 200 * MIB:
                        connection.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")
                        sent += 65_536
                assert sent < 200 * MIB, "refused long before its end"
        assert memory(server) - before < 40 * MIB
        reply = (
            server.client.post("/openapi/workflows/custom/task", content=b" " * (11 * MIB)) if server.client else None
        )
        assert reply is not None
        assert reply.status_code == 413
        assert server.call("GET", "/api/v1/version")


def test_a_request_that_trickles_is_ended(folder: Path) -> None:
    """The head within seconds, the body within a minute, however busily single bytes come."""
    with ServerProcess(folder) as server:
        ends: dict[str, int] = {}
        with contextlib.ExitStack() as stack:
            slow = {name: stack.enter_context(raw(server)) for name in ("head", "body", "silent")}
            slow["head"].sendall(b"GET /api/v1/version HTTP/1.1\r\nX: ")
            slow["body"].sendall(HEAD + b"Content-Length: 100000\r\n\r\n{")
            watched = selectors.DefaultSelector()
            for name, connection in slow.items():
                watched.register(connection, selectors.EVENT_READ, name)
            deadline = time.monotonic() + 150
            while len(ends) < len(slow):
                assert time.monotonic() < deadline, f"still open: {slow.keys() - ends.keys()}"
                for name in ("head", "body"):
                    if name not in ends:
                        with contextlib.suppress(OSError):
                            slow[name].send(b" ")
                for key, _ in watched.select(0.5):
                    ends[key.data] = status_of(slow[key.data])
                    watched.unregister(slow[key.data])
        assert ends == {"head": 408, "silent": 408, "body": 400}
        assert server.call("GET", "/api/v1/version")


IDLE = 10_000
HOLDER = """
import resource, socket, sys
host, port, count, token = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
request = f"GET /api/v1/version HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer {token}\\r\\n\\r\\n".encode()
held = []
for number in range(count):
    one = socket.create_connection((host, port), timeout=60)
    one.sendall(request)
    assert one.recv(65536).startswith(b"HTTP/1.1 200")
    held.append(one)
print("held", flush=True)
sys.stdin.readline()
"""


def test_ten_thousand_idle_connections_cost_little(folder: Path) -> None:
    """Each was used once and is kept open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < IDLE + 1_000:
        pytest.skip(f"descriptors: {IDLE} connections need as many; raise the hard limit (ulimit -Hn, now {hard})")
    with ServerProcess(folder) as server:
        server.define_shop(after="echo fine")
        before = memory(server)
        host, port = server.url.removeprefix("http://").split(":")
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, host, port, str(IDLE), TOKEN], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard)),
        )  # fmt: skip
        try:
            assert holder.stdout is not None
            assert holder.stdin is not None
            assert holder.stdout.readline() == "held\n"
            grown = memory(server) - before
            print(f"{IDLE} idle connections: {grown / MIB:.0f} MiB, {grown / IDLE / 1024:.1f} KiB each")
            assert grown / IDLE < 16 * 1024
            number = server.start_task("after")
            assert server.ended("after", number)["status"] == "passed"
            assert server.call("GET", "/readyz")["ready"]
            holder.stdin.write("\n")
            holder.stdin.flush()
        finally:
            holder.kill()
            holder.wait()
            for end in (holder.stdin, holder.stdout):
                if end is not None:
                    end.close()
        again = server.start_task("after")
        assert server.ended("after", again)["status"] == "passed"


def test_viewers_that_do_not_read_cost_the_server_little(folder: Path) -> None:
    """Each follows a log of 60 MiB and takes nothing of it."""
    viewers, size = 50, 60 * MIB
    script = f"yes 'a line of a log that somebody once wanted to see' | head -c {size}; echo; echo the end"
    with ServerProcess(folder) as server:
        server.define_shop(talk=script)
        number = server.start_task("talk")
        server.ended("talk", number, within_s=240)
        before = memory(server)
        with contextlib.ExitStack() as stack:
            path = f"/openapi/logs/sse/v4/workflow/talk/{number}/a/999999999"
            for _ in range(viewers):
                one = stack.enter_context(raw(server))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                one.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
            reader = stack.enter_context(raw(server))
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
            tail = b""
            while b"the end" not in tail:  # who reads gets everything meanwhile
                part = reader.recv(MIB)
                assert part
                tail = tail[-100:] + part
            grown = memory(server) - before
            print(f"{viewers} viewers that do not read: {grown / MIB:.0f} MiB")
            assert grown < viewers * MIB
            assert server.call("GET", "/api/v1/version")
