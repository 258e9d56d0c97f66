"""Tasks by commit: both databases, and what SQLite reads for it."""

from typing import Any

import pytest

from cador.ports.stores import Database, Tx
from cador.storage import commits
from cador.storage.tables import task_commit
from support.rows import start

pytestmark = pytest.mark.anyio

ONE, TWO, THREE = "a1312099" + "0" * 32, "a1312099" + "1" * 32, "b0" + "2" * 38


async def numbers(database: Database, prefix: str, projects: Any = None, limit: int = 100) -> list[tuple[str, float]]:
    rows = await database.read(lambda tx: tx.commits.tasks_of(prefix, projects, limit))
    return [(row.workflow_key, row.create_at) for row in rows]


def fill(tx: Tx) -> list[int]:
    return [
        start(tx, "a", project="p", create_at=10.0, commits=(ONE, THREE)),
        start(tx, "b", project="p", create_at=30.0, commits=(ONE.upper(), TWO, ONE)),
        start(tx, "c", project="q", create_at=20.0, commits=(ONE,)),
        start(tx, "d", project="q", create_at=40.0, commits=("", "HEAD", "refs/heads/main")),
        start(tx, "e", project="p", create_at=50.0),
    ]


@pytest.mark.parametrize(
    "mosts",
    [{}, {"MATCHES": 0}, {"MATCHES": 0, "PAIRS": 0}, {"MATCHES": 0, "PAIRS": 0, "PROJECTS": 0}],
    ids=["a range", "by commit", "by project", "walking"],
)
async def test_tasks_are_found_by_what_a_commit_begins_with(
    database: Database, mosts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in mosts.items():
        monkeypatch.setattr(commits, f"MOST_{name}", most)
    await database.write(fill)
    assert await numbers(database, ONE) == [("b", 30.0), ("c", 20.0), ("a", 10.0)]
    assert await numbers(database, " A1312099 ") == [("b", 30.0), ("c", 20.0), ("a", 10.0)]
    assert await numbers(database, "a") == [("b", 30.0), ("c", 20.0), ("a", 10.0)]
    assert await numbers(database, TWO) == [("b", 30.0)]
    assert await numbers(database, "b") == [("a", 10.0)]
    assert await numbers(database, "a1312099", ["q"]) == [("c", 20.0)]
    assert await numbers(database, "a1312099", []) == []
    assert await numbers(database, "a1312099", ["p", "q", "none"]) == [("b", 30.0), ("c", 20.0), ("a", 10.0)]
    assert await numbers(database, "a", ["p"], limit=1) == [("b", 30.0)]
    assert await numbers(database, "a", limit=2) == [("b", 30.0), ("c", 20.0)]


@pytest.mark.parametrize("prefix", ["", "HEAD", "%", "a1_", "a" * 65, "ａ", "a\x00", ONE + "0"])
async def test_what_no_commit_begins_with_finds_nothing(database: Database, prefix: str) -> None:
    await database.write(fill)
    assert await numbers(database, prefix) == []


async def test_later_commits_are_added_once(database: Database) -> None:
    ids = await database.write(fill)
    for _ in range(2):
        await database.write(lambda tx: tx.commits.add(ids[4], "p", (TWO, TWO)))
    assert await numbers(database, TWO) == [("e", 50.0), ("b", 30.0)]


async def test_archived_and_deleted_tasks_are_not_found(database: Database) -> None:
    ids = await database.write(fill)
    await database.write(lambda tx: tx.housekeeping.mark("b", 0, 99, 99))
    await database.write(lambda tx: tx.housekeeping.archive([ids[2]], 99.0))
    assert await numbers(database, "a1312099") == [("a", 10.0)]
    await database.write(lambda tx: tx.housekeeping.remove([ids[0]]))
    assert await numbers(database, "a1312099") == []
    left = await database.read(lambda tx: tx.connection.execute(task_commit.select()).all())  # type: ignore[attr-defined]
    assert {row.task_id for row in left} == {ids[1], ids[2]}
    await database.write(lambda tx: tx.commits.forget([ids[2]]))
    left = await database.read(lambda tx: tx.connection.execute(task_commit.select()).all())  # type: ignore[attr-defined]
    assert {row.task_id for row in left} == {ids[1]}


@pytest.mark.parametrize(
    ("statement", "values", "wanted"),
    [
        (commits.NEXT, {}, ["SEARCH task_commit USING COVERING INDEX sqlite_autoindex_task_commit_1"]),
        (
            commits.PAGE,
            {},
            ["SEARCH task_commit USING COVERING INDEX sqlite_autoindex_task_commit_1", "SEARCH workflow_task USING"],
        ),
        (
            commits.WALK,
            {},
            ["SEARCH task_commit USING COVERING INDEX ix_task_commit_task_id_commit_id", "SEARCH workflow_task USING"],
        ),
        (commits.WALK_PROJECTS, {"projects": ["p"]}, ["SEARCH task_commit USING", "SEARCH workflow_task USING"]),
        (commits.ROWS, {"ids": [1]}, ["SEARCH workflow_task USING INTEGER PRIMARY KEY"]),
    ],
    ids=["next", "page", "walk", "walk projects", "rows"],
)
async def test_no_lookup_scans_or_sorts(
    sqlite_database: Database, statement: Any, values: dict[str, Any], wanted: list[str]
) -> None:
    def explain(tx: Any) -> list[str]:
        names = ("commit", "project", "beyond", "prefix", "length", "first", "last", "limit")
        compiled = statement.compile(tx.connection.engine)
        state = compiled.construct_expanded_state(dict.fromkeys(names, 1) | values)
        rows = tx.connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {state.statement}", tuple(state.positional_parameters)
        ).all()
        return [row.detail for row in rows if row.detail.startswith(("SCAN", "SEARCH", "USE"))]

    steps = [step for step in await sqlite_database.read(explain) if "approval" not in step]
    assert len(steps) == len(wanted), steps
    for step, begins in zip(steps, wanted, strict=True):
        assert step.startswith(begins), steps
