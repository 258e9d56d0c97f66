"""Logs and artifacts of all servers of one database, wherever they are: for readers.

The row of an attempt names the data folder that holds what it left. Whose folder that is reads its own disk; the
others ask the server that is on it now and, when it is away, the shared store.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Final, Protocol, TypeVar

import structlog

from cador.domain.errors import NotFound, Unavailable
from cador.ports.blobs import Blob, BlobStore
from cador.ports.homes import Holding
from cador.ports.logs import LogAway, LogChunk, LogName, LogState, LogStore, LogWriter
from cador.ports.stores import Database, Tx
from cador.ports.wire import PeerAway
from cador.storage.log_files import Moved
from cador.storage.objects import StoreAway
from cador.storage.peer_files import PeerFiles
from cador.storage.shared_blobs import StoredBlobs
from cador.storage.shared_logs import StoredLogs
from cador.storage.uploads import Order

log = structlog.get_logger(__name__)
R = TypeVar("R")
Held = dict[str, list[Holding]]

ASK_S: Final = 10.0
KNOWN_S: Final = 0.25
"""For how long readers of one log share what the database said about it."""
PAUSE_S: Final = 0.1
PATIENCE: Final = 8
"""Pauses, of some seconds together, before a log that has ended and is nowhere to be had is given up."""
READERS: Final = 8
_KNOWN: Final = 1_000
_BLOBS: Final = "tasks"


class Disk(Protocol):
    """The logs on this server's own disk."""

    def state(self, name: LogName) -> LogState | None: ...

    def tail_offset(self, name: LogName, lines: int) -> int: ...

    def read(self, name: LogName, start: int, limit: int) -> LogChunk: ...

    def follow(
        self, name: LogName, start: int, *, chunk: int = 65_536, written_here: bool = False
    ) -> AsyncIterator[LogChunk]: ...


class Homes:
    """Asks the database who holds what. To be made on the event loop."""

    def __init__(self, db: Database, home: str) -> None:
        """*home*: of this server."""
        self.home = home
        self._db = db
        self._loop = asyncio.get_running_loop()
        self._known: dict[LogName, tuple[float, asyncio.Future[Holding | None]]] = {}

    async def find(self, name: LogName) -> Holding | None:
        """Who holds a log. Readers that ask at the same time share the answer. Raises: Unavailable."""
        now = self._loop.time()
        known = self._known.get(name)
        if known is not None and (now - known[0] < KNOWN_S or not known[1].done()):
            return await asyncio.shield(known[1])
        if len(self._known) >= _KNOWN:
            self._known = {name: held for name, held in self._known.items() if now - held[0] < KNOWN_S}
        asked = asyncio.ensure_future(self._db.read(_find, name))
        self._known[name] = (now, asked)
        return await asyncio.shield(asked)

    async def of_task(self, workflow: str, number: int) -> list[Holding]:
        return await self._db.read(_of_task, workflow, number)

    async def addresses(self) -> dict[str, str]:
        return await self._db.read(_addresses)

    async def wants(self, order: Order) -> bool:
        """Whether what an earlier process was to copy is still to be copied: no other server left something newer."""
        workflow, number, job, attempt = order.about
        if not job:
            return True
        for one in await self.of_task(workflow, number):
            if one.job == job and (one.attempt == attempt if attempt else one.ended):
                return one.home in ("", self.home)
        return False

    def wait(self, asked: Callable[[], Awaitable[R]]) -> R:
        """The same from another thread. Raises: Unavailable."""

        async def ask() -> R:
            return await asked()

        try:
            future: Future[R] = asyncio.run_coroutine_threadsafe(ask(), self._loop)
            return future.result(ASK_S)
        except (TimeoutError, CancelledError, RuntimeError) as error:  # RuntimeError: the loop has ended
            raise Unavailable("the database does not answer") from error


