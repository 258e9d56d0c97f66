"""Clients that take their time, over real sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from cador.api.connections import HEAD_BYTES, GuardedConnection

pytestmark = pytest.mark.anyio
MUCH_MIB = 24
"""More than the buffers of a connection hold."""
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Hasty(GuardedConnection):
    head_s = 0.2
    stalled_s = 0.3


async def app(scope: Any, receive: Any, send: Any) -> None:
    body = b"x" * (1 << 20) if scope["path"] == "/much" else b"ok"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    count = MUCH_MIB if scope["path"] == "/much" else 1
    for number in range(count):
        await send({"type": "http.response.body", "body": body, "more_body": number < count - 1})


@contextlib.asynccontextmanager
async def serving(connection: type[GuardedConnection] = Hasty) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=connection, ws="none", lifespan="off", log_config=None))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running
        listener.close()


async def within(work: Awaitable[Any], seconds: float = 20.0) -> Any:
    async with asyncio.timeout(seconds):
        return await work


@pytest.mark.parametrize(("sent", "answer"), [(b"", b"408"), (REQUEST[:20], b"408"), (b"G", b"408")])
async def test_a_head_that_does_not_come_ends_the_connection(sent: bytes, answer: bytes) -> None:
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        assert answer in (await within(reader.read())).splitlines()[0]
        writer.close()


async def test_a_head_that_trickles_ends_the_connection() -> None:
    """Every byte in time is not enough: the whole head has a limit."""
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                while not writer.is_closing():
                    writer.write(b"GET / HTTP/1.1\r\n" if not sent else b"x: y\r\n")
                    sent.append(1)
                    await writer.drain()
                    await asyncio.sleep(0.02)

        sent: list[int] = []
        child = asyncio.create_task(trickle())
        # Who still sends when the server closes may lose the answer to the reset; the connection has ended either way.
        with contextlib.suppress(ConnectionError):
            assert b"408" in (await within(reader.read())).splitlines()[0]
        child.cancel()
        writer.close()
        await gone(server)


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 - nothing tells when it is so
        await asyncio.sleep(0.01)


async def gone(server: uvicorn.Server) -> None:
    await within(until(lambda: not server.server_state.connections))


async def test_a_second_request_has_its_own_time() -> None:
    class Calm(GuardedConnection):  # what is sent at once must come in time on any machine
        head_s = 1.0

    async with serving(Calm) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(REQUEST)
            assert b"200" in await within(reader.readuntil(b"\r\n\r\n"))
            assert await within(reader.readuntil(b"0\r\n\r\n"))
            (connection,) = server.server_state.connections
            assert isinstance(connection, GuardedConnection)
            assert connection._patience is None, "between requests only the keep-alive time counts"
        writer.write(REQUEST[:10])
        assert b"408" in await within(reader.read())
        writer.close()


async def test_a_head_without_end_is_refused() -> None:
    async with serving(GuardedConnection) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET / HTTP/1.1\r\nx: ")
            for _ in range(2 * HEAD_BYTES // 4096 + 200):
                writer.write(b"y" * 4096)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert b"431" in (await within(reader.read())).splitlines()[0]
        writer.close()
        await gone(server)


async def test_a_client_that_never_reads_is_let_go() -> None:
    async with serving() as (server, port):
        with socket.create_connection(("127.0.0.1", port)) as plug:
            plug.sendall(REQUEST.replace(b"/", b"/much", 1))
            await within(until(lambda: bool(server.server_state.connections)))
            await gone(server)


async def test_a_client_that_reads_slowly_is_served() -> None:
    class Patient(GuardedConnection):
        head_s = 0.2
        stalled_s = 5.0

    async with serving(Patient) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST.replace(b"/", b"/much", 1))
        size = 0
        while size < MUCH_MIB << 20:
            part = await within(reader.read(1 << 20))
            assert part
            size += len(part)
            await asyncio.sleep(0.005)
        writer.close()


LONG = b"POST /%b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%b\r\n"


async def status_of(reader: asyncio.StreamReader) -> bytes:
    head = await within(reader.readuntil(b"\r\n\r\n"))
    await within(reader.readuntil(b"0\r\n\r\n"))
    return bytes(head.split()[1])


@pytest.mark.parametrize("more", [b"", b"connection: close\r\n"])
async def test_who_sends_all_before_they_read_finds_the_answer(more: bytes) -> None:
    size = 32 << 20

    def send() -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(20)
            client.sendall(LONG % (b"refused", size, more))
            for _ in range(size // (1 << 16)):
                client.sendall(bytes(1 << 16))
            return client.recv(1 << 16)

    async with serving(GuardedConnection) as (_, port):
        assert b"HTTP/1.1 200" in await asyncio.to_thread(send)


async def test_after_the_rest_of_a_body_comes_the_next_request() -> None:
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(LONG % (b"", 4, b"") + b"ab")
            assert await status_of(reader) == b"200"
            writer.write(b"cd")
        writer.write(REQUEST)
        assert await status_of(reader) == b"200"
        (connection,) = server.server_state.connections
        assert isinstance(connection, GuardedConnection)
        assert connection._rest is None
        assert connection.timeout_keep_alive_task is not None, "nobody holds a connection by never asking again"
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"x"])
async def test_a_body_that_does_not_end_after_its_answer_ends_the_connection(sent: bytes) -> None:
    class Short(Hasty):
        rest_s = 0.2

    async with serving(Short) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LONG % (b"", 1 << 20, b""))
        assert await status_of(reader) == b"200"
        writer.write(sent)
        assert await within(reader.read()) == b""
        writer.close()
        await gone(server)


async def test_only_so_much_is_dropped() -> None:
    class Narrow(Hasty):
        rest_s = 600.0
        rest_bytes = 1 << 20

    async with serving(Narrow) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LONG % (b"", 1 << 40, b""))
        assert await status_of(reader) == b"200"
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(1 << 16))
                await within(writer.drain())
        writer.close()
        await gone(server)
