"""Two servers and one ticket, two servers and one view: raced on PostgreSQL, each with its mistake."""

from dataclasses import replace
from typing import Any

import pytest

from cador.domain.errors import CadorError
from cador.engine.hearing import Claim
from cador.operations import views
from cador.operations.actor import Actor
from cador.operations.starting import StartRequest
from cador.operations.tasks import _store
from cador.ports.stores import Database, Resource, Tx
from cador.ports.tickets import Ticket
from cador.storage import resources as stored
from cador.storage import tickets as stored_tickets
from engine.test_races import LIMITS, Meeting, together
from engine.test_races import servers as servers
from support.rows import new_job, new_task, workflow_row

pytestmark = [pytest.mark.anyio, pytest.mark.postgres, pytest.mark.real]

ANN = Actor("u1", "Ann", "ann", email="ann@example.com")
ONCE = Ticket(uid="0" * 24, project="p", approval_id="CHG-1", valid=True)


async def start_both(servers: list[Database]) -> list[Any]:
    """Two workflows are started with one ticket, on a server each, at one moment: numbers or errors."""
    one, two, looker = servers

    def arrange(tx: Tx) -> None:
        for key in ("v", "w"):
            tx.workflows.add(workflow_row(key))
        assert tx.tickets.add(ONCE)

    await one.write(arrange)
    meeting = Meeting(2)

    def begin(tx: Tx, key: str) -> int:
        find = tx.tickets.by_approval_id

        def found(approval_id: str, *, lock: bool = False) -> Ticket | None:
            ticket = find(approval_id, lock=lock)
            meeting.come(key)
            return ticket

        tx.tickets.by_approval_id = found  # type: ignore[method-assign]
        try:
            request = StartRequest(key, "p", approval_id="CHG-1")
            task = new_task(key, jobs=(new_job("a"),))
            return _store(tx, Claim(key, LIMITS), ANN, task, 1, ("u1", "Ann"), request, ONCE).value
        finally:
            del tx.tickets.by_approval_id  # type: ignore[attr-defined]

    results = await together(looker, meeting, one.write(begin, "v"), two.write(begin, "w"))
    counted = await looker.read(lambda tx: [tx.tasks.count(key) for key in ("v", "w")])
    assert sum(counted) == sum(1 for result in results if result == 1), "what was refused left nothing"
    return results


async def test_one_ticket_lets_one_task_in(servers: list[Database]) -> None:
    results = await start_both(servers)
    assert results.count(1) == 1
    (refused,) = [result for result in results if isinstance(result, CadorError)]
    assert "the approval ticket was used by task" in str(refused)
    used = await servers[2].read(lambda tx: tx.tickets.by_approval_id("CHG-1"))
    assert used.used_by == ("v" if results[0] == 1 else "w", 1)


async def test_without_the_lock_on_the_ticket_it_would_let_in_two(
    servers: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_tickets, "LOCK_APPROVAL_ID", stored_tickets.BY_APPROVAL_ID)
    assert await start_both(servers) == [1, 1]


async def show_both(servers: list[Database]) -> list[str]:
    """Two workflows are shown in one view, on a server each, at one moment; what it shows then."""
    one, two, looker = servers
    view = Resource(views.KIND, "p", "ops", {"name": "ops", "workflow_list": []})
    await one.write(lambda tx: tx.resources.add(view))
    meeting = Meeting(2)

    def show(tx: Tx, key: str) -> None:
        find = tx.resources.find

        def found(*args: Any, **more: Any) -> Resource | None:
            resource = find(*args, **more)
            meeting.come(key)
            return resource

        tx.resources.find = found  # type: ignore[method-assign]
        try:
            views.add_to_view(tx, "p", "ops", key, "custom")
        finally:
            del tx.resources.find  # type: ignore[attr-defined]

    await together(looker, meeting, one.write(show, "v"), two.write(show, "w"))
    return sorted(await looker.read(lambda tx: views.enabled_in(tx, "p", "ops")))


async def test_changes_of_one_view_at_one_moment_both_count(servers: list[Database]) -> None:
    assert await show_both(servers) == ["v", "w"]


async def test_without_the_lock_a_change_of_what_was_read_before_is_made_again(
    servers: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "HOLD", stored.VERSION)
    assert await show_both(servers) == ["v", "w"]


async def test_without_the_lock_and_the_revision_one_would_be_lost(
    servers: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = stored.Resources.replace

    def write_over(self: stored.Resources, resource: Resource) -> None:
        self._connection.execute(stored.CHANGED)
        now = stored.Resources.find(self, resource.kind, resource.project, resource.name)
        assert now is not None
        write(self, replace(resource, revision=now.revision))

    monkeypatch.setattr(stored, "HOLD", stored.VERSION)
    monkeypatch.setattr(stored.Resources, "replace", write_over)
    assert len(await show_both(servers)) == 1
