import asyncio
import io
import os
import threading
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cador.ports.logs import LogChunk, LogName
from cador.storage.log_files import FRAME_BYTES, encode_name, path_of, read_index
from cador.storage.log_writer import FileLogWriter, StaleWriter
from cador.storage.logs import FileLogs
from support.virtual_loop import run

NOON = 1_700_000_000.0
STAMP = 24
NAME = LogName("shop", 7, "api-api-build", 1)


def make(root: Path, **options: int) -> FileLogs:
    return FileLogs(root, clock=lambda: NOON, **options)


def whole(logs: FileLogs, name: LogName = NAME, limit: int = 65_536) -> bytes:
    """The log as a reader pages through it, each page checked."""
    parts, at = [], 0
    while True:
        chunk = logs.read(name, at, limit)
        assert (chunk.start, chunk.end) == (at, at + len(chunk.data))
        assert chunk.data.endswith(b"\n") or not chunk.data
        parts.append(chunk.data)
        at = chunk.end
        if chunk.last or not chunk.data:
            return b"".join(parts)


def texts(log: bytes) -> list[str]:
    """The lines without their stamps."""
    lines = log.decode().split("\n")
    assert lines.pop() == ""
    assert all(line[:1] == "[" and line[20:STAMP] == "]   " for line in lines)
    return [line[STAMP:] for line in lines]


def feed_all(writer, raw: bytes, cuts: list[int]) -> None:
    at = writer.raw_offset
    for cut in [*sorted(cut for cut in cuts if cut > at), len(raw)]:
        writer.feed(raw[at:cut], cut)
        at = cut


# -- lines -----------------------------------------------------------------------------------------------------------


