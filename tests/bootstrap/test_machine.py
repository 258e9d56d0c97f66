"""What the machine refuses is told in one line that says what to do."""

import fcntl
from pathlib import Path

import pytest

from cador.bootstrap.machine import CannotStart, data_folder, listening, locked, write_private


def test_a_data_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    """Whoever runs the tests as root can write anywhere, but not into a folder."""
    (tmp_path / "lock").mkdir()
    with pytest.raises(CannotStart, match=r"cannot be written to .*choose another one with --data"), locked(tmp_path):
        pass


@pytest.mark.parametrize("note", ["[1]", "{}", "7", "no JSON", '{"url": "http://h:1", "pid": 7}'])
def test_a_folder_in_use_is_told_whatever_its_note_says(tmp_path: Path, note: str) -> None:
    data = data_folder(tmp_path / "data")
    (data / "server.json").write_text(note)
    with (data / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CannotStart, match="in use by another server") as refused, locked(data):
            pass
    assert ("(http://h:1, process 7)" in str(refused.value)) == ("url" in note)


def test_a_name_that_is_none_is_no_address() -> None:
    host = "a" * 70
    with pytest.raises(CannotStart, match="cannot listen on"), listening(f"{host}:1", (host, 1), "--listen"):
        pass


def test_a_private_file_is_there_completely_and_for_its_owner_alone(tmp_path: Path) -> None:
    write_private(tmp_path / "x", "one")
    write_private(tmp_path / "x", "two")
    assert [(path.name, path.read_text(), path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [
        ("x", "two", 0o600)
    ]
