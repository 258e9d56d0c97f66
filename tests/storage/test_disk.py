"""Room held back: given up a slice at a time while the disk is full, taken again when there is plenty."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cador.storage.disk import FULL_BYTES, LOOKS, RESERVE_BYTES, SLICES, SPARE_BYTES, Ballast, Disks

PLENTY = SPARE_BYTES + RESERVE_BYTES


class Disk:
    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, folder: Path) -> int:
        return self.free


def used(path: Path) -> int:
    return path.stat().st_blocks * 512 if path.exists() else 0


def test_the_reserve_takes_real_room_and_gives_it_back(tmp_path: Path) -> None:
    disk = Disk(PLENTY)
    path = tmp_path / "reserve"
    ballast = Ballast(path, disk)
    ballast.look()
    assert used(path) >= RESERVE_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    disk.free = 0
    held = []
    for _ in range(LOOKS * SLICES + 3):
        ballast.look()
        held.append(ballast.held)
    assert held[0] == RESERVE_BYTES, "what fills the disk must see it full first"
    assert sorted(set(held), reverse=True) == [RESERVE_BYTES * left // SLICES for left in range(SLICES, -1, -1)]
    assert used(path) == 0
    disk.free = SPARE_BYTES  # some room, but not so much that all of it could be held back
    ballast.look()
    assert ballast.held == 0
    disk.free = PLENTY
    ballast.look()
    assert ballast.held == RESERVE_BYTES


def test_a_reserve_of_an_earlier_server_is_known(tmp_path: Path) -> None:
    Ballast(tmp_path / "reserve", Disk(PLENTY)).look()
    later = Ballast(tmp_path / "reserve", Disk(0))
    for _ in range(LOOKS):
        later.look()
    assert later.held == RESERVE_BYTES - RESERVE_BYTES // SLICES


@given(st.lists(st.sampled_from([0, FULL_BYTES - 1, FULL_BYTES, SPARE_BYTES, PLENTY - 1, PLENTY]), max_size=40))
def test_room_is_only_given_up_on_a_full_disk_and_only_taken_on_an_empty_one(frees: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(PLENTY)
        ballast = Ballast(Path(folder) / "reserve", disk)
        before: list[int] = []
        for free in frees:
            held, disk.free = ballast.held, free
            ballast.look()
            before.append(free)
            if ballast.held < held:
                assert all(seen < FULL_BYTES for seen in before[-LOOKS:])
                assert len(before) >= LOOKS
            if ballast.held > held:
                assert free >= PLENTY
            assert 0 <= ballast.held <= RESERVE_BYTES


def test_one_disk_has_one_reserve(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    disks = Disks({"data folder": tmp_path / "a", "jobs": tmp_path / "b"})
    assert len(disks._ballasts) == 1
