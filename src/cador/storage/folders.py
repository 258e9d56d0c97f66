"""Names below a data folder that more than one part has to know."""

from typing import Final

UNFINISHED: Final = ".restoring"
"""A restore into this folder is under way, or was broken off: no server starts beside it."""
