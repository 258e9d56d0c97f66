"""The other servers of one database: who is there, who is gone, and how they hear of each other.

A server is a *member* under an id of its own for as long as it can prove that it lives. What it takes on - commands,
executions - carries that id; when the membership is over all of it is free again, and nobody acts under the old id.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

Heard = Callable[[frozenset[int], bool], None]
"""Called on the event loop's thread with the ids of tasks that changed elsewhere, and whether there is work to take."""


@dataclass(frozen=True, slots=True)
class Replica:
    """``place``: machine and boot; ``address``: where its peers reach it, ``""`` when it tells none; ``home``: name of
    its data folder, which stays when the server is started again."""

    id: str
    place: str
    address: str
    started_at: float
    seen_at: float
    home: str = ""


class ReplicaStore(Protocol):
    def add(self, row: Replica) -> None: ...

    def list_replicas(self) -> list[Replica]:
        """Oldest first."""

    def beat(self, me: str, now: float) -> bool:
        """Say that *me* lives; False: others have declared it dead."""

    def condemn(self, gone: str) -> bool:
        """What *gone* says of itself does not count from now on. False: it is no member."""

    def remove(self, gone: str) -> bool:
        """False: somebody else removed it before."""


class Peers(Protocol):
    @property
    def alone(self) -> bool:
        """Nobody else can ever work on this database: nothing needs to be told or asked twice."""

    @property
    def place(self) -> str:
        """Machine and boot of this server, as in the places of executors; empty where nobody else can be asked."""

    async def join(self) -> str:
        """Become a member; returns the new id. What dead members left behind is free when this returns.

        Raises: Unavailable.
        """

    async def lost(self) -> str:
        """Return when this membership is over - its proof of life is gone, or others have declared it dead - and say
        why. Never returns while the membership holds."""

    def holds(self) -> bool:
        """Whether nobody can have taken over what is ours. Costs nothing: asked before every act outside."""

    async def leave(self) -> None:
        """Stop being a member in good order: what is ours is free for others at once."""

    def listen(self, heard: Heard) -> None:
        """From now on call *heard* with what other members tell, also when something of a dead one became free."""

    def tell(self, tasks: Collection[int], *, work: bool) -> None:
        """Let the others know; sent together with what else is told within a few milliseconds. Nothing depends on its
        arrival: everybody also looks now and then."""
