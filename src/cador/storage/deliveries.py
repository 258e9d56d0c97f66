"""Who is told what becomes of a task, and what is still to be said to them."""

from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, delete, select

from cador.ports.deliveries import Delivery, Receiver
from cador.storage import dialect
from cador.storage.lane import Lane
from cador.storage.tables import delivery, receiver

r, d = receiver.c, delivery.c
_KEY: Final = and_(
    d.task_id == bindparam("of"), d.receiver == bindparam("name"), d.what == bindparam("word"),
    d.round == bindparam("number"),
)  # fmt: skip

ADD_RECEIVER: Final = receiver.insert().values(
    {name: bindparam(name) for name in ("task_id", "name", "kind", "hears", "document")}
)
RECEIVERS: Final = select(r.name, r.kind, r.hears, r.document).where(r.task_id == bindparam("of")).order_by(r.name)
ADD: Final = (
    dialect.insert(delivery)
    .values({name: bindparam(name) for name in ("task_id", "receiver", "what", "round", "body")})
    .on_conflict_do_nothing(index_elements=[d.task_id, d.receiver, d.what, d.round])
)
FIND: Final = (
    select(r.name, r.kind, r.hears, r.document, d.body)
    .join_from(delivery, receiver, and_(r.task_id == d.task_id, r.name == d.receiver))
    .where(_KEY)
)
REMOVE: Final = delete(delivery).where(_KEY)


def receiver_values(task_id: int, one: Receiver) -> dict[str, Any]:
    """The row of *one*, for ``ADD_RECEIVER``."""
    return {
        "task_id": task_id, "name": one.name, "kind": one.kind, "hears": ",".join(one.hears),
        "document": one.document,
    }  # fmt: skip


def _receiver(name: str, kind: str, hears: str, document: str) -> Receiver:
    return Receiver(name, kind, tuple(hears.split(",")), document)


class Deliveries:
    """Implements ``ports.deliveries.DeliveryStore``."""

    def __init__(self, connection: Connection) -> None:
        self._lane = Lane(connection)

    def receivers(self, task_id: int) -> list[Receiver]:
        return [_receiver(*row) for row in self._lane.rows(RECEIVERS, {"of": task_id})]

    def add(self, delivery: Delivery) -> None:
        values = {
            "task_id": delivery.task_id, "receiver": delivery.receiver, "what": delivery.what,
            "round": delivery.round, "body": delivery.body,
        }  # fmt: skip
        self._lane.change(ADD, values)

    def find(self, task_id: int, receiver: str, what: str, number: int) -> tuple[Receiver, Delivery] | None:
        row = self._lane.row(FIND, {"of": task_id, "name": receiver, "word": what, "number": number})
        if row is None:
            return None
        *who, body = row
        return _receiver(*who), Delivery(task_id, receiver, what, number, body)

    def remove(self, delivery: Delivery) -> None:
        values = {
            "of": delivery.task_id, "name": delivery.receiver, "word": delivery.what, "number": delivery.round
        }  # fmt: skip
        self._lane.change(REMOVE, values)