class ReplicaLogs:
    """Implements ``ports.logs.LogStore`` for readers; writes through to this server's own logs."""

    def __init__(
        self,
        own: LogStore,
        disk: Disk,
        homes: Homes,
        peers: PeerFiles | None,
        stored: StoredLogs | None,
        *,
        pause_s: float = PAUSE_S,
    ) -> None:
        """*own*: where this server writes; *disk*: what of it lies here. *pause_s*: before a stream looks again where
        its log is; up to ten times as long when it was not found."""
        self._pause_s = pause_s
        self._own, self._disk, self._homes, self._peers, self._stored = own, disk, homes, peers, stored
        self._pool = ThreadPoolExecutor(READERS, "follow")

    def open(self, name: LogName, secrets: tuple[str, ...] = (), run: int = 0) -> LogWriter:
        return self._own.open(name, secrets, run)

    def fetch(self, name: LogName) -> bool:
        return self._own.fetch(name)

    def delete(self, workflow: str, task: int) -> None:
        self._own.delete(workflow, task)

    # -- in threads

    def state(self, name: LogName) -> LogState | None:
        return self._first(
            name,
            lambda: self._disk.state(name),
            lambda peers, address, home: peers.log_state(address, home, name),
            lambda stored: stored.state(name),
            lambda found, home: replace(found, complete=False, away=home or "a server"),
        )

    def size(self, name: LogName) -> int:
        state = self.state(name)
        return state.size if state is not None else 0

    def exists(self, name: LogName) -> bool:
        return self.state(name) is not None

    def complete(self, name: LogName) -> bool:
        state = self.state(name)
        return state is not None and state.complete

    def tail_offset(self, name: LogName, lines: int) -> int:
        found = self._first(
            name,
            lambda: self._disk.tail_offset(name, lines) if self._disk.state(name) is not None else None,
            lambda peers, address, home: peers.log_tail(address, home, name, lines),
            lambda stored: stored.tail_offset(name, lines),
        )
        return found if found is not None else 0

    def read(self, name: LogName, start: int, limit: int) -> LogChunk:
        found = self._first(
            name,
            lambda: self._disk.read(name, start, limit) if self._disk.state(name) is not None else None,
            lambda peers, address, home: peers.log_read(address, home, name, start, limit),
            lambda stored: stored.read(name, start, limit),
        )
        return found if found is not None else LogChunk(start, start, b"", last=False)

    def _first(
        self,
        name: LogName,
        disk: Callable[[], R | None],
        peer: Callable[[PeerFiles, str, str], R | None],
        stored: Callable[[StoredLogs], R | None],
        in_part: Callable[[R, str], R] = lambda found, home: found,
    ) -> R | None:
        """The answer of the first place that has the log. *in_part*: makes of the disk's the answer when the rest is
        on a server that is away. Raises: LogAway: none has it, and one could not be asked."""
        held = self._homes.wait(lambda: self._homes.find(name))
        home = held.home if held is not None else ""
        away = False
        if home in ("", self._homes.home):
            found = disk()
            if found is not None:
                return found
        if self._peers is not None:
            try:
                for address, asked in self._to_ask(held):
                    found = peer(self._peers, address, asked)
                    if found is not None:
                        return found
            except PeerAway as error:
                log.info("peer_away", home=home, error=str(error))
                away = True
        away = away or (home not in ("", self._homes.home) and held is not None and not held.address)
        if self._stored is not None:
            try:
                found = stored(self._stored)
                if found is not None:
                    return found
            except StoreAway as error:
                log.info("store_away", error=str(error))
                away = True
        if not away:
            return None
        # A part that another server took over from here is better than nothing.
        found = disk()
        if found is not None:
            return in_part(found, home)
        raise LogAway(name, home)

    def _to_ask(self, held: Holding | None) -> Iterable[tuple[str, str]]:
        if held is None or held.home == self._homes.home:
            return ()
        if held.home:
            return ((held.address, held.home),) if held.address else ()
        others = self._homes.wait(self._homes.addresses)
        return tuple((address, home) for home, address in others.items() if home != self._homes.home)

    # -- on the event loop

    async def follow(self, name: LogName, start: int, *, chunk: int = 65_536) -> AsyncIterator[LogChunk]:
        """Chunks from *start* until the log is complete. When its server goes, the stream goes on with what the one
        that takes over writes, or with the store, from the same offset.

        Raises: LogAway: the attempt is over and its log cannot be had.
        """
        offset, patience, pause_s = max(0, start), PATIENCE, self._pause_s
        while True:
            before = offset
            try:
                held = await self._homes.find(name)
            except Unavailable:
                await asyncio.sleep(10 * self._pause_s)
                continue
            if held is None:
                yield LogChunk(offset, offset, b"", last=True)  # deleted
                return
            reached = False
            for source in self._sources(held, name, chunk):
                try:
                    async for piece in source(offset):
                        offset = piece.end
                        yield piece
                        if piece.last:
                            return
                except (PeerAway, StoreAway, Moved) as error:
                    log.debug("log_source_away", home=held.home, error=str(error))
                else:
                    reached = True
                if offset != before:
                    break
            if offset != before:
                patience, pause_s = PATIENCE, self._pause_s
                continue
            if held.ended:
                patience -= 1
                if patience <= 0:
                    if reached:
                        yield LogChunk(offset, offset, b"", last=True)  # nobody completed it: its job was lost
                        return
                    raise LogAway(name, held.home)
            await asyncio.sleep(pause_s)
            pause_s = min(10 * self._pause_s, 1.5 * pause_s)

    def _sources(self, held: Holding, name: LogName, chunk: int) -> Iterator[Callable[[int], AsyncIterator[LogChunk]]]:
        """Where to follow a log, best first."""
        if held.home in ("", self._homes.home):
            yield lambda offset: self._disk.follow(name, offset, chunk=chunk, written_here=True)
        elif self._peers is not None and held.address:
            peers = self._peers
            yield lambda offset: peers.follow(held.address, held.home, name, offset, chunk=chunk)
        if self._stored is not None:
            stored = self._stored
            yield lambda offset: self._follow_stored(stored, name, offset, chunk)

    async def _follow_stored(
        self, stored: StoredLogs, name: LogName, offset: int, chunk: int
    ) -> AsyncIterator[LogChunk]:
        """What the store has from *offset* on."""
        loop = asyncio.get_running_loop()
        while True:
            piece = await loop.run_in_executor(self._pool, stored.read, name, offset, chunk)
            if piece is None:
                raise StoreAway("not in the store")
            if piece.data or piece.last:
                yield piece
            if piece.last or not piece.data:
                return
            offset = piece.end


