import base64
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.domain.errors import CadorError
from cador.storage.sealing import AesSealer, DamagedSecret, UnreadableKey

KEY = bytes(range(32))


@given(st.text(st.characters(exclude_categories=())), st.text())
def test_what_was_sealed_opens(plain: str, label: str) -> None:
    sealer = AesSealer(KEY)
    token = sealer.seal(plain, label)
    assert sealer.open(token) == plain
    assert sealer.is_sealed(token)
    assert token.isascii()
    assert token.isprintable()
    assert not sealer.is_sealed(plain)
    assert sealer.seal(plain, label) != token


def test_the_label_is_readable_and_part_of_the_seal() -> None:
    sealer = AesSealer(KEY)
    prefix, version, key_id, label, sealed = sealer.seal("value", "codehost/7/access_token").split(":")
    assert (prefix, version, key_id) == ("sealed", "v1", sealer.key_id)
    assert base64.urlsafe_b64decode(label + "==") == b"codehost/7/access_token"
    other = sealer.seal("x", "codehost/8/access_token").split(":")[3]
    with pytest.raises(DamagedSecret):
        sealer.open(":".join((prefix, version, key_id, other, sealed)))


@given(st.data())
def test_no_changed_token_opens(data: st.DataObject) -> None:
    sealer = AesSealer(KEY)
    token = sealer.seal("a secret value", "label")
    at = data.draw(st.integers(0, len(token) - 2))
    char = data.draw(st.sampled_from("abcXYZ019-_:"))
    changed = token[:at] + char + token[at + 1 :]
    if changed != token:
        with pytest.raises(CadorError):
            sealer.open(changed)
    with pytest.raises(CadorError):
        sealer.open(token[:at])


def test_another_key_is_told_by_its_id() -> None:
    token = AesSealer(KEY).seal("x", "l")
    other = AesSealer(b"\1" * 32)
    assert other.is_sealed(token)
    with pytest.raises(UnreadableKey, match=f"{AesSealer(KEY).key_id}.*{other.key_id}.*put the key"):
        other.open(token)


def test_the_key_file_is_made_once_and_only_for_us(tmp_path: Path) -> None:
    path = tmp_path / "data" / "key"
    token = AesSealer.from_file(path).seal("x", "l")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == 32
    assert AesSealer.from_file(path).open(token) == "x"
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]


def test_two_that_begin_at_once_use_one_key(tmp_path: Path) -> None:
    sealers: list[AesSealer] = []
    gate = threading.Barrier(8)

    def begin() -> None:
        gate.wait()
        sealers.append(AesSealer.from_file(tmp_path / "key"))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({sealer.key_id for sealer in sealers}) == 1
    assert len(sealers) == 8


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_key_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(UnreadableKey, match=r"32 bytes.*backup") as caught:
        AesSealer.from_file(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_key_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    AesSealer.from_file(path)
    path.chmod(0o640)
    with pytest.raises(UnreadableKey, match="chmod 600"):
        AesSealer.from_file(path)


def test_no_place_for_a_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnreadableKey, match="cannot"):
        AesSealer.from_file(tmp_path / "file" / "key")
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(UnreadableKey, match="cannot read"):
        AesSealer.from_file(tmp_path / "folder")
    assert len(os.listdir(tmp_path)) == 2


def test_a_given_key() -> None:
    token = AesSealer(KEY).seal("x", "l")
    for text in (base64.b64encode(KEY).decode(), f" {base64.urlsafe_b64encode(KEY).decode()}\n"):
        assert AesSealer.from_base64(text).open(token) == "x"
    for text in ("", "not-base64!", base64.b64encode(b"short").decode()):
        with pytest.raises(UnreadableKey, match="openssl rand") as caught:
            AesSealer.from_base64(text)
        assert not text or text not in str(caught.value)
    with pytest.raises(UnreadableKey):
        AesSealer(b"short")
