"""Sealing: secrets at rest. What is stored is a token; only the server with the key can open it."""

from typing import Protocol


class Sealer(Protocol):
    """Quick, pure but for randomness, safe in any thread."""

    def seal(self, plain: str, label: str) -> str:
        """Return a token for *plain*. *label* says what it is for (kind and id of the row); it is readable in the
        token, and the token opens only with the label it was made with. Two seals of one value differ."""

    def open(self, token: str) -> str:
        """The value of a token. Raises: a ``CadorError`` that says what to do, when the key is another one or the
        token is damaged."""

    def label(self, token: str) -> str:
        """The label that *token* was made with, if it opens; ``""`` when it is no token."""

    def is_sealed(self, text: str) -> bool:
        """Whether *text* looks like a token, of whatever key."""
