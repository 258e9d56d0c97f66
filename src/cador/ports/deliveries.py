"""Who is told what becomes of a task, what is still to be said to them, and who says it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cador.ports.stores import Tx


@dataclass(frozen=True, slots=True)
class Receiver:
    """Somebody outside who hears of one task. ``name``: unique within the task. ``kind``: who knows how to speak to it
    (``callback``). ``hears``: of which news, the words of ``domain.commands.Tell``; ``document``: how to reach it, as
    its kind writes it, sealed."""

    name: str
    kind: str
    hears: tuple[str, ...]
    document: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One piece of news for one receiver. ``what`` and ``round``: as in ``Tell``; ``body``: what is said, put down when
    it happened, so that it stays true however late it is delivered."""

    task_id: int
    receiver: str
    what: str
    round: int
    body: str


class DeliveryStore(Protocol):
    """Receivers of tasks, and news on its way to them. All of it goes with the task."""

    def receivers(self, task_id: int) -> Sequence[Receiver]:
        """Of one task, by name."""

    def add(self, delivery: Delivery) -> None:
        """One that is there already is left alone."""

    def find(self, task_id: int, receiver: str, what: str, number: int) -> tuple[Receiver, Delivery] | None:
        """*number*: the round."""

    def remove(self, delivery: Delivery) -> None:
        """It was said, or never will be."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of one try. ``place``: whom it was for, as everybody may see it. ``status``: of HTTP, 0 where there was
    none. ``reason``: why it failed, one line; ``final``: and will whenever it is tried."""

    ok: bool
    place: str
    status: int = 0
    reason: str = ""
    final: bool = False


class Courier(Protocol):
    """Speaks to receivers of one kind. May be called at once for any number of them."""

    @property
    def hears(self) -> Collection[str]:
        """All that any receiver of the kind may want to hear, up to the first colon: nobody looks for receivers of
        other news."""

    @property
    def pauses(self) -> Sequence[float]:
        """Seconds before the second try, the third, and so on; after the last one it is given up."""

    def compose(self, tx: "Tx", task_id: int, what: str) -> str:
        """The body of a delivery, from the tables as they are when it happens. Reads only, and little."""

    async def say(self, receiver: Receiver, delivery: Delivery, key: str) -> Said:
        """Try once. *key* is the same for every try of one delivery and for no other one: a receiver that has heard it
        already can tell. Raises nothing that is the receiver's fault."""
