"""The queue in the tables: what a pass reads, why a task waits, and that none of it walks through those that wait."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cador.domain.errors import NotFound
from cador.domain.sharing import Candidate, QueueLimits
from cador.domain.task import Slot, TaskStatus
from cador.ports.admission import Gate, QueueFacts
from cador.ports.stores import Database, Resource, Tx
from support.inline_database import InlineDatabase
from support.rows import start, workflow_row

pytestmark = pytest.mark.anyio

RUNNING: dict[str, Any] = {"status": TaskStatus.RUNNING, "slot": Slot.HELD}
GOES_ON: dict[str, Any] = {"status": TaskStatus.RUNNING, "slot": Slot.WANTED}
ASKS: dict[str, Any] = {"status": TaskStatus.RUNNING, "slot": Slot.NONE}


def put(tx: Tx, task_id: int, **fields: Any) -> None:
    """Bring a task into a state, without the machine."""
    task = tx.tasks.lock(task_id)
    tx.tasks.save(task, replace(task, **fields))


def add(tx: Tx, key: str, at: float, *, project: str = "p", person: str = "ann", **state: Any) -> int:
    task_id = start(tx, key, project=project, create_at=at, creator_id=person, jobs=())
    if state:
        put(tx, task_id, **state)
    return task_id


async def test_the_row_gives_its_limits_with_the_lock(database: Database) -> None:
    settings = QueueLimits(4, 2, 1)
    assert await database.write(lambda tx: tx.admission.lock()) == Gate()
    assert Gate().over(settings) == settings
    await database.write(lambda tx: tx.admission.set_limits(7, 0, None))
    await database.write(lambda tx: tx.admission.charge(2.5, {"p": 3.5}))
    gate = await database.write(lambda tx: tx.admission.lock())
    assert gate == Gate(7, 0, None, 2.5)
    assert gate.over(settings) == QueueLimits(7, 0, 1)


async def test_each_project_shows_its_oldest_with_the_room_of_its_workflow(database: Database) -> None:
    def arrange(tx: Tx) -> list[int]:
        for key, project, limit in (("none", "p", 0), ("two", "q", 2), ("any", "r", -1), ("full", "s", 1)):
            tx.workflows.add(workflow_row(key, project=project, limit=limit))
        tx.resources.add(Resource("project", "", "r", {"weight": 2}))
        for state in (RUNNING, ASKS, {"status": TaskStatus.CANCELLING, "slot": Slot.HELD}):
            add(tx, "full", 0.0, project="s", **state)
        add(tx, "two", 0.0, project="q", **RUNNING)
        tx.admission.charge(3.0, {"q": 5.0, "gone": 9.0})
        add(tx, "two", 1.0, project="q", status=TaskStatus.PASSED)
        return [
            add(tx, "none", 9.0),
            add(tx, "none", 4.0),
            add(tx, "two", 6.0, project="q", person="ben"),
            add(tx, "any", 7.0, project="r"),
            add(tx, "full", 5.0, project="s"),
            add(tx, "gone", 1.0, project="t"),
        ]

    ids = await database.write(arrange)
    held, lines = await database.read(lambda tx: tx.admission.lines(4))
    lines.sort(key=lambda line: line.project)
    assert held == 3
    assert [(line.project, line.vtime, line.weight, line.more) for line in lines] == [
        ("p", 0.0, 1.0, True), ("q", 5.0, 1.0, False), ("r", 0.0, 2.0, False), ("s", 0.0, 1.0, False),
        ("t", 0.0, 1.0, False),
    ]  # fmt: skip
    assert [line.head for line in lines] == [
        Candidate(ids[1], 4.0, "p", "none", "ann", False, 0),
        Candidate(ids[2], 6.0, "q", "two", "ben", False, 1),
        Candidate(ids[3], 7.0, "r", "any", "ann", False, -1),
        Candidate(ids[4], 5.0, "s", "full", "ann", False, 0),
        Candidate(ids[5], 1.0, "t", "gone", "ann", False, 0),
    ]
    assert await database.read(lambda tx: tx.admission.lines(3)) == (3, [])
    assert await database.read(lambda tx: tx.admission.held()) == 3
    assert sorted(await database.read(lambda tx: tx.admission.held_by())) == [("q", "ann", 1), ("s", "ann", 2)]


async def test_groups_are_of_one_workflow_and_one_person(database: Database) -> None:
    def arrange(tx: Tx) -> dict[str, int]:
        for key in ("a", "b"):
            tx.workflows.add(workflow_row(key, limit=5))
        ids = {}
        for at, name in enumerate(("a ann", "a ben", "a ann 2", "b ann", "b ann 2", "a ann on", "a ann on 2")):
            key, person, *rest = name.split()
            ids[name] = add(tx, key, float(at), person=person, **(GOES_ON if "on" in rest else {}))
        add(tx, "a", 0.0, project="other")
        return ids

    ids = await database.write(arrange)
    names = {task_id: name for name, task_id in ids.items()}

    def walk(tx: Tx) -> list[list[str]]:
        found = []
        for head in sorted(tx.admission.groups("p"), key=lambda task: task.id):
            group, task = [], head
            while task is not None:
                group.append(names[task.id])
                task = tx.admission.next_in_group(task)
            found.append(group)
        return found

    assert await database.read(walk) == [
        ["a ann", "a ann 2"], ["a ben"], ["b ann", "b ann 2"], ["a ann on", "a ann on 2"],
    ]  # fmt: skip

    def behind(tx: Tx) -> list[str]:
        first = next(line.head for line in tx.admission.lines(9)[1] if line.project == "p")
        return [names[task.id] for task in tx.admission.next_of("p", first, 3)]

    assert await database.read(behind) == ["a ben", "a ann 2", "b ann"]


async def test_why_a_task_waits_and_who_is_in_the_way(database: Database) -> None:
    def arrange(tx: Tx) -> dict[str, int]:
        for key, project, limit in (("none", "p", 0), ("one", "p", 1), ("any", "p", -1), ("other", "q", -1)):
            tx.workflows.add(workflow_row(key, project=project, limit=limit))
        add(tx, "one", 0.0, **RUNNING)
        add(tx, "other", 0.0, project="q", person="ben", **RUNNING)
        return {
            "none": add(tx, "none", 1.0),
            "one": add(tx, "one", 2.0),
            "on": add(tx, "one", 3.0, **GOES_ON),
            "any": add(tx, "any", 4.0, person="cid"),
            "ben": add(tx, "any", 5.0, person="ben"),
            "other": add(tx, "other", 6.0, project="q", person="cid"),
            "gone": add(tx, "gone", 7.0),
            "nobody": add(tx, "any", 8.0, person=""),
        }

    ids = await database.write(arrange)
    one, two, other = ("one", 1, "p"), ("one", 3, "p"), ("other", 1, "q")

    async def why(name: str, *limits: int) -> tuple[str, tuple[Any, ...]]:
        facts = await database.read(lambda tx: tx.admission.facts(ids[name], QueueLimits(*limits)))
        assert isinstance(facts, QueueFacts)
        return facts.reason, tuple(tuple(blocker) for blocker in facts.blocking)

    assert await why("none", 9) == ("not_executable", ())
    assert await why("gone", 9) == ("not_executable", ())
    assert await why("one", 9) == ("workflow_limit", (one, two))
    assert await why("on", 9) == ("", ())
    assert await why("on", 2) == ("global_limit", (one, other))
    assert await why("any", 9, 1) == ("project_cap", (one,))
    assert await why("ben", 9, 0, 1) == ("user_cap", (other,))
    assert await why("nobody", 9, 0, 1) == ("", ())
    assert await why("any", 9, 2, 1) == ("", ())
    await database.write(lambda tx: tx.admission.set_limits(2, None, None))
    assert await why("any", 9) == ("fair_share", (one, other)), "live limits come first; q is younger, and before it"
    assert await database.read(lambda tx: tx.admission.facts(ids["any"] - 4, QueueLimits(1))) is None, "it runs"
    with pytest.raises(NotFound):
        await database.read(lambda tx: tx.admission.facts(99, QueueLimits(1)))


async def test_positions_are_those_of_the_turns(database: Database) -> None:
    """What a pass over the same queue would do, told before."""

    def arrange(tx: Tx) -> list[int]:
        for key, project in (("a", "p"), ("b", "q"), ("c", "r")):
            tx.workflows.add(workflow_row(key, project=project))
        tx.resources.add(Resource("project", "", "q", {"weight": 2}))
        tx.admission.charge(4.0, {"p": 2.0, "r": 5.25})
        crowd = [add(tx, "a", float(at)) for at in range(6)]
        return [*crowd, *(add(tx, key, 50.0, project=p) for key, p in (("b", "q"), ("b", "q"), ("b", "q"), ("c", "r")))]

    ids = await database.write(arrange)
    places = [
        (await database.read(lambda tx, i=i: tx.admission.facts(i, QueueLimits(0)))).position for i in ids
    ]  # fmt: skip
    # Turns: p at 4, 5, 6, 7, 8, 9; q at 4, 4.5, 5; r at 5.25. Level ones: p is older.
    assert places == [1, 4, 7, 8, 9, 10, 2, 3, 5, 6]


# -- no walking through those who wait


def steps(tx: Any, call: Callable[[], Any]) -> int:
    """Tens of instructions that SQLite carries out for *call*: the same on every machine."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    driver = tx.connection.connection.dbapi_connection
    driver.set_progress_handler(tick, 10)
    try:
        call()
    finally:
        driver.set_progress_handler(None, 10)
    return count


