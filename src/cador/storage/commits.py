"""Tasks by commit. No lookup goes through the history of tasks: each reads an index from where it begins.

What begins with a prefix is a range of the index, nearly always a small one: it is read whole and the newest tasks of
it are taken. Where it holds too many tasks, few commits are read one by one, each from its newest task. A prefix of one
or two characters fits thousands of commits, so that it fits many tasks, too: then the newest tasks are walked.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, exists, func, select, tuple_

from cador.ports.stores import TaskRow
from cador.storage import dialect
from cador.storage.lane import Lane
from cador.storage.tables import TASK_LISTED, task_commit, workflow_task
from cador.storage.task_statements import ROW_FIELDS, WAITING_FOR

_COMMIT: Final = re.compile(r"[0-9a-f]{4,64}", re.ASCII)
_PREFIX: Final = re.compile(r"[0-9a-f]{1,64}", re.ASCII)
_LAST: Final = 2**63 - 1
_BEYOND: Final = "g"
"""Behind every digit of a commit id."""
MOST_MATCHES: Final = 10_000
"""How many entries of the index are read whole."""
MOST_PAIRS: Final = 10
"""Commits, or rather pairs of commit and project, whose tasks are read one by one: a statement or two for each."""
WINDOW: Final = 50_000
"""How many of the newest tasks a very short prefix is looked for in."""
MOST_PROJECTS: Final = 50
"""In how many projects a very short prefix is looked for project by project."""
PROJECTS_WINDOW: Final = 4_000
"""How many of the newest tasks of such projects, all together."""

t, c = workflow_task.c, task_commit.c

ADD: Final = (
    dialect.insert(task_commit)
    .values({name: bindparam(name) for name in ("commit_id", "project", "task_id")})
    .on_conflict_do_nothing(index_elements=[c.commit_id, c.project, c.task_id])
)
FORGET: Final = delete(task_commit).where(c.task_id.in_(bindparam("ids", expanding=True)))
_matching = (
    select(c.task_id, c.project)
    .where(c.commit_id >= bindparam("commit"), c.commit_id < bindparam("beyond"))
    .limit(bindparam("most"))
    .subquery()
)
COUNT: Final = select(func.count()).select_from(_matching)
_FOUND: Final = (
    select(_matching.c.task_id)
    .where(_matching.c.task_id <= bindparam("last"))
    .distinct()
    .order_by(_matching.c.task_id.desc())
    .limit(bindparam("limit"))
)
FOUND: Final = _FOUND
FOUND_PROJECTS: Final = _FOUND.where(_matching.c.project.in_(bindparam("projects", expanding=True)))
ROWS: Final = select(*(t[name] for name in ROW_FIELDS), WAITING_FOR).where(
    t.id.in_(bindparam("ids", expanding=True)), TASK_LISTED
)
NEXT: Final = (
    select(c.commit_id, c.project)
    .where(
        tuple_(c.commit_id, c.project) > tuple_(bindparam("commit"), bindparam("project")),
        c.commit_id < bindparam("beyond"),
    )
    .order_by(c.commit_id, c.project)
    .limit(1)
)
_JOINED: Final = (
    select(*(t[name] for name in ROW_FIELDS), WAITING_FOR)
    .select_from(task_commit.join(workflow_task, t.id == c.task_id))
    .where(TASK_LISTED)
)
PAGE: Final = (
    _JOINED.where(c.commit_id == bindparam("commit"), c.project == bindparam("project"))
    .order_by(c.task_id.desc())
    .limit(bindparam("limit"))
)
NEWEST: Final = select(func.max(c.task_id))
# The prefix is compared by a function so that no database takes it for a range to collect and sort.
_WALK: Final = (
    _JOINED.where(
        c.task_id.between(bindparam("first"), bindparam("last")),
        func.substr(c.commit_id, 1, bindparam("length")) == bindparam("prefix"),
    )
    .order_by(c.task_id.desc())
    .limit(bindparam("limit"))
)
WALK: Final = _WALK
WALK_PROJECTS: Final = _WALK.where(c.project.in_(bindparam("projects", expanding=True)))
# Of the newest tasks of one project those that have such a commit.
_recent = (
    select(t.id, t.create_at)
    .where(t.project == bindparam("project"), TASK_LISTED)
    .order_by(t.create_at.desc(), t.id.desc())
    .limit(bindparam("window"))
    .subquery()
)
NEWEST_OF: Final = (
    select(_recent.c.id)
    .where(
        exists().where(
            c.task_id == _recent.c.id,
            c.commit_id >= bindparam("commit"),
            c.commit_id < bindparam("beyond"),
        )
    )
    .order_by(_recent.c.create_at.desc(), _recent.c.id.desc())
    .limit(bindparam("limit"))
)


def commit_values(task_id: int, project: str, commits: Iterable[str]) -> list[dict[str, Any]]:
    """Rows for ``ADD``, each commit once."""
    ids = dict.fromkeys(commit.strip().lower() for commit in commits)
    return [
        {"commit_id": commit, "project": project, "task_id": task_id} for commit in ids if _COMMIT.fullmatch(commit)
    ]


def _task_row(row: Sequence[Any]) -> TaskRow:
    return TaskRow(*row)


class Commits:
    """Implements ``ports.commits.CommitStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lane = Lane(connection)

    def add(self, task_id: int, project: str, commits: Iterable[str]) -> None:
        self._lane.change_each(ADD, commit_values(task_id, project, commits))

    def forget(self, ids: Sequence[int]) -> None:
        self._connection.execute(FORGET, {"ids": list(ids)})

    def tasks_of(self, prefix: str, projects: Collection[str] | None, limit: int) -> list[TaskRow]:
        prefix = prefix.strip().lower()
        if not _PREFIX.fullmatch(prefix) or (projects is not None and not projects):
            return []
        between = {"commit": prefix, "beyond": prefix + _BEYOND}
        matches = self._lane.value(COUNT, between | {"most": MOST_MATCHES + 1})
        if matches <= MOST_MATCHES:
            return self._range(between, projects, limit)
        pairs = []
        for pair in self._pairs(prefix):
            pairs.append(pair)
            if len(pairs) > MOST_PAIRS:
                if projects is not None and len(projects) <= MOST_PROJECTS:
                    return self._newest(between, projects, limit)
                return self._walk(prefix, projects, limit)
        found: dict[int, TaskRow] = {}
        for commit, project in pairs:
            if projects is None or project in projects:
                for row in self._lane.rows(PAGE, {"commit": commit, "project": project, "limit": limit}):
                    found.setdefault(row[0], _task_row(row))
        newest = sorted(found.values(), key=lambda row: (row.create_at, row.id), reverse=True)
        return newest[:limit]

    def _range(self, between: dict[str, Any], projects: Collection[str] | None, limit: int) -> list[TaskRow]:
        statement, values = FOUND, between | {"most": MOST_MATCHES, "limit": limit}
        if projects is not None:
            statement, values["projects"] = FOUND_PROJECTS, sorted(projects)
        found: list[TaskRow] = []
        last = _LAST
        while len(found) < limit:  # some may be archived
            ids = self._connection.execute(statement, values | {"last": last}).scalars().all()
            if not ids:
                break
            found += self._rows(ids)
            last = ids[-1] - 1
        return found[:limit]

    def _newest(self, between: dict[str, Any], projects: Collection[str], limit: int) -> list[TaskRow]:
        values = between | {"window": PROJECTS_WINDOW // len(projects), "limit": limit}
        ids = [
            ident
            for project in sorted(projects)
            for ident in self._connection.execute(NEWEST_OF, values | {"project": project}).scalars()
        ]
        return self._rows(sorted(ids, reverse=True)[:limit])

    def _rows(self, ids: Sequence[int]) -> list[TaskRow]:
        """The listed ones, newest first."""
        if not ids:
            return []
        rows = map(_task_row, self._connection.execute(ROWS, {"ids": list(ids)}).all())
        return sorted(rows, key=lambda row: (row.create_at, row.id), reverse=True)

    def _pairs(self, prefix: str) -> Iterator[tuple[str, str]]:
        at: tuple[Any, ...] | None = (prefix, "")
        while at is not None:
            at = self._lane.row(NEXT, {"commit": at[0], "project": at[1], "beyond": prefix + _BEYOND})
            if at is not None:
                yield at[0], at[1]

    def _walk(self, prefix: str, projects: Collection[str] | None, limit: int) -> list[TaskRow]:
        last = self._lane.value(NEWEST) or 0
        values: dict[str, Any] = {"prefix": prefix, "length": len(prefix), "first": last - WINDOW, "limit": limit}
        statement = WALK
        if projects is not None:
            statement, values["projects"] = WALK_PROJECTS, sorted(projects)
        found: dict[int, TaskRow] = {}
        while len(found) < limit:  # a task may have several such commits
            rows = self._connection.execute(statement, values | {"last": last}).all()
            if not rows:
                break
            found |= {row[0]: _task_row(row) for row in rows}
            last = rows[-1][0] - 1
        return sorted(found.values(), key=lambda row: (row.create_at, row.id), reverse=True)[:limit]
