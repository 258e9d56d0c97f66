"""A connection to MySQL or MariaDB."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final, Self

from asyncmy.connection import Connection
from asyncmy.constants.CLIENT import MULTI_STATEMENTS
from asyncmy.cursors import SSCursor
from asyncmy.errors import MySQLError

from cador.integrations.sql import CONNECT_S, STOP_S, ConnectFailed, StatementFailed

_ROWS: Final = 1_000
_NO_SUCH_THREAD: Final = 1094


class _Refused:
    """An authentication that would show the password to whoever asks for it."""

    def __init__(self, connection: Any) -> None:
        pass

    async def authenticate(self, packet: Any) -> Any:
        raise MySQLError(0, "the server wants the password in clear text")


class _Connection(Connection):
    """One statement at a time, whatever is in it; values as the server sends them; no files of this machine."""

    _client_flag: int

    def __init__(self, **options: Any) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # the driver has few types
            connect_timeout=CONNECT_S,
            charset="utf8mb4",
            autocommit=True,
            local_infile=False,
            cursor_cls=SSCursor,
            conv={},
            auth_plugin_map={b"mysql_clear_password": _Refused, b"mysql_old_password": _Refused},
            program_name="cador",
            **options,
        )
        self._client_flag &= ~MULTI_STATEMENTS


class MysqlSession:
    """See :class:`cador.integrations.sql.Session`."""

    def __init__(self, connection: _Connection, options: Mapping[str, Any]) -> None:
        self._connection, self._options = connection, options
        self._thread = connection.thread_id()

    @classmethod
    async def open(cls, arguments: Mapping[str, Any]) -> Self:
        """Raises: ConnectFailed."""
        options = {
            "host": arguments["host"],
            "port": arguments["port"],
            "user": arguments["username"],
            "password": arguments["password"].encode(),
            "database": arguments["database"] or None,
        }
        return cls(await _connect(options), options)

    async def execute(self, statement: str) -> int:
        try:
            cursor = self._connection.cursor()
            await cursor.execute(statement)
            rows = 0
            while True:
                if cursor.description is None:
                    rows += max(0, cursor.rowcount)
                else:
                    while read := await cursor.fetchmany(_ROWS):
                        rows += len(read)
                if not await cursor.nextset():
                    return rows
        except MySQLError as error:
            raise StatementFailed(_said(error)) from error
        except (OSError, EOFError, RuntimeError) as error:
            raise StatementFailed(f"the connection broke off: {error or type(error).__name__}") from error

    async def interrupt(self) -> None:
        """``KILL QUERY`` by a second connection, then the first one is cut: what it did not commit is undone."""
        try:
            async with asyncio.timeout(STOP_S):
                second = await _connect(self._options)
                try:
                    await second.query(f"KILL QUERY {self._thread}")  # type: ignore[no-untyped-call]  # as above
                finally:
                    second.close()
        except TimeoutError:
            raise ConnectFailed(f"no answer within {STOP_S:.0f} seconds") from None
        except MySQLError as error:
            if error.args[:1] != (_NO_SUCH_THREAD,):
                raise ConnectFailed(_said(error)) from error
        finally:
            self._connection.close()

    async def close(self) -> None:
        with contextlib.suppress(MySQLError, OSError, TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._connection.ensure_closed()


async def _connect(options: Mapping[str, Any]) -> _Connection:
    connection = _Connection(**options)
    try:
        await connection.connect()
    except MySQLError as error:
        raise ConnectFailed(_said(error)) from error
    except (OSError, EOFError, UnicodeError) as error:
        raise ConnectFailed(str(error) or type(error).__name__) from error
    return connection


def _said(error: MySQLError) -> str:
    """``Error 1146 (42S02): Table 'a.b' doesn't exist``."""
    number = error.args[0] if error.args else 0
    message = error.args[1] if len(error.args) > 1 else str(error)
    state = f" ({error.sqlstate})" if getattr(error, "sqlstate", None) else ""
    return f"Error {number}{state}: {message}" if number else str(message)