READS: dict[str, Callable[[Tx], Any]] = {
    "lines": lambda tx: tx.admission.lines(9),
    "next_of": lambda tx: tx.admission.next_of("p", tx.admission.lines(9)[1][0].head, 8),
    "groups": lambda tx: tx.admission.groups("p"),
    "next_in_group": lambda tx: tx.admission.next_in_group(tx.admission.groups("p")[0]),
    "held": lambda tx: tx.admission.held(),
    "held_by": lambda tx: tx.admission.held_by(),
}


async def test_a_long_queue_costs_no_more_than_a_short_one() -> None:
    """Behind a full workflow, and with a history of ended tasks of it."""

    def measure(tx: Tx) -> dict[str, int]:
        return {name: steps(tx, lambda read=read: read(tx)) for name, read in READS.items()}

    database = InlineDatabase(lambda: 1.0)

    def arrange(tx: Tx) -> None:
        tx.workflows.add(workflow_row("full", limit=1))
        tx.workflows.add(workflow_row("free", limit=-1))
        add(tx, "full", 0.0, **RUNNING)
        add(tx, "free", 1e6)
        for at in range(60):
            add(tx, "full", 1.0 + at)

    def more(tx: Tx) -> None:
        for at in range(300):
            add(tx, "full", 1000.0 + at)
            add(tx, "full", 0.0, status=TaskStatus.PASSED)

    await database.write(arrange)
    short = await database.read(measure)
    await database.write(more)
    long = await database.read(measure)
    for name in READS:
        assert 0 < long[name] <= short[name] + 5, (name, short, long)
    await database.close()


