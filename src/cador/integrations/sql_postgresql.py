"""A connection to PostgreSQL."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import psycopg
from psycopg import pq

from cador.integrations.sql import CONNECT_S, STOP_S, ConnectFailed, StatementFailed

_ROWS: Final = 1_000
_COPIES: Final = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)


class PostgresqlSession:
    """See :class:`cador.integrations.sql.Session`."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection, self._pg = connection, connection.pgconn

    @classmethod
    async def open(cls, arguments: Mapping[str, Any], notice: Callable[[str], None]) -> Self:
        """*notice*: told of notices and warnings. Raises: ConnectFailed."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                host=arguments["host"],
                port=arguments["port"],
                user=arguments["username"],
                password=arguments["password"],
                dbname=arguments["database"] or "postgres",
                connect_timeout=int(CONNECT_S),
                client_encoding="utf8",
                application_name="cador",
                autocommit=True,
                passfile="/nonexistent",  # that of the account of this server is none of the jobs'
            )
        except (psycopg.Error, OSError, UnicodeError) as error:
            raise ConnectFailed(" ".join(str(error).split()) or type(error).__name__) from error
        connection.add_notice_handler(lambda told: notice(f"{told.severity}: {told.message_primary}"))
        return cls(connection)

    async def execute(self, statement: str) -> int:
        """By the extended protocol, which takes one statement and no more, a few rows at a time."""
        if "\0" in statement:
            raise StatementFailed("the statement holds a zero byte")
        rows, error = 0, ""
        try:
            self._pg.send_query_params(statement.encode("utf-8", "replace"), None)
            if psycopg.capabilities.has_stream_chunked():
                self._pg.set_chunked_rows_mode(_ROWS)
            else:
                self._pg.set_single_row_mode()
            while self._pg.flush():
                await self._ready(writing=True)
                self._pg.consume_input()
            while (result := await self._result()) is not None:
                status = pq.ExecStatus(result.status)
                if status in _COPIES:
                    self._connection.pgconn.finish()
                    raise StatementFailed("COPY from or to the client is not possible here")
                if status is pq.ExecStatus.FATAL_ERROR:
                    error = _said(result)
                elif status is pq.ExecStatus.COMMAND_OK:
                    rows += result.command_tuples or 0
                else:
                    rows += result.ntuples
                result.clear()
        except psycopg.Error as broken:
            raise StatementFailed(" ".join(str(broken).split())) from broken
        if error:
            raise StatementFailed(error)
        return rows

    async def interrupt(self) -> None:
        try:
            await self._connection.cancel_safe(timeout=STOP_S)
        except (psycopg.Error, OSError) as error:
            raise ConnectFailed(" ".join(str(error).split()) or type(error).__name__) from error

    async def close(self) -> None:
        with contextlib.suppress(psycopg.Error, OSError):
            await self._connection.close()

    async def _result(self) -> Any:
        while self._pg.is_busy():
            await self._ready(writing=False)
            self._pg.consume_input()
        return self._pg.get_result()

    async def _ready(self, *, writing: bool) -> None:
        """Wait until the socket can be read, or, *writing*, be written or read."""
        loop, socket = asyncio.get_running_loop(), self._pg.socket
        ready: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(socket, wake)
        if writing:
            loop.add_writer(socket, wake)
        try:
            await ready
        finally:
            loop.remove_reader(socket)
            if writing:
                loop.remove_writer(socket)


def _said(result: Any) -> str:
    """``ERROR: relation "a" does not exist (SQLSTATE 42P01)``, with detail and hint behind it."""

    def field(which: pq.DiagnosticField) -> str:
        return (result.error_field(which) or b"").decode("utf-8", "replace")

    fields = pq.DiagnosticField
    text = f"{field(fields.SEVERITY)}: {field(fields.MESSAGE_PRIMARY)} (SQLSTATE {field(fields.SQLSTATE)})"
    more = [field(which) for which in (fields.MESSAGE_DETAIL, fields.MESSAGE_HINT) if field(which)]
    return "; ".join([text, *more])
