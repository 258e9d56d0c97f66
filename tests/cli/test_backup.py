"""``cador backup`` and ``cador restore`` as a person meets them: results, notes and errors of one line."""

import json
import sqlite3
from pathlib import Path

import pytest

from cador.cli.app import run
from cador.storage.database import migrate


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a server with nothing in it, and a folder to be in."""
    for name in ("CADOR_DATA", "CADOR_DATABASE", "CADOR_KEY", "CADOR_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    migrate(f"sqlite:///{folder / 'cador.db'}")
    (folder / "key").write_bytes(b"k" * 32)
    (folder / "key").chmod(0o600)
    return folder


def told(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, list[str]]:
    code = run([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err.splitlines()


def test_there_and_back(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "backups").mkdir()
    code, out, notes = told(capsys, "backup", tmp_path / "backups", "--data", data)
    assert code == 0
    (file,) = (tmp_path / "backups").iterdir()
    assert file.name.startswith("cador-")
    assert file.name.endswith("Z.tar.zst")
    assert out.startswith(f"backup {file}: 0 tasks, ")
    assert notes == [
        "cador: the key is not in it: keep a copy of the file key of the data folder apart, in a safe place"
    ]

    code, out, notes = told(capsys, "backup", "verify", file, "--json")
    assert (code, notes) == (0, [])
    manifest = json.loads(out)
    assert manifest["tasks"] == 0

    target = tmp_path / "target"
    code, out, notes = told(capsys, "restore", file, "--data", target)
    assert code == 0
    assert out.startswith(f"restored into {target}: ")
    assert notes == [
        f"cador: put the key {manifest['key_id']} into {target / 'key'} (chmod 600) before the server starts"
    ]
    with sqlite3.connect(target / "cador.db") as connection:
        assert connection.execute("SELECT count(*) FROM workflow_task").fetchone() == (0,)
    connection.close()


def test_errors_are_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "b.tar.zst"
    assert told(capsys, "backup", file, "--with-key", "--data", data)[0] == 0
    wrong: list[tuple[tuple[object, ...], str]] = [
        (("backup", file, "--data", data), f"{file} exists already: choose another name"),
        (("backup", tmp_path / "no" / "b", "--data", data), "the backup was not made: "),
        (("backup", tmp_path / "b2", "--data", tmp_path / "nothing"), "there is nothing to back up"),
        (("backup", data / "logs" / "b", "--data", data), "is inside of what is backed up"),
        (("backup", "verify", tmp_path / "none"), "the backup cannot be read: "),
        (("backup", "verify", data / "key"), "is no backup of cador"),
        (("restore", file, "--data", data), "is not empty (cador.db"),
        (("restore", tmp_path / "none", "--data", tmp_path / "t"), "nothing was restored: "),
        (("restore", file, "--data", tmp_path / "t", "--database", "mysql://x/y"), "mysql is not supported"),
    ]
    for words, text in wrong:
        code, out, notes = told(capsys, *words)
        assert (code, out, len(notes)) == (1, "", 1), (words, notes)
        assert notes[0].startswith("cador: ")
        assert text in notes[0], (words, notes)
    assert not (tmp_path / "t").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.zst", "data"]
