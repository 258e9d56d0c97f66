"""Logs in a shared store: what one server wrote another one goes on with, whenever the first one went."""

import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cador.ports.logs import LogName
from cador.storage import shared_logs
from cador.storage.log_files import path_of
from cador.storage.log_writer import FULL
from cador.storage.logs import FileLogs
from cador.storage.objects import Objects, StoreAway
from cador.storage.shared_logs import Piece, SharedLogs, chain, pieces_key
from cador.storage.uploads import Uploads
from support.object_store import *  # noqa: F403 - fixtures
from support.object_store import S3Server, drained, until

NAME = LogName("shop/1", 7, "api-build-测试", 2)
STAMP = 24


class Host:
    """The logs of one server: a data folder of its own, the store shared."""

    def __init__(self, folder: Path, objects: Objects, at: float = 1_700_000_000.0, **options: float) -> None:
        folder.mkdir(exist_ok=True)
        self.files = FileLogs(folder / "logs", clock=lambda: at, max_bytes=int(options.pop("max_bytes", 256 << 20)))
        self.uploads = Uploads(objects, folder)
        self.logs = SharedLogs(self.files, objects, self.uploads, **options)  # type: ignore[arg-type]


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %d %s\n" % (number, b"x" * (number % 50)) for number in range(first, last))


def text(data: bytes) -> bytes:
    """Without the stamps."""
    return b"".join(line[STAMP:] for line in data.splitlines(keepends=True))


def whole(logs: FileLogs | SharedLogs) -> bytes:
    return logs.read(NAME, 0, 1 << 30).data


# -- chains ------------------------------------------------------------------------------------------------------------


def test_any_chain_of_pieces_that_fit_is_the_log() -> None:
    def piece(start: int, end: int, of: str = "a") -> Piece:
        return Piece(f"{start}-{end}-{of}", start, end)

    first, second = [piece(0, 10), piece(10, 20), piece(20, 30)], [piece(0, 15, "b"), piece(15, 18, "b")]
    assert chain([*first, *second]) == first
    assert chain([*second, first[0], first[2]]) == second  # 20-30 hangs in the air
    assert chain([piece(5, 10)]) == []
    assert chain([piece(0, 10), piece(0, 20), piece(10, 20), piece(20, 20)]) == [piece(0, 20)]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=30),
    st.randoms(use_true_random=False),
)
def test_a_chain_is_gapless_and_reaches_as_far_as_any(pairs: list[tuple[int, int]], shuffled: random.Random) -> None:
    pieces = [Piece(f"{number}", start, end) for number, (start, end) in enumerate(pairs)]
    reachable = {0}
    for _ in pieces:
        reachable |= {piece.end for piece in pieces if piece.start in reachable and piece.end > piece.start}
    shuffled.shuffle(pieces)
    found = chain(pieces)
    at = 0
    for piece in found:
        assert piece.start == at
        at = piece.end
    assert at == max(reachable)


# -- while it grows ----------------------------------------------------------------------------------------------------


def test_another_server_goes_on_where_the_store_ends(tmp_path: Path, objects: Objects) -> None:
    one, two = Host(tmp_path / "one", objects), Host(tmp_path / "two", objects, at=1_700_005_000.0)
    raw = lines(0, 3000)
    writer = one.logs.open(NAME)
    half = raw.index(b"line 2000 ")
    writer.feed(raw[:half], half)
    assert writer.sync() == 0  # on the disk, but not in the store
    asyncio.run(one.logs.flush())
    assert writer.sync() == half
    writer.feed(raw[half : half + 20_000], half + 20_000)  # never copied: lost with the server
    # the first server is gone
    two.logs.fetch(NAME)
    later = two.logs.open(NAME)
    assert later.raw_offset == half
    assert whole(two.files) == whole(one.files)[: two.files.size(NAME)]
    later.feed(raw[half:], len(raw))
    later.close()
    asyncio.run(drained(two.uploads))
    assert text(whole(two.files)) == raw
    view = two.logs.stored.view(NAME)
    assert view is not None
    assert view.complete
    assert text(view.pread(0, view.size)) == raw
    assert [one.key for one in objects.list(pieces_key(NAME))] == []