class ReplicaBlobs:
    """Implements ``ports.blobs.BlobStore`` for readers; writes through to this server's own blobs.

    What a job task left is where its newest attempt that is over ran, and that left something.
    """

    def __init__(self, own: BlobStore, homes: Homes, peers: PeerFiles | None, stored: StoredBlobs | None) -> None:
        self._own, self._homes, self._peers, self._stored = own, homes, peers, stored

    def put_bytes(self, key: str, data: bytes) -> None:
        self._own.put_bytes(key, data)

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> int:
        return self._own.put_stream(key, chunks)

    def delete(self, prefix: str) -> None:
        self._own.delete(prefix)

    def size(self, key: str) -> int:
        return self._of_key(
            key, self._own.size, lambda peers, at, home: peers.blob_size(at, home, key), StoredBlobs.size
        )

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except NotFound:
            return False
        return True

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if length is None:
            return b"".join(self.stream(key, start, chunk=1 << 20))
        return b"".join(self._pieces(key, max(0, start), max(0, start) + max(0, length), 1 << 20))

    def stream(self, key: str, start: int = 0, length: int | None = None, *, chunk: int = 65_536) -> Iterator[bytes]:
        end = self.size(key)
        if length is not None:
            end = min(end, max(0, start) + max(0, length))
        return self._pieces(key, max(0, start), end, chunk)

    def _pieces(self, key: str, start: int, end: int, chunk: int) -> Iterator[bytes]:
        while start < end:
            data = self._piece(key, start, min(chunk, end - start))
            if not data:
                return
            yield data
            start += len(data)

    def _piece(self, key: str, start: int, length: int) -> bytes:
        return self._of_key(
            key,
            lambda key: self._own.read(key, start, length),
            lambda peers, at, home: peers.blob_read(at, home, key, start, length),
            lambda stored, key: stored.read(key, start, length),
        )

    def list(self, prefix: str) -> Iterator[Blob]:
        """Of a task, or of one of its job tasks; of anything else what is here.

        Raises: Unavailable: some of it is on a server that is away.
        """
        parts = prefix.split("/")
        if len(parts) < 3 or parts[0] != _BLOBS or not parts[2].isdecimal():
            return self._own.list(prefix)
        held = self._held(parts[1], int(parts[2]))
        if len(parts) > 3:
            return iter(self._of_job(prefix, held.get(parts[3], ())))
        found = [self._of_job(f"{prefix}/{job}", homes) for job, homes in held.items()]
        return iter(sorted(itertools.chain.from_iterable(found), key=lambda blob: blob.key))

    def _held(self, workflow: str, number: int) -> Held:
        """By job task, newest attempt first: where it may have left something."""
        held: Held = {}
        for one in self._homes.wait(lambda: self._homes.of_task(workflow, number)):
            if not one.ended:
                continue
            before = held.setdefault(one.job, [])
            if one.home not in [known.home for known in before]:
                before.append(one)
        return held

    def _of_job(self, prefix: str, held: Sequence[Holding]) -> Sequence[Blob]:
        away: Unavailable | None = None
        for one in held:
            try:
                if one.home in ("", self._homes.home):
                    found = list(self._own.list(prefix))
                elif self._peers is not None and one.address:
                    found = self._peers.blob_list(one.address, one.home, prefix)
                else:
                    raise PeerAway("its server is away")
            except PeerAway as error:
                away = _away(one, error)
                continue
            if found:
                return found
        return self._from_store(lambda stored: stored.list(prefix) or None, away) or ()

    def _of_key(
        self,
        key: str,
        own: Callable[[str], R],
        peer: Callable[[PeerFiles, str, str], R | None],
        stored: Callable[[StoredBlobs, str], R],
    ) -> R:
        parts = key.split("/")
        if len(parts) < 4 or parts[0] != _BLOBS or not parts[2].isdecimal():
            return own(key)
        away: Unavailable | None = None
        for one in self._held(parts[1], int(parts[2])).get(parts[3], ()):
            try:
                if one.home in ("", self._homes.home):
                    return own(key)
                if self._peers is None or not one.address:
                    raise PeerAway("its server is away")
                found = peer(self._peers, one.address, one.home)
            except NotFound:
                continue
            except PeerAway as error:
                away = _away(one, error)
                continue
            if found is not None:
                return found
        try:
            found = self._from_store(lambda there: stored(there, key), away)
        except NotFound:
            if away is not None:
                raise away from None
            raise
        if found is None:
            raise NotFound("artifact", key)
        return found

    def _from_store(self, ask: Callable[[StoredBlobs], R], away: Unavailable | None) -> R | None:
        found: R | None = None
        if self._stored is not None:
            try:
                found = ask(self._stored)
            except StoreAway as error:
                away = away or Unavailable(f"the shared store is away: {error}")
        if found is None and away is not None:
            raise away
        return found


def _away(held: Holding, error: Exception) -> Unavailable:
    log.info("peer_away", home=held.home, error=str(error))
    return Unavailable(f"what {held.job} left is on {held.home}, which is away")


def _find(tx: Tx, name: LogName) -> Holding | None:
    return tx.homes.find(name.workflow, name.task, name.job, name.attempt)


def _of_task(tx: Tx, workflow: str, number: int) -> list[Holding]:
    return tx.homes.of_task(workflow, number)


def _addresses(tx: Tx) -> dict[str, str]:
    return tx.homes.addresses()
