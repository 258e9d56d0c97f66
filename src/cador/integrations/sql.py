"""Action ``sql``: statements on one connection to a database, in order, until the first error.

Every statement commits by itself unless the text says otherwise; rows of results are counted and thrown away as they
come. Arguments: ``name``, ``type`` (``mysql``, ``mariadb``, ``postgresql``), ``host``, ``port``, ``username``,
``password``, ``database`` (``""``: none), ``sql``.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from cador.jobs.server import FACTS
from cador.jobs.sql_statements import split
from cador.ports.actions import ActionFailed, ActionRun

CONNECT_S: Final = 5.0
STOP_S: Final = 5.0
"""How long a running statement is given to be stopped on the database."""
MOST_STATEMENTS: Final = 10_000
_SHOWN: Final = 200
_IN_ERRORS: Final = 2_000
_KEPT: Final = 65_536
_INT32: Final = 2**31 - 1


class StatementFailed(Exception):
    """The database refused a statement; ``str()`` is what it said."""


class Session(Protocol):
    """One connection. ``execute`` is not called again after it was cancelled."""

    async def execute(self, statement: str) -> int:
        """Run exactly one statement; returns the rows it changed or returned. Raises: StatementFailed."""

    async def interrupt(self) -> None:
        """Stop on the database what an ``execute`` began that was cancelled. Raises: ConnectFailed: it may run on."""

    async def close(self) -> None: ...


class ConnectFailed(Exception):
    """No connection; ``str()`` is why, without credentials."""


async def run_sql(run: ActionRun, arguments: Mapping[str, Any]) -> None:
    """See :data:`cador.ports.actions.Action`."""
    statements = await asyncio.to_thread(split, arguments["sql"], arguments["type"])
    if not statements:
        raise ActionFailed("SQL is empty")
    if len(statements) > MOST_STATEMENTS:
        raise ActionFailed(
            f"{len(statements)} statements are more than {MOST_STATEMENTS}: run them with a client of the database"
        )
    results = _Results(run, statements)
    try:
        try:
            session = await open_session(arguments, run.line)
        except ConnectFailed as error:
            raise ActionFailed(f"{_where(arguments)}: {error}") from error
        try:
            for number, statement in enumerate(statements):
                await _execute(run, session, results, number, statement)
        finally:
            await session.close()
    finally:
        results.leave()


async def check_database(arguments: Mapping[str, Any]) -> None:
    """Whether a connection can be made. Raises: ConnectFailed."""
    try:
        session = await open_session(arguments, lambda text: None)
    except ConnectFailed as error:
        raise ConnectFailed(f"{_where(arguments)}: {error}") from error
    await session.close()


async def open_session(arguments: Mapping[str, Any], notice: Callable[[str], None]) -> Session:
    """*notice* is told what the database remarks besides. Raises: ConnectFailed."""
    try:
        async with asyncio.timeout(CONNECT_S):
            if arguments["type"] == "postgresql":
                from cador.integrations.sql_postgresql import PostgresqlSession

                return await PostgresqlSession.open(arguments, notice)
            from cador.integrations.sql_mysql import MysqlSession

            return await MysqlSession.open(arguments)
    except TimeoutError:
        raise ConnectFailed(f"no answer within {CONNECT_S:.0f} seconds") from None


async def _execute(run: ActionRun, session: Session, results: "_Results", number: int, statement: str) -> None:
    run.line(f"statement {number + 1} of {len(results.statements)}: {run.mask(_brief(statement))}")
    began = time.monotonic()
    try:
        rows = await session.execute(statement)
    except asyncio.CancelledError:
        results.note(number, "failed", 0, time.monotonic() - began)
        run.line(f"statement {number + 1}: is being stopped")
        try:
            await session.interrupt()
        except ConnectFailed as error:
            run.line(f"statement {number + 1}: could not be stopped and may still run on the database: {error}")
        raise
    except StatementFailed as error:
        results.note(number, "failed", 0, time.monotonic() - began)
        raise ActionFailed(f'exec SQL "{_cut(statement, _IN_ERRORS)}" error: {error}') from error
    took_s = time.monotonic() - began
    results.note(number, "success", rows, took_s)
    run.line(f"statement {number + 1}: success, {rows} row{'s' * (rows != 1)}, {took_s * 1000:.0f} ms")


class _Results:
    def __init__(self, run: ActionRun, statements: Sequence[str]) -> None:
        self._run = run
        self.statements = statements
        self._done: dict[int, tuple[str, int, int]] = {}

    def note(self, number: int, status: str, rows: int, took_s: float) -> None:
        self._done[number] = status, min(rows, _INT32), round(took_s * 1000)

    def leave(self) -> None:
        shown = []
        for number, statement in enumerate(self.statements):
            status, rows, took_ms = self._done.get(number, ("not_exec", 0, 0))
            text = self._run.mask(_cut(statement, _KEPT))
            shown.append({"sql": text, "elapsed_time": took_ms, "rows_affected": rows, "status": status})
        self._run.leave(FACTS, json.dumps({"results": shown}, ensure_ascii=False))


def _where(arguments: Mapping[str, Any]) -> str:
    return f"cannot connect to database {arguments['name']} ({arguments['host']}:{arguments['port']})"


def _brief(statement: str) -> str:
    first, _, more = statement.partition("\n")
    return _cut(first, _SHOWN) if len(first) > _SHOWN or not more else f"{first} ..."


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