def test_small_pieces_are_replaced_by_longer_ones(tmp_path: Path, objects: Objects) -> None:
    host = Host(tmp_path / "one", objects, piece_bytes=10_000)
    writer = host.logs.open(NAME)
    at = 0
    for number in range(40):
        raw = lines(number * 10, number * 10 + 10)
        at += len(raw)
        writer.feed(raw, at)
        asyncio.run(host.logs.flush())
    stored = list(objects.list(pieces_key(NAME)))
    assert len(stored) <= 1 + host.files.size(NAME) // 10_000
    assert host.logs.stored.state(NAME).size == host.files.size(NAME)  # type: ignore[union-attr]
    assert text(host.logs.stored.read(NAME, 0, 1 << 20).data) == lines(0, 400)  # type: ignore[union-attr]


def test_pieces_are_copied_by_size_and_by_age(tmp_path: Path, objects: Objects) -> None:
    async def play() -> None:
        host = Host(tmp_path / "one", objects, piece_age_s=3600.0, piece_bytes=5_000, tick_s=0.01)
        work = asyncio.create_task(host.logs.run())
        writer = host.logs.open(NAME)
        writer.feed(b"small\n", 6)
        other = LogName("shop", 7, "other", 1)
        big = host.logs.open(other)
        big.feed(b"x" * 9_999 + b"\n", 10_000)
        await until(lambda: big.sync() == 10_000)
        assert writer.sync() == 0
        work.cancel()
        old = Host(tmp_path / "two", objects, piece_age_s=0.0, tick_s=0.01)
        work = asyncio.create_task(old.logs.run())
        aged = old.logs.open(NAME)
        aged.feed(b"small\n", 6)
        # nobody calls sync: an old line is made durable and copied by itself
        await until(lambda: (state := old.logs.stored.state(NAME)) is not None and state.size == 6 + STAMP)
        work.cancel()

    asyncio.run(play())


def test_a_large_backlog_is_copied_in_several_pieces(tmp_path: Path, objects: Objects) -> None:
    host = Host(tmp_path / "one", objects)
    writer = host.logs.open(NAME)
    raw = lines(0, 200_000)
    for at in range(0, len(raw), 1 << 16):
        writer.feed(raw[at : at + (1 << 16)], min(len(raw), at + (1 << 16)))
    asyncio.run(host.logs.flush())
    pieces = host.logs.stored.pieces(NAME)
    assert len(pieces) > 2
    assert max(piece.end - piece.start for piece in pieces) <= shared_logs.LARGEST_PIECE_BYTES
    assert host.logs.stored.tail_offset(NAME, 3) == host.files.tail_offset(NAME, 3)
    host.logs.stored.read(NAME, host.files.size(NAME) - 10, 100)
    other = Host(tmp_path / "two", objects)
    other.logs.fetch(NAME)
    assert whole(other.files) == whole(host.files)
    assert other.logs.open(NAME).raw_offset == len(raw)


output = st.lists(
    st.sampled_from([b"a", b"word ", b"\n", b"hunter2hunter2", b"x" * 90, "汉\n".encode(), b"\r\n", b"\xff"]),
    min_size=10,
    max_size=80,
).map(b"".join)
acts = st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["sync", "flush", "both", ""])), min_size=1, max_size=4)
lives = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([50, 5_000]), acts), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(raw=output, limit=st.sampled_from([100_000, 300]), lives=lives)
def test_whoever_goes_on_nothing_is_lost_or_told_twice(
    tmp_path_factory: pytest.TempPathFactory,
    raw: bytes,
    limit: int,
    lives: list[tuple[int, int, list[tuple[int, str]]]],
) -> None:
    """Servers follow one another: each reads some output, copies some, and dies; the next one may be an earlier one,
    whose folder holds an older state. The raw output is given back up to the safe offset, as the executor does."""
    from obstore.store import MemoryStore

    tmp_path = tmp_path_factory.mktemp("take-over")
    memory = MemoryStore()
    objects = Objects(memory, memory)
    secret = ("hunter2hunter2",)
    reference = FileLogs(tmp_path / "reference", clock=lambda: 0.0, max_bytes=limit, line_limit=64)
    alone = reference.open(NAME, secret)
    alone.feed(raw, len(raw))
    alone.close()
    given_back = 0
    loop = asyncio.new_event_loop()
    for number, piece_bytes, life in [*lives, (3, 50, [])]:
        host = Host(tmp_path / f"host{number}", objects, max_bytes=limit, piece_bytes=piece_bytes)
        host.files._line_limit = 64
        host.logs.fetch(NAME)
        writer = host.logs.open(NAME, secret)
        full = host.files.writer(NAME)._flags & FULL  # type: ignore[union-attr]
        assert writer.raw_offset >= given_back or full, "what is needed was given back"
        at = writer.raw_offset
        for step, act in life:
            writer.feed(raw[at : at + step], min(len(raw), at + step))
            at = min(len(raw), at + step)
            if act in ("flush", "both"):
                loop.run_until_complete(host.logs.flush())
            if act in ("sync", "both"):
                given_back = max(given_back, writer.sync())
    loop.close()
    writer.feed(raw[writer.raw_offset :], len(raw))
    stored = host.logs.stored.read(NAME, 0, 1 << 20)
    joined = text(stored.data) if stored is not None else b""
    joined += text(whole(host.files)[stored.end if stored is not None else 0 :])
    writer.close()
    assert text(whole(host.files)) == text(whole(reference))
    # pieces of whichever server and what is here fit together at every moment; an open last line comes at the end
    assert text(whole(reference)).startswith(joined)


