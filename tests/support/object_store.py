"""Shared stores for tests: a folder, and S3 as moto speaks it, on a port of this host."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from cador.storage.objects import Objects, open_objects
from cador.storage.uploads import Uploads

__all__ = ["S3Server", "drained", "objects", "s3_server", "until"]

DEADLINE_S = 20.0


class S3Server:
    """``stop`` and ``start`` again on the same port: the store is away meanwhile, and keeps what it has."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._port = 0
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    def bucket(self, name: str) -> str:
        httpx2.put(f"{self.endpoint}/{name}", trust_env=False).raise_for_status()
        return f"s3://{name}/some prefix"

    def open(self, url: str) -> Objects:
        return open_objects(url, endpoint=self.endpoint, access_key_id="key", secret_access_key="secret")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty store, of each kind."""
    if request.param == "folder":
        folder = tmp_path / "shared store"
        folder.mkdir()
        return open_objects(folder.as_uri())
    server: S3Server = request.getfixturevalue("s3_server")
    return server.open(server.bucket(f"bucket-{time.monotonic_ns()}"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in threads and elsewhere
            await asyncio.sleep(0.005)


async def drained(uploads: Uploads) -> None:
    """Carry out all orders."""
    work = asyncio.create_task(uploads.run())
    try:
        await until(lambda: work.done() or uploads.figures().pending == 0)
        assert not work.done(), work
    finally:
        work.cancel()
        await asyncio.wait([work])
