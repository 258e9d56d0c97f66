"""Receivers of tasks and news on its way to them, on both databases."""

import pytest

from cador.ports.deliveries import Delivery, Receiver
from cador.ports.stores import Tx
from cador.storage.database import OpenDatabase
from cador.storage.tables import workflow_task
from support.rows import new_task, workflow_row

ONE = Receiver("a", "callback", ("failed", "passed"), "sealed")
TWO = Receiver("b", "mail", ("created",), "sealed too")
NEWS = Delivery(1, "a", "passed", 0, '{"status":"passed"}')


@pytest.mark.anyio
async def test_news_is_there_until_it_is_said_and_goes_with_the_task(database: OpenDatabase) -> None:
    def fill(tx: Tx) -> None:
        tx.workflows.add(workflow_row())
        assert tx.tasks.add(new_task(receivers=(TWO, ONE))) == 1
        assert tx.tasks.add(new_task(number=2)) == 2
        for _ in range(2):  # the second time nothing happens
            tx.deliveries.add(NEWS)
        tx.deliveries.add(Delivery(1, "a", "passed", 1, "later"))
        tx.deliveries.add(Delivery(1, "b", "created", 0, "hello"))

    def look(tx: Tx) -> None:
        assert tx.deliveries.receivers(1) == [ONE, TWO]
        assert tx.deliveries.receivers(2) == []
        assert tx.deliveries.find(1, "a", "passed", 0) == (ONE, NEWS)
        assert tx.deliveries.find(1, "b", "created", 0) == (TWO, Delivery(1, "b", "created", 0, "hello"))
        assert tx.deliveries.find(1, "b", "passed", 0) is None

    def say(tx: Tx) -> None:
        tx.deliveries.remove(NEWS)
        assert tx.deliveries.find(1, "a", "passed", 0) is None
        assert tx.deliveries.find(1, "a", "passed", 1) is not None

    def remove(tx: Tx) -> None:
        tx.connection.execute(workflow_task.delete().where(workflow_task.c.id == 1))  # type: ignore[attr-defined]
        assert tx.deliveries.receivers(1) == []
        assert tx.deliveries.find(1, "a", "passed", 1) is None

    await database.write(fill)
    await database.read(look)
    await database.write(say)
    await database.write(remove)