# -- when the store is away --------------------------------------------------------------------------------------------


def test_the_job_goes_on_while_the_store_is_away(tmp_path: Path, s3_server: S3Server) -> None:
    async def play() -> None:
        objects = s3_server.open(s3_server.bucket("outage"))
        host = Host(tmp_path / "one", objects, piece_bytes=10, tick_s=0.01)
        work = [asyncio.create_task(host.logs.run()), asyncio.create_task(host.uploads.run())]
        writer = host.logs.open(NAME)
        s3_server.stop()
        try:
            raw = lines(0, 500)
            writer.feed(raw, len(raw))
            await until(lambda: host.uploads.health.error != "")
            assert writer.sync() == 0
            writer.close()
            assert text(whole(host.files)) == raw
            assert host.uploads.figures().pending == 1
            with pytest.raises(StoreAway):
                host.logs.stored.state(NAME)
        finally:
            s3_server.start()
        await until(lambda: host.uploads.figures().pending == 0)
        assert host.uploads.health.error == ""
        for one in work:
            one.cancel()
        view = host.logs.stored.view(NAME)
        assert view is not None
        assert text(view.pread(0, view.size)) == raw

    asyncio.run(play())


def test_a_server_that_dies_with_orders_carries_them_out_later(tmp_path: Path, objects: Objects) -> None:
    host = Host(tmp_path / "one", objects)
    writer = host.logs.open(NAME)
    writer.feed(b"hello\n", 6)
    asyncio.run(host.logs.flush())
    writer.close()
    (tmp_path / "one" / "uploads" / "9999999999999999").write_bytes(b'{"kind": "p')  # torn
    again = Host(tmp_path / "one", objects)
    assert again.uploads.figures().pending == 1
    asyncio.run(drained(again.uploads))
    assert again.logs.stored.state(NAME).complete  # type: ignore[union-attr]
    assert Host(tmp_path / "one", objects).uploads.figures().pending == 0


def test_orders_that_were_overtaken_are_dropped(tmp_path: Path, objects: Objects) -> None:
    host = Host(tmp_path / "one", objects)
    host.logs.open(NAME).close()

    async def unwanted(order: object) -> bool:
        return False

    later = Uploads(objects, tmp_path / "one", wanted=unwanted)
    asyncio.run(drained(later))
    assert list(objects.list("logs")) == []


def test_a_flood_is_given_back_though_the_store_is_away(tmp_path: Path, objects: Objects) -> None:
    host = Host(tmp_path / "one", objects)
    host.logs._max_bytes = 1_000
    writer = host.logs.open(NAME)
    raw = lines(0, 100)
    writer.feed(raw, len(raw))
    assert len(raw) > 2_000
    assert writer.sync() == raw.rindex(b"\n") + 1


def test_a_full_log_needs_no_more_of_the_output(tmp_path: Path, objects: Objects) -> None:
    host = Host(tmp_path / "one", objects, max_bytes=2_000)
    writer = host.logs.open(NAME)
    raw = lines(0, 100)
    writer.feed(raw, len(raw))
    asyncio.run(host.logs.flush())
    writer.feed(raw, 2 * len(raw))
    assert writer.sync() == 2 * len(raw)
    other = Host(tmp_path / "two", objects, max_bytes=2_000)
    other.logs.fetch(NAME)
    assert whole(other.files) == whole(host.files)
    again = other.logs.open(NAME)
    again.feed(b"more\n", 2 * len(raw) + 5)
    assert whole(other.files) == whole(host.files)


