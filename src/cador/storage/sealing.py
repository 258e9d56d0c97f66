"""Sealing with AES-256-GCM. Token: ``sealed:v1:<key id>:<label>:<nonce and ciphertext>``, the last two base64url.

The key id is a digest of the key, so that a wrong key is told from a damaged token. Key id and label are
authenticated with the ciphertext.
"""

import base64
import binascii
import hmac
import os
import re
import secrets
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cador.domain.errors import CadorError

if TYPE_CHECKING:
    from cador.storage.cipher import Cipher

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TOKEN: Final = re.compile(r"sealed:v1:([0-9a-f]{16}):([A-Za-z0-9_-]*):([A-Za-z0-9_-]{38,})")


class UnreadableKey(CadorError):
    """The key that secrets are sealed with is missing, damaged or another one. The message says what to do."""


class DamagedSecret(CadorError):
    """A token of this key that does not open: it was changed, or belongs to another label."""


class AesSealer:
    """See :class:`cador.ports.sealing.Sealer`."""

    def __init__(self, key: bytes) -> None:
        """*key*: 32 random bytes."""
        if len(key) != KEY_BYTES:
            raise UnreadableKey(f"the key for secrets has {len(key)} bytes instead of {KEY_BYTES}")
        self._key = key
        self._root = hmac.new(key, b"cador keys of other purposes", "sha256").digest()
        self.key_id: str = sha256(b"cador key id\0" + key).hexdigest()[:16]

    @cached_property
    def _cipher(self) -> "Cipher":
        from cador.storage.cipher import Cipher  # 6 MB, which a server without credentials does not need

        return Cipher(self._key)

    @classmethod
    def from_file(cls, path: Path) -> "AesSealer":
        """Use the key file *path*, 32 bytes with mode 0600; made when it is not there.

        Two servers that begin at once use one key. Raises: UnreadableKey.
        """
        try:
            key = read_key(path)
        except FileNotFoundError:
            _make_key(path)
            key = read_key(path)
        return cls(key)

    @classmethod
    def from_base64(cls, text: str) -> "AesSealer":
        """Use a key given as base64 (standard or URL-safe). Raises: UnreadableKey; the message never shows *text*."""
        return cls(decode_key(text))

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for another purpose, the same on every server of the installation; this one cannot be told
        from it."""
        return hmac.new(self._root, purpose.encode(), "sha256").digest()

    def seal(self, plain: str, label: str) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, plain.encode("utf-8", "surrogatepass"), self._bound(label))
        return f"sealed:v1:{self.key_id}:{_encode(label.encode())}:{_encode(nonce + sealed)}"

    def open(self, token: str) -> str:
        """Raises: UnreadableKey, DamagedSecret."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise DamagedSecret("a stored secret is damaged: enter it again")
        if match[1] != self.key_id:
            raise UnreadableKey(
                f"a stored secret was sealed with key {match[1]}, this server has key {self.key_id}: "
                "put the key that belongs to this database back, or enter the secret again"
            )
        try:
            label = _decode(match[2]).decode()
            sealed = _decode(match[3])
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._bound(label))
        except ValueError as error:
            raise DamagedSecret("a stored secret is damaged: enter it again") from error
        return plain.decode("utf-8", "surrogatepass")

    def label(self, token: str) -> str:
        match = _TOKEN.fullmatch(token)
        try:
            return _decode(match[2]).decode() if match is not None else ""
        except ValueError:
            return ""

    def is_sealed(self, text: str) -> bool:
        return _TOKEN.fullmatch(text) is not None

    def _bound(self, label: str) -> bytes:
        return f"{self.key_id}:{label}".encode()


def decode_key(text: str) -> bytes:
    """The key of its base64. Raises: UnreadableKey; the message never shows *text*."""
    try:
        key = base64.b64decode(text.strip().translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise UnreadableKey(
            "the given key for secrets is not the base64 of 32 bytes; make one with: openssl rand -base64 32"
        )
    return key


def read_key(path: Path) -> bytes:
    """The key of the file *path*. Raises: FileNotFoundError, UnreadableKey."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mode = os.fstat(fd).st_mode
            key = os.read(fd, KEY_BYTES + 1)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableKey(f"cannot read the key file {path}: {error.strerror}; let this user own it") from error
    if mode & 0o077:
        raise UnreadableKey(f"others may read the key file {path}: chmod 600 {path}")
    if len(key) != KEY_BYTES:
        raise UnreadableKey(f"the key file {path} is not {KEY_BYTES} bytes long: put it back from a backup")
    return key


def _make_key(path: Path) -> None:
    """Create the file complete or not at all; one that appeared meanwhile stays."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(fd)
            with suppress(FileExistsError):
                os.link(partial, path)
        finally:
            partial.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # a key that is lost takes all secrets with it
        finally:
            os.close(folder)
    except OSError as error:
        raise UnreadableKey(f"cannot make the key file {path}: {error.strerror}") from error


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
