"""The logs and artifacts of one server, put together for what it is: alone, one of several, with a shared store."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from cador.domain.errors import CadorError
from cador.ports.blobs import BlobStore
from cador.ports.logs import LogStore
from cador.ports.stores import Database
from cador.ports.wire import Key
from cador.storage.blobs import LocalBlobs
from cador.storage.logs import FileLogs
from cador.storage.objects import Objects
from cador.storage.peer_files import PeerFiles
from cador.storage.replica_files import PAUSE_S, Homes, ReplicaBlobs, ReplicaLogs
from cador.storage.shared_blobs import SharedBlobs, StoredBlobs
from cador.storage.shared_logs import SharedLogs
from cador.storage.uploads import Uploads

log = structlog.get_logger(__name__)

TIDY_S: Final = 6 * 3600.0
LEFT_S: Final = 3600.0
FLUSH_S: Final = 1.5
"""How long a server that goes copies what the store does not have yet; the rest it copies when it comes back."""


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """``own_logs``, ``own_blobs``: for the engine; ``logs``, ``blobs``: for readers, of all servers; ``disk_logs``,
    ``disk_blobs``: what lies here, for the other servers; ``home``: name of the data folder, ``""`` when alone."""

    own_logs: LogStore
    own_blobs: BlobStore
    logs: LogStore
    blobs: BlobStore
    disk_logs: FileLogs
    disk_blobs: LocalBlobs
    home: str
    uploads: Uploads | None = None
    shared: SharedLogs | None = None
    homes: Homes | None = None

    async def keep(self) -> None:
        """Copy to the shared store and remove what other servers took over, until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self.uploads is not None and self.shared is not None:
                group.create_task(self.uploads.run())
                group.create_task(self.shared.run())
            if self.homes is not None and self.home:
                group.create_task(self._tidy(self.homes))

    async def _tidy(self, homes: Homes) -> None:
        while True:
            try:
                await self.tidy(homes, time.time() - LEFT_S)
            except (OSError, CadorError) as error:
                log.warning("left_overs_not_removed", error=repr(error))
            await asyncio.sleep(TIDY_S)

    async def tidy(self, homes: Homes, before: float) -> None:
        """Remove beginnings of logs, not touched since *before*, that another server went on with: nobody reads them
        here any more, and no task that goes takes them along."""
        for name in await asyncio.to_thread(lambda: list(self.disk_logs.left_over(before))):
            held = await homes.find(name)
            if held is None or held.home not in ("", self.home):
                await asyncio.to_thread(self.disk_logs.discard, name)

    async def flush(self) -> None:
        """Before the server goes: copy what grows, if that is quick."""
        if self.shared is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self.shared.flush()

    async def store_problem(self) -> str | None:
        """What is wrong with the shared store, in one line."""
        found = self.uploads.figures() if self.uploads is not None else None
        if found is None or not found.error:
            return None
        return f"{found.error} ({found.pending} waiting, the oldest for {found.oldest_s:.0f} s)"


def server_files(
    data: Path,
    *,
    clock: Callable[[], float],
    max_log_bytes: int,
    db: Database,
    home: str = "",
    key: Key | None = None,
    objects: Objects | None = None,
    pause_s: float = PAUSE_S,
) -> ServerFiles:
    """*data*: the data folder; *home*, *key*: its name and the key of all servers, when there are several; *objects*:
    the shared store; *pause_s*: see :class:`ReplicaLogs`. To be called on the event loop; reads the disk."""
    # Who may have to replay the whole output of a job that another server began needs all of it.
    disk_logs = FileLogs(
        data / "logs", clock=clock, max_bytes=max_log_bytes, keep_output=bool(home) and objects is None
    )
    disk_blobs = LocalBlobs(data / "blobs")
    if not home and objects is None:
        return ServerFiles(disk_logs, disk_blobs, disk_logs, disk_blobs, disk_logs, disk_blobs, home)
    homes = Homes(db, home)
    peers = PeerFiles(key, clock=clock) if home and key is not None else None
    if objects is None:
        logs = ReplicaLogs(disk_logs, disk_logs, homes, peers, None, pause_s=pause_s)
        blobs = ReplicaBlobs(disk_blobs, homes, peers, None)
        return ServerFiles(disk_logs, disk_blobs, logs, blobs, disk_logs, disk_blobs, home, homes=homes)
    uploads = Uploads(objects, data, wanted=homes.wants if home else None)
    shared = SharedLogs(disk_logs, objects, uploads, max_bytes=max_log_bytes)
    shared_blobs = SharedBlobs(disk_blobs, uploads)
    return ServerFiles(
        own_logs=shared,
        own_blobs=shared_blobs,
        logs=ReplicaLogs(shared, disk_logs, homes, peers, shared.stored, pause_s=pause_s),
        blobs=ReplicaBlobs(shared_blobs, homes, peers, StoredBlobs(objects)),
        disk_logs=disk_logs,
        disk_blobs=disk_blobs,
        home=home,
        uploads=uploads,
        shared=shared,
        homes=homes,
    )