def test_lines_are_stamped_in_local_time_when_they_are_read(tmp_path: Path) -> None:
    times = [1_700_000_000.0]
    logs = FileLogs(tmp_path, clock=lambda: times[0])
    writer = logs.open(NAME)
    writer.feed(b"one\ntw", 6)
    times[0] += 61.9
    writer.feed(b"o\n", 8)
    first, second = (datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S") for at in (NOON, NOON + 61))
    assert whole(logs) == f"[{first}]   one\n[{second}]   two\n".encode()


def test_an_open_line_waits_and_the_end_completes_it(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    writer.feed(b"no newline", 10)
    assert (logs.size(NAME), writer.raw_offset) == (0, 0)
    writer.close()
    assert texts(whole(logs)) == ["no newline"]
    assert logs.complete(NAME)
    assert logs.read(NAME, 0, 100).last


def test_own_lines_end_an_open_line_and_are_masked(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME, ("topsecret",))
    writer.feed(b"compiling", 9)
    writer.line("step done: topsecret\nsecond")
    writer.feed(b" on\nx top", 18)
    writer.line("mark")  # the line that waits may become a secret: it is not torn
    writer.feed(b"secret y\n", 27)
    writer.close()
    assert texts(whole(logs)) == ["compiling", "step done: ********", "second", " on", "x ", "mark", "******** y"]


def test_carriage_returns_stay_and_bad_utf8_is_replaced(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    writer.feed("10%\r20%\r\n\x1b[31m红\x1b[0m\n".encode() + b"a\xff\xe7\xba\nb\n", 31)
    writer.close()
    assert texts(whole(logs)) == ["10%\r20%\r", "\x1b[31m红\x1b[0m", "a\ufffd\ufffd", "b"]


def test_nothing_written_is_an_empty_log(tmp_path: Path) -> None:
    logs = make(tmp_path)
    assert not logs.exists(NAME)
    assert logs.read(NAME, 0, 10) == LogChunk(0, 0, b"", last=False)
    writer = logs.open(NAME)
    assert logs.exists(NAME)
    assert not logs.complete(NAME)
    writer.close()
    assert logs.complete(NAME)
    assert make(tmp_path).read(NAME, 0, 10) == LogChunk(0, 0, b"", last=True)


SECRETS = ("hunter2hunter2", "multi\nline-secret\n", "sec=ret")
raw_output = st.lists(
    st.sampled_from(
        [
            *(b"\n", b"a", b"some words ", b"hunter2", b"hunter2hunter2", b"line-", b"line-secret", b"sec", b"sec=ret"),
            *("汉字".encode(), b"\r", b"https://u:p@h/", b"x" * 70, b"\xff", b"\n\n"),
        ]
    ),
    max_size=60,
).map(b"".join)


@settings(deadline=None, max_examples=150)
@given(raw=raw_output, data=st.data(), limit=st.sampled_from([40, 100, 65_536]))
def test_borders_of_chunks_do_not_show(tmp_path_factory: pytest.TempPathFactory, raw: bytes, data, limit: int) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=20))
    results = []
    for borders in ([], cuts):
        logs = make(tmp_path_factory.mktemp("logs"), line_limit=limit)
        writer = logs.open(NAME, SECRETS)
        feed_all(writer, raw, borders)
        writer.close()
        results.append(whole(logs))
    assert results[0] == results[1]
    assert not [secret for secret in (b"hunter2hunter2", b"line-secret", b"sec=ret", b"u:p") if secret in results[0]]
    if limit == 65_536:
        assert len(texts(results[0])) == raw.count(b"\n") + (not raw.endswith(b"\n") and raw != b"")


@settings(deadline=None, max_examples=150)
@given(raw=raw_output, data=st.data(), limit=st.sampled_from([40, 65_536]), most=st.sampled_from([1_000, 1 << 28]))
def test_a_crash_anywhere_neither_loses_nor_repeats(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, data, limit: int, most: int
) -> None:
    plain = make(tmp_path_factory.mktemp("logs"), line_limit=limit, max_bytes=most)
    writer = plain.open(NAME, SECRETS)
    writer.feed(raw, len(raw))
    writer.close()

    root = tmp_path_factory.mktemp("logs")
    at = 0
    safe = 0
    for what in data.draw(st.lists(st.sampled_from(["feed", "sync", "crash", "leave", "again"]), max_size=30)):
        logs = make(root, line_limit=limit, max_bytes=most)
        writer = logs.open(NAME, SECRETS)
        assert writer.raw_offset >= safe  # what sync promised
        at = writer.raw_offset
        for _ in range(data.draw(st.integers(0, 4))):
            end = data.draw(st.integers(at, len(raw)))
            writer.feed(raw[at:end], end)
            if what == "again":
                writer.feed(raw[at:end], end)
            at = end
            if what == "sync":
                safe = writer.sync()
        writer.leave() if what == "leave" else writer.drop()
    logs = make(root, line_limit=limit, max_bytes=most)
    writer = logs.open(NAME, SECRETS)
    feed_all(writer, raw, [])
    writer.close()
    assert whole(logs) == whole(plain)


# -- limits ----------------------------------------------------------------------------------------------------------


def test_a_huge_line_is_cut_with_a_marker(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME, ("boundary-secret",))
    line = b"x" * (65_536 - 5) + b"boundary-secret" + b"y" * 10_000_000
    raw = b"before\n" + line + b"\nafter\n"
    for at in range(0, len(raw), 300_001):
        writer.feed(raw[at : at + 300_001], min(len(raw), at + 300_001))
    assert writer.raw_offset == len(raw)
    before, cut, after = texts(whole(logs))
    assert (before, after) == ("before", "after")
    assert cut == "x" * (65_536 - 5) + "******** ... [line cut after 65536 bytes]"


def test_a_cut_inside_a_character_leaves_it_out(tmp_path: Path) -> None:
    logs = make(tmp_path, line_limit=100)
    writer = logs.open(NAME)
    raw = b"x" + "汉".encode() * 100 + b"\n"
    writer.feed(raw, len(raw))
    assert texts(whole(logs)) == ["x" + "汉" * 33 + " ... [line cut after 100 bytes]"]


def test_a_flood_is_dropped_after_one_visible_line(tmp_path: Path) -> None:
    logs = make(tmp_path, max_bytes=10_000)
    writer = logs.open(NAME)
    raw = b"".join(b"line %d\n" % number for number in range(100_000))
    feed_all(writer, raw, list(range(0, len(raw), 1_000)))
    writer.line("job failed")
    assert writer.raw_offset == len(raw)
    assert writer.sync() == len(raw)
    *lines, told, own = texts(whole(logs))
    assert lines == [f"line {number}" for number in range(len(lines))]
    assert told == "[log limit of 10000 bytes reached, output is dropped]"
    assert own == "job failed"
    assert 9_900 < logs.size(NAME) < 10_200


def test_an_unwritable_place_loses_nothing_when_it_comes_back(tmp_path: Path) -> None:
    logs = make(tmp_path / "logs")
    (tmp_path / "logs").mkdir()
    blocker = tmp_path / "logs" / "shop"
    writer = logs.open(NAME)
    blocker.write_text("in the way")
    raw = b"".join(b"line %d\n" % number for number in range(20_000))
    writer.feed(raw[:20_000], 20_000)
    with pytest.raises(OSError, match="shop"):
        writer.feed(raw[20_000:60_000], 60_000)
    with pytest.raises(OSError, match="shop"):
        writer.sync()
    blocker.unlink()
    writer.feed(raw[20_000:60_000], 60_000)
    feed_all(writer, raw, [])
    writer.close()
    assert texts(whole(logs)) == [f"line {number}" for number in range(20_000)]


def test_a_close_that_fails_can_be_repeated(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    writer.feed(b"one\n", 4)
    (tmp_path / "shop").write_text("in the way")
    with pytest.raises(OSError, match="shop"):
        writer.close()
    assert texts(whole(logs)) == ["one"]
    assert not logs.complete(NAME)
    (tmp_path / "shop").unlink()
    writer.close()
    assert logs.complete(NAME)
    assert texts(whole(logs)) == ["one"]


def test_left_after_a_close_that_failed_nothing_is_lost(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    writer.feed(b"one\ntwo", 7)
    (tmp_path / "shop").write_text("in the way")
    with pytest.raises(OSError, match="shop"):
        writer.close()
    (tmp_path / "shop").unlink()
    writer.leave()
    again = make(tmp_path).open(NAME)
    assert again.raw_offset == 7
    again.close()
    assert texts(whole(make(tmp_path))) == ["one", "two"]


# -- sealing and reopening -------------------------------------------------------------------------------------------


def big(writer, lines: int = 60_000) -> bytes:
    raw = b"".join(b"line %07d of a log that has some length\n" % number for number in range(lines))
    feed_all(writer, raw, list(range(0, len(raw), 99_999)))
    return raw


def test_offsets_are_the_same_before_and_after_sealing(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    big(writer)
    growing = whole(logs)
    pages = [logs.read(NAME, start, 5_000) for start in range(0, len(growing), 777_777)]
    tails = [logs.tail_offset(NAME, n) for n in (-1, 0, 1, 2, 10, 5_000, 59_999, 60_000, 60_001)]
    writer.close()
    for store in (logs, make(tmp_path)):
        assert whole(store, limit=1_000_000) == growing
        assert [(p.start, p.end, p.data) for p in pages] == [
            (c.start, c.end, c.data) for c in (store.read(NAME, page.start, 5_000) for page in pages)
        ]
        assert [store.tail_offset(NAME, n) for n in (-1, 0, 1, 2, 10, 5_000, 59_999, 60_000, 60_001)] == tails
        assert store.size(NAME) == len(growing)
    place = path_of(tmp_path, NAME).parent
    assert [path.name for path in place.iterdir()] == ["1.log.zst"]
    sealed = (place / "1.log.zst").read_bytes()
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(sealed), read_across_frames=True) as reader:
        assert reader.read() == growing
    assert len(growing) > 3 * FRAME_BYTES


@pytest.mark.parametrize("state", ["growing", "left", "sealed"])
@pytest.mark.parametrize("filler", [b"", b"-" * 40, b"=" * 3_000])
def test_tail_offset_counts_lines_from_the_end(tmp_path: Path, state: str, filler: bytes) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    count = 3_000 if len(filler) > 100 else 70_000
    raw = b"".join(b"%d %s\n" % (number, filler) for number in range(count))
    feed_all(writer, raw, list(range(0, len(raw), 50_000)))
    {"growing": lambda: None, "left": writer.leave, "sealed": writer.close}[state]()
    log = whole(logs)
    starts = [0, *(at + 1 for at, byte in enumerate(log) if byte == 10)][:-1]
    for lines in (1, 2, 9, 100, 1_024, 1_025, 2_048, count // 2, count - 1_024, count - 1, count):
        assert logs.tail_offset(NAME, lines) == starts[-lines]
    assert logs.tail_offset(NAME, count + 1) == 0


def test_the_index_has_an_entry_for_every_thousand_lines_or_so(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    big(writer, 50_000)
    lines = [0, *(pair.lines for pair in read_index(path_of(tmp_path, NAME).with_suffix(".idx")))]
    apart = [after - before for before, after in pairwise(lines)]
    assert max(apart) < 1_024 + 4_000
    assert min(apart) >= 1_024
    assert lines[-1] > 45_000
    writer.close()


def test_stopped_while_sealing_the_log_is_readable_and_can_be_finished(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    raw = big(writer)
    writer.sync()
    expected = whole(logs)
    writer.drop()
    half = path_of(tmp_path, NAME).with_suffix(".log.tmp")
    half.write_bytes(b"half of a sealed file")
    logs = make(tmp_path)
    assert whole(logs) == expected
    assert not logs.complete(NAME)
    writer = logs.open(NAME)
    assert writer.raw_offset == len(raw)
    writer.close()
    assert whole(logs) == expected
    assert [path.name for path in half.parent.iterdir()] == ["1.log.zst"]


def test_stopped_after_sealing_the_plain_file_goes_when_it_is_opened_again(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    raw = big(writer)
    writer.sync()
    plain = path_of(tmp_path, NAME)
    kept, index = plain.read_bytes(), plain.with_suffix(".idx").read_bytes()
    writer.close()
    plain.write_bytes(kept)
    plain.with_suffix(".idx").write_bytes(index)
    logs = make(tmp_path)
    again = logs.open(NAME)
    assert again.raw_offset == len(raw) == again.sync()
    again.feed(b"x\n", len(raw))
    again.line("told before")
    again.close()
    again.leave()
    assert whole(logs) == kept
    assert [path.name for path in plain.parent.iterdir()] == ["1.log.zst"]


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_torn_sealed_file_is_no_log(tmp_path: Path, keep: int) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    writer.feed(b"line\n" * 100, 500)
    writer.close()
    sealed = path_of(tmp_path, NAME).with_suffix(".log.zst")
    sealed.write_bytes(sealed.read_bytes()[:keep])
    logs = make(tmp_path)
    assert not logs.exists(NAME)
    writer = logs.open(NAME)
    assert writer.raw_offset == 0
    writer.feed(b"line\n" * 100, 500)
    writer.close()
    assert texts(whole(logs)) == ["line"] * 100


@pytest.mark.parametrize("damage", [b"torn", b"\0" * 32, b"\xff" * 40])
def test_a_damaged_end_of_the_index_costs_only_what_comes_after(tmp_path: Path, damage: bytes) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    writer.feed(b"one\n", 4)
    assert writer.sync() == 4
    writer.drop()
    plain = path_of(tmp_path, NAME)
    with plain.with_suffix(".idx").open("ab") as index, plain.open("ab") as log:
        index.write(damage)
        log.write(b"[torn line without a")
    logs = make(tmp_path)
    assert texts(whole(logs)) == ["one"]
    writer = logs.open(NAME)
    assert writer.raw_offset == 4
    writer.feed(b"two\n", 8)
    writer.sync()
    writer.drop()
    writer = make(tmp_path).open(NAME)
    assert writer.raw_offset == 8
    writer.close()
    assert texts(whole(make(tmp_path))) == ["one", "two"]


def test_a_second_writer_takes_over(tmp_path: Path) -> None:
    logs = make(tmp_path)
    first = logs.open(NAME)
    first.feed(b"one\n", 4)
    second = logs.open(NAME)
    with pytest.raises(StaleWriter):
        first.feed(b"two\n", 8)
    with pytest.raises(StaleWriter):
        first.line("x")
    first.sync()
    first.close()
    assert second.raw_offset == 0
    second.feed(b"one\ntwo\n", 8)
    second.close()
    assert texts(whole(logs)) == ["one", "two"]


def test_sync_and_close_in_threads_while_lines_come(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    stop = threading.Event()
    safe: list[int] = []

    def syncing() -> None:
        while not stop.is_set():
            safe.append(writer.sync())

    thread = threading.Thread(target=syncing)
    thread.start()
    try:
        raw = big(writer, 100_000)
    finally:
        stop.set()
        thread.join()
    assert safe == sorted(safe)
    assert writer.sync() == len(raw)
    writer.close()
    assert texts(whole(logs)) == raw.decode().split("\n")[:-1]


# -- following -------------------------------------------------------------------------------------------------------


async def gather(logs: FileLogs, start: int = 0, chunk: int = 65_536, slow: float = 0.0) -> bytes:
    parts, at = [], start
    async for piece in logs.follow(NAME, start, chunk=chunk):
        assert piece.start == at
        at = piece.end
        parts.append(piece.data)
        if slow:
            await asyncio.sleep(slow)
    assert piece.last
    return b"".join(parts)


def test_followers_see_everything_once_across_sealing(tmp_path: Path) -> None:
    logs = make(tmp_path)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            readers = [
                group.create_task(gather(logs)),
                group.create_task(gather(logs, chunk=100)),
                group.create_task(gather(logs, slow=0.5)),
                group.create_task(gather(logs, start=29)),
            ]
            await asyncio.sleep(1)  # they wait for the log to appear
            writer = logs.open(NAME)
            raw = b""
            for number in range(300):
                data = b"%d" % (1000 + number) + b"\nxyz" * (number % 50) + b"\n"
                raw += data
                writer.feed(data, len(raw))
                await asyncio.sleep(0.003 * (number % 7))
                if number == 100:
                    await asyncio.to_thread(writer.sync)
            await asyncio.to_thread(writer.close)
        log = whole(logs)
        assert texts(log) == raw.decode().split("\n")[:-1]
        assert [len(reader.result()) for reader in readers] == [len(log), len(log), len(log), len(log) - 29]
        assert all(log.endswith(reader.result()) for reader in readers)
        assert await gather(logs, chunk=10) == log

    run(main())


def test_a_follower_keeps_its_place_while_a_big_log_is_sealed(tmp_path: Path) -> None:
    logs = make(tmp_path)

    async def main() -> bytes:
        writer = logs.open(NAME)
        big(writer)
        stream = logs.follow(NAME, 0, chunk=300_000)
        parts = [await anext(stream) for _ in range(3)]
        await asyncio.to_thread(writer.close)
        parts += [part async for part in stream]
        return b"".join(part.data for part in parts)

    assert run(main()) == whole(logs)


def test_readers_in_threads_survive_sealing(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    big(writer)
    expected = whole(logs)
    results: list[bool] = []
    sealed = threading.Event()

    def reading() -> None:
        last = False
        while not last:
            last = sealed.is_set()
            results.append(whole(logs, limit=200_000) == expected)

    threads = [threading.Thread(target=reading) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        writer.close()
    finally:
        sealed.set()
        for thread in threads:
            thread.join()
    assert all(results)


def test_a_follower_wakes_soon_and_two_thousand_share_the_work(tmp_path: Path) -> None:
    logs = make(tmp_path)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        writer = logs.open(NAME)
        heard: list[float] = []

        async def watch() -> int:
            wakes = 0
            async for piece in logs.follow(NAME, 0):
                wakes += 1
                if b"one" in piece.data:
                    heard.append(loop.time())
            return wakes

        async with asyncio.TaskGroup() as group:
            watchers = [group.create_task(watch()) for _ in range(2_000)]
            await asyncio.sleep(1)
            written = loop.time()
            writer.feed(b"one\n", 4)
            await asyncio.sleep(1)
            for number in range(1_000):  # a line each millisecond
                writer.feed(b"x\n", 6 + 2 * number)
                await asyncio.sleep(0.001)
            writer.close()
        assert len(heard) == 2_000
        assert max(heard) - written <= 0.1
        assert max(watcher.result() for watcher in watchers) < 40
        assert logs._wakes == {}

    run(main())


def test_cancelled_followers_leave_nothing(tmp_path: Path) -> None:
    logs = make(tmp_path)

    async def main() -> None:
        writer = logs.open(NAME)
        watcher = asyncio.create_task(gather(logs))
        await asyncio.sleep(1)
        writer.feed(b"a\nb\n", 4)
        watcher.cancel()
        await asyncio.wait([watcher])
        assert logs._wakes == {}
        writer.close()

    run(main())


def test_left_and_opened_again_a_follower_goes_on(tmp_path: Path) -> None:
    logs = make(tmp_path)

    async def main() -> bytes:
        writer = logs.open(NAME)
        reader = asyncio.create_task(gather(logs))
        writer.feed(b"one\ntw", 6)
        await asyncio.sleep(1)
        writer.leave()
        await asyncio.sleep(1)
        writer = logs.open(NAME)
        assert writer.raw_offset == 4
        writer.feed(b"two\n", 8)
        writer.close()
        return await reader

    assert texts(run(main())) == ["one", "two"]


def test_deleting_a_task_ends_its_readers_and_writers(tmp_path: Path) -> None:
    logs = make(tmp_path)
    other = LogName("shop", 8, "a", 1)
    logs.open(other).close()

    async def main() -> None:
        writer = logs.open(NAME)
        reader = asyncio.create_task(gather(logs))
        writer.feed(b"one\n", 4)
        await asyncio.sleep(1)
        logs.delete("shop", 7)
        assert texts(await reader) == ["one"]
        writer.feed(b"two\n", 8)
        writer.close()

    run(main())
    assert not logs.exists(NAME)
    assert logs.exists(other)
    logs.delete("shop", 8)
    assert not logs.exists(other)
    logs.delete("never", 1)


# -- names -----------------------------------------------------------------------------------------------------------


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_name_is_one_safe_file_name(one: str, other: str) -> None:
    for name in (one, other):
        encoded = encode_name(name)
        assert 0 < len(encoded.encode()) <= 255
        assert "/" not in encoded
        assert "\0" not in encoded
        assert not encoded.startswith(".")
    assert (encode_name(one) == encode_name(other)) == (one == other)


@pytest.mark.parametrize("name", ["..", ".", "", "../../etc/passwd", "a/b", "a\0b", "长" * 200, "x" * 500, "%2E%2E"])
def test_hostile_names_stay_inside(tmp_path: Path, name: str) -> None:
    logs = make(tmp_path / "logs")
    hostile = LogName(name, 1, name, 1)
    writer = logs.open(hostile)
    writer.feed(b"x\n" * 40_000, 80_000)
    writer.close()
    assert len(texts(whole(logs, hostile))) == 40_000
    assert [path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()] == ["logs"]


def test_ordinary_names_stay_readable() -> None:
    assert encode_name("a-myapp-1_构建.v2") == "a-myapp-1_构建.v2"


def test_a_small_log_makes_one_file_only(tmp_path: Path) -> None:
    logs = make(tmp_path)
    writer = logs.open(NAME)
    writer.feed(b"a\nb\nc\n", 6)
    assert texts(whole(logs)) == ["a", "b", "c"]
    assert list(tmp_path.iterdir()) == []
    writer.close()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["1.log.zst"]


def test_no_descriptor_is_kept(tmp_path: Path) -> None:
    logs = make(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for attempt, end in enumerate((FileLogWriter.close, FileLogWriter.leave, FileLogWriter.drop), start=1):
        writer = logs.open(LogName("shop", 7, "a", attempt))
        assert isinstance(writer, FileLogWriter)
        big(writer, 5_000)
        writer.sync()
        end(writer)
        logs.read(LogName("shop", 7, "a", attempt), 0, 1_000)
    assert len(os.listdir("/proc/self/fd")) <= before  # fewer when something of an earlier test goes meanwhile
