"""AES-256-GCM. Loading the library behind it costs 6 MB, so that is left to the first credential (``sealing``)."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Cipher:
    """Of one key. Safe in any thread."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def encrypt(self, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
        """*bound*: authenticated with it, and not hidden."""
        return self._aead.encrypt(nonce, plain, bound)

    def decrypt(self, nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
        """Raises: ValueError: it was changed, or *bound* is another."""
        try:
            return self._aead.decrypt(nonce, sealed, bound)
        except InvalidTag:
            raise ValueError("the tag does not fit") from None