@pytest.mark.parametrize("name", ["lines", "next_of", "groups", "next_in_group"])
async def test_every_step_is_a_search_of_an_index(name: str) -> None:
    from cador.storage import admission_statements as sql

    statement = {"lines": sql.LINES, "next_of": sql.NEXT, "groups": sql.GROUPS, "next_in_group": sql.NEXT_IN_GROUP}
    database = InlineDatabase(lambda: 1.0)

    def explain(tx: Any) -> list[str]:
        compiled = statement[name].compile(tx.connection.engine)
        arguments = tuple(1 for _ in compiled.positiontup or ())
        rows = tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", arguments)
        return [row.detail for row in rows]

    found = await database.read(explain)
    tables = [step for step in found if step.startswith(("SEARCH", "SCAN"))]
    assert tables
    for step in tables:
        jumping = step in ("SCAN heads", "SCAN groups", "SCAN CONSTANT ROW")
        first = step == "SCAN next USING COVERING INDEX ix_workflow_task_waits_of"  # its first row alone
        assert step.startswith("SEARCH") or jumping or first or "ix_workflow_task_holds" in step, found
    assert not [step for step in found if "B-TREE" in step], found
    await database.close()


@pytest.mark.postgres
async def test_postgres_searches_indexes_too(postgres_database: Database) -> None:
    """Rows that its plans touch, with statistics of a long queue behind a full workflow."""
    from cador.storage import admission_statements as sql

    def arrange(tx: Tx) -> Candidate:
        for key, project, limit in (("full", "p", 1), ("free", "p", -1), ("other", "q", 2)):
            tx.workflows.add(workflow_row(key, project=project, limit=limit))
        add(tx, "full", 0.0, **RUNNING)
        for at in range(400):
            add(tx, "full", 1.0 + at)
            add(tx, "full", 0.0, status=TaskStatus.PASSED)
        add(tx, "other", 5.0, project="q")
        add(tx, "free", 900.0)
        return tx.admission.lines(9)[1][0].head

    def rows_touched(node: dict[str, Any]) -> float:
        own = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        scans = own if node["Node Type"].endswith("Scan") and "Relation Name" in node else 0
        return float(scans + sum(rows_touched(inner) for inner in node.get("Plans", ())))

    def touched(tx: Any, statement: Any, values: dict[str, Any]) -> float:
        compiled = statement.compile(dialect=tx.connection.dialect)
        text = f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}"
        found = tx.connection.connection.dbapi_connection.execute(text, {**compiled.params, **values}).fetchone()
        return rows_touched(found[0][0]["Plan"])

    head = await postgres_database.write(arrange)
    await postgres_database.write(lambda tx: tx.connection.exec_driver_sql("ANALYZE"))
    after = {"project": "p", "after_at": head.waits_at, "after_id": head.id}
    group = {"slot": "none", "workflow_key": "full", "creator_id": "ann"}
    for statement, values, most in (
        (sql.LINES, {"slots": 9}, 60),
        (sql.NEXT, {**after, "limit": 8}, 60),
        (sql.GROUPS, {"project": "p"}, 60),
        (sql.NEXT_IN_GROUP, {**after, **group}, 20),
    ):
        count = await postgres_database.read(touched, statement, values)
        assert 0 < count <= most, (statement, count)