def test_what_cannot_be_fetched_is_replayed_and_not_mixed_in(tmp_path: Path, s3_server: S3Server) -> None:
    objects = s3_server.open(s3_server.bucket("unfetched"))
    one, two = Host(tmp_path / "one", objects), Host(tmp_path / "two", objects)
    first = one.logs.open(NAME)
    first.feed(b"one\ntwo\n", 8)
    asyncio.run(one.logs.flush())
    s3_server.stop()
    try:
        two.logs.fetch(NAME)
    finally:
        s3_server.start()
    writer = two.logs.open(NAME)
    assert writer.raw_offset == 0
    writer.feed(b"wo\n", 8)  # the rest of the output, as the executor kept it
    asyncio.run(two.logs.flush())
    assert [piece.end for piece in two.logs.stored.pieces(NAME)] == [2 * STAMP + 8]
    writer.close()
    asyncio.run(drained(two.uploads))
    assert two.logs.stored.state(NAME).complete  # type: ignore[union-attr]


# -- other ends --------------------------------------------------------------------------------------------------------


def test_a_new_run_of_an_attempt_goes_on_with_the_log(tmp_path: Path, objects: Objects) -> None:
    one, two = Host(tmp_path / "one", objects), Host(tmp_path / "two", objects)
    first = one.logs.open(NAME)
    first.feed(b"first run, longer\n", 18)
    asyncio.run(one.logs.flush())
    two.logs.fetch(NAME)
    second = two.logs.open(NAME, (), 1)
    assert second.raw_offset == 0
    second.feed(b"second\n", 7)
    assert second.sync() == 0
    asyncio.run(two.logs.flush())
    assert second.sync() == 7
    one.logs.fetch(NAME)  # the first server again: its own state is older
    third = one.logs.open(NAME, (), 1)
    assert third.raw_offset == 7
    third.feed(b"second\nend\n", 11)
    third.close()
    assert text(whole(one.files)) == b"first run, longer\nsecond\nend\n"


def test_a_log_sealed_by_a_server_that_died_then_is_taken_over_complete(tmp_path: Path, objects: Objects) -> None:
    one, two = Host(tmp_path / "one", objects), Host(tmp_path / "two", objects)
    writer = one.logs.open(NAME)
    writer.feed(b"all\n", 4)
    writer.close()
    asyncio.run(drained(one.uploads))
    two.logs.fetch(NAME)
    assert two.files.complete(NAME)
    again = two.logs.open(NAME)
    assert again.raw_offset == 4
    again.close()
    asyncio.run(drained(two.uploads))
    assert text(whole(two.files)) == b"all\n"


def test_a_deleted_log_leaves_nothing_in_the_store(tmp_path: Path, objects: Objects) -> None:
    host = Host(tmp_path / "one", objects)
    for attempt in (1, 2):
        name = LogName(NAME.workflow, NAME.task, NAME.job, attempt)
        writer = host.logs.open(name)
        writer.feed(b"text\n", 5)
        asyncio.run(host.logs.flush())
        if attempt == 1:
            writer.close()
    neighbour = LogName(NAME.workflow, 77, NAME.job, 1)
    host.logs.open(neighbour).close()
    host.logs.delete(NAME.workflow, NAME.task)
    writer.close()
    asyncio.run(drained(host.uploads))
    assert [one.key.split("/")[2] for one in objects.list("logs")] == ["77"]
    assert not path_of(tmp_path / "one" / "logs", NAME).parent.exists()


def test_a_damaged_piece_is_left_out(tmp_path: Path, objects: Objects) -> None:
    host = Host(tmp_path / "one", objects)
    writer = host.logs.open(NAME)
    writer.feed(b"text\n", 5)
    asyncio.run(host.logs.flush())
    asyncio.run(objects.put(f"{pieces_key(NAME)}/{29:012x}-{99:012x}-bad", b"nonsense"))
    asyncio.run(objects.put(f"{pieces_key(NAME)}/what is this", b""))
    other = Host(tmp_path / "two", objects)
    other.logs.fetch(NAME)
    assert whole(other.files) == whole(host.files)
    assert text(host.logs.stored.read(NAME, 0, 1000).data) == b"text\n"  # type: ignore[union-attr]
