"""How the servers of one database speak with each other about what lies on their disks: HTTP, one request per
connection, signed with a key that only they have. Nothing of a user's request is passed on.

The answer to a question is JSON; logs and blobs come in frames: kind, offset of the first byte, number of bytes, bytes.
A stream that ends without a frame that says so was cut off.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from urllib.parse import urlencode

from cador.ports.logs import LogName

TIME: Final = "x-cador-time"
NONCE: Final = "x-cador-nonce"
HOME: Final = "x-cador-home"
SIGNATURE: Final = "x-cador-signature"
PROOF: Final = "x-cador-proof"
SKEW_S: Final = 120.0
"""How far the clocks of two servers may be apart."""
BEAT_S: Final = 5.0
"""How long a stream is silent at most."""
LIMIT_BYTES: Final = 4 << 20
"""Most bytes of one answer that is no stream; a longer line comes whole."""

FRAME: Final = struct.Struct("<BQI")


class Kind(IntEnum):
    DATA = 0
    """Whole lines, or part of a blob."""
    LAST = 1
    """The same, and the log is complete with it."""
    LEFT = 2
    """Nobody writes the log here any more: it may go on elsewhere."""
    BEAT = 3
    """Nothing new; the sender is there."""


@dataclass(frozen=True, slots=True)
class Signed:
    """The headers of a request to the server of one data folder."""

    time: str
    nonce: str
    home: str
    signature: str


class Key:
    """The key the servers share."""

    def __init__(self, secret: bytes) -> None:
        """*secret*: at least 32 bytes."""
        self._secret = secret

    def __repr__(self) -> str:
        return "Key(***)"

    def sign(self, target: str, home: str, nonce: str, now: float) -> Signed:
        """*target*: path and query."""
        time = f"{now:.0f}"
        return Signed(time, nonce, home, self._digest("request", target, time, nonce, home))

    def accepts(self, target: str, signed: Signed, home: str, now: float) -> bool:
        """Whether a request was signed for the server of *home*, not long ago."""
        expected = self._digest("request", target, signed.time, signed.nonce, home)
        fits = _same(expected, signed.signature)
        try:
            fresh = abs(now - float(signed.time)) <= SKEW_S
        except ValueError:
            fresh = False
        return fits and fresh

    def prove(self, nonce: str, home: str) -> str:
        """What the answer to a request carries: it comes from whom it was sent to."""
        return self._digest("answer", nonce, home)

    def proves(self, proof: str, nonce: str, home: str) -> bool:
        return _same(self.prove(nonce, home), proof)

    def _digest(self, *parts: str) -> str:
        text = "\n".join(parts).encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))


def log_query(name: LogName, **more: int) -> str:
    values = {"workflow": name.workflow, "task": name.task, "job": name.job, "attempt": name.attempt}
    return urlencode({**values, **more})


def frame(kind: Kind, at: int, data: bytes = b"") -> bytes:
    return FRAME.pack(kind, at, len(data)) + data


class PeerAway(OSError):
    """The other server does not answer, or is not the one that is asked for."""
