"""Who is told what becomes of a task, and what is still to be said to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


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
