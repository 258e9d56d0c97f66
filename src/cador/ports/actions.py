"""Actions: what jobs do that need no sandbox, in the server itself (statements to a database, calls of another system).

An action is an async function with a name. A job type compiles to a call of one (``JobFolder.action``), the executor
``server`` carries it out, and the engine treats it as any other execution. See ``docs/server-jobs.md``.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

SERVER: Final = "server"
"""Name of the executor of actions."""


@dataclass(frozen=True, slots=True)
class ActionCall:
    """*name*: of the action; *arguments*: a JSON object, secrets in clear, so never stored and never shown.

    *repeatable*: doing it again harms nothing: when its server ends it is broken off, and begun anew by the next one.
    Any other is given time to come to its end.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    repeatable: bool = False


class ActionFailed(Exception):
    """The action ended without success; ``str()`` is the error of the job, one text for people."""


class ActionRun(Protocol):
    """What an action has of the execution it is."""

    key: str
    """Names the execution for ever: what it makes outside may carry it."""

    def line(self, text: str) -> None:
        """Print one line to the job's log. Secrets of the job are masked when it is stored."""

    def leave(self, name: str, value: str) -> None:
        """Leave an output, at any time; what was left when the action is broken off is still read. Names that begin
        with ``cador.`` are for the job type's ``conclude`` alone and are not published."""

    def mask(self, text: str) -> str:
        """*text* without the secrets of the job, for whatever is left in outputs."""


Action = Callable[[ActionRun, Mapping[str, Any]], Coroutine[Any, Any, None]]
"""Does the work with its arguments. Returning is success.

It runs on the event loop: it must not block, every wait on the outside has a deadline of its own or ends by
cancellation. Cancelled (cancel, time-out, end of the server) it stops what it began outside as well as that can be done
within a few seconds, and lets ``CancelledError`` go on. It writes no log but its lines.

Raises: ActionFailed: it did not succeed.
"""
