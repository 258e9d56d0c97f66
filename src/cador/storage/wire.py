"""Statements to PostgreSQL in few round trips, over the connection of psycopg and beside its cursors.

A round trip to the database server costs two switches between processes and, in a program of threads, two turns at the
interpreter lock; a job causes some sixty statements. So what only writes waits here, in order, until an answer is
wanted or the transaction ends, and goes along then; several statements travel as one libpq pipeline. BEGIN waits like
that, too, and nobody waits for the COMMIT of a transaction that only read. Statements are prepared once per connection.
Values go as text, bytes as they are; rows come in binary and are read by psycopg.
"""

import select
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from sqlalchemy import Connection

Said: TypeAlias = tuple[str, Sequence[Any]]
"""A statement with ``$1``, ``$2`` ... and the values for these."""

_OK: Final = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
_READ: Final = select.POLLIN | select.POLLERR | select.POLLHUP


_BEGIN_WRITE: Final[tuple[Said, ...]] = (
    ("BEGIN", ()),
    ("SELECT pg_current_xact_id()::text, extract(epoch FROM clock_timestamp())::float8", ()),
)
_BEGIN_READ: Final[tuple[Said, ...]] = (
    ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ()),
    ("SELECT ''::text, extract(epoch FROM clock_timestamp())::float8", ()),
)
_COMMIT: Final[Said] = ("COMMIT", ())


class Answer:
    """What one statement came to."""

    __slots__ = ("_result", "_transformer")

    def __init__(self, result: "pq.abc.PGresult", transformer: Any) -> None:
        self._result, self._transformer = result, transformer

    def rows(self) -> list[tuple[Any, ...]]:
        result = self._result
        if not result.ntuples:
            return []
        self._transformer.set_pgresult(result, set_loaders=True, format=pq.Format.BINARY)
        rows: list[tuple[Any, ...]] = self._transformer.load_rows(0, result.ntuples, tuple)
        return rows

    def changed(self) -> int:
        return self._result.command_tuples or 0


class _Sent:
    """What is under way. ``steps``: what each result belongs to: the text of a PREPARE, empty for a statement.
    ``names``: of what is prepared in it, by text."""

    __slots__ = ("names", "steps")

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.names: dict[str, bytes] = {}


class Wire:
    """One connection's. Of one thread."""

    __slots__ = ("_begun", "_connection", "_names", "_opening", "_owed", "_poll", "_transformer", "_waiting")

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        self._transformer = Transformer(connection)
        self._names: dict[str, bytes] = {}
        self._waiting: list[Said] = []
        self._opening: tuple[Said, ...] = ()
        """What begins the transaction and was not said yet."""
        self._begun: tuple[str, float, float] | None = None
        self._owed: _Sent | None = None
        """Whose answers nobody waits for, still to come."""
        self._poll = select.poll()
        self._poll.register(connection.pgconn.socket, _READ)

    def later(self, text: str, values: Sequence[Any]) -> None:
        """Say this with what is said next."""
        self._waiting.append((text, values))

    # -- transactions

    def begin(self, *, read_only: bool) -> None:
        """With the next statement. Forgets what waits."""
        self._waiting.clear()
        self._begun = None
        self._opening = _BEGIN_READ if read_only else _BEGIN_WRITE

    def begun(self) -> tuple[float, float]:
        """When the transaction began: Unix seconds of the server's clock, and the same moment of the monotonic one.

        Raises: psycopg.Error."""
        if self._begun is None:
            self.say()
        if self._begun is None:
            raise RuntimeError("no transaction was begun")
        return self._begun[1:]

    def commit(self) -> None:
        """Say what waits and COMMIT. Raises: psycopg.Error: of what waited, or of the COMMIT."""
        if self._opening and not self._waiting:
            self._opening = ()
            return
        self.begun()  # who loses the reply of a COMMIT asks for the transaction by its id
        self.say(_COMMIT)

    def leave(self) -> None:
        """End a transaction that only read, without waiting for the answer. Raises: psycopg.Error."""
        if not self._opening:
            self._owed = self._send([_COMMIT])
        self._opening = ()

    def roll_back(self) -> None:
        """Take the transaction back, whatever became of it. Raises: psycopg.Error: the connection is lost."""
        self._waiting.clear()
        if self._opening:  # nothing of it was said
            self._opening = ()
        else:
            self.say(("ROLLBACK", ()))

    @property
    def xid(self) -> str:
        """Of the transaction; empty as long as nothing was said in it."""
        return self._begun[0] if self._begun is not None else ""

    # -- statements

    def say(self, *more: Said) -> list[Answer]:
        """Say what waits, then *more*; the answers to *more*.

        Raises: psycopg.Error: of the first statement that failed; those after it were not carried out."""
        waiting, self._waiting = self._waiting, []
        opening, self._opening = self._opening, ()
        said = [*opening, *waiting, *more]
        self._pay()
        if not said:
            return []
        asked = time.monotonic()  # before: what comes along may wait for others for long
        if len(said) == 1 and (name := self._names.get(said[0][0])) is not None:
            values, formats = _wired(said[0][1])
            results = [self._connection.pgconn.exec_prepared(name, values, formats, pq.Format.BINARY)]  # type: ignore[arg-type]  # None is NULL
            self._look(results)
        else:
            results = self._pipeline(said)
        if opening:
            ((xid, now),) = Answer(results[1], self._transformer).rows()
            self._begun = (xid, now, asked)
        return [Answer(result, self._transformer) for result in results[len(said) - len(more) :]]

    def _pipeline(self, said: list[Said]) -> "list[pq.abc.PGresult]":
        return self._receive(self._send(said))

    def _send(self, said: list[Said]) -> "_Sent":
        connection = self._connection.pgconn
        sent = _Sent()
        wired = [_wired(values) for _, values in said]  # a value that cannot be said leaves nothing half said
        connection.enter_pipeline_mode()
        try:
            for (text, _), (values, formats) in zip(said, wired, strict=True):
                name = self._names.get(text) or sent.names.get(text)
                if name is None:
                    word = text if text.isalpha() else f"cador_{len(self._names) + len(sent.names)}"
                    name = sent.names[text] = word.encode()
                    connection.send_prepare(name, text.encode())
                    sent.steps.append(text)
                connection.send_query_prepared(name, values, formats, pq.Format.BINARY)
                sent.steps.append("")
            connection.pipeline_sync()
            self._flush()
        except psycopg.Error:
            self._give_up()
            raise
        return sent

    def _receive(self, sent: "_Sent") -> "list[pq.abc.PGresult]":
        """The results of the statements; of what was prepared the name is kept.

        Raises: psycopg.Error: of the first that failed."""
        try:
            results = [self._result() for _ in sent.steps]
            self._sync()
        except psycopg.Error:
            self._give_up()
            raise
        self._connection.pgconn.exit_pipeline_mode()
        for text, result in zip(sent.steps, results, strict=True):
            if text and result.status in _OK:
                self._names[text] = sent.names[text]
        self._look(results)
        return [result for text, result in zip(sent.steps, results, strict=True) if not text]

    def _pay(self) -> None:
        """Hear what nobody waited for. Raises: psycopg.Error: the connection is lost."""
        if self._owed is not None:
            owed, self._owed = self._owed, None
            self._receive(owed)

    def _give_up(self) -> None:
        """Nobody can say any more which answer belongs to what."""
        if not self._connection.closed:
            self._connection.close()

    def _look(self, results: "Sequence[pq.abc.PGresult]") -> None:
        for result in results:
            if result.status not in _OK:
                if result.error_field(pq.DiagnosticField.SQLSTATE) is None:
                    raise psycopg.OperationalError(result.get_error_message() or "the connection is lost")
                raise error_from_result(result, encoding="utf-8")

    def _flush(self) -> None:
        connection = self._connection.pgconn
        while connection.flush():
            self._poll.modify(connection.socket, _READ | select.POLLOUT)
            try:
                if self._poll.poll()[0][1] & _READ:
                    connection.consume_input()
            finally:
                self._poll.modify(connection.socket, _READ)

    def _result(self) -> "pq.abc.PGresult":
        """The result of the next statement, without holding the interpreter while it is awaited."""
        connection = self._connection.pgconn
        self._await()
        result = connection.get_result()
        if result is None:
            raise psycopg.OperationalError("the connection is lost")
        self._await()
        if connection.get_result() is not None:
            raise psycopg.OperationalError("the database server answered something else")
        return result

    def _sync(self) -> None:
        self._await()
        result = self._connection.pgconn.get_result()
        if result is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
            raise psycopg.OperationalError("the connection is lost")

    def _await(self) -> None:
        connection = self._connection.pgconn
        while connection.is_busy():
            self._poll.poll()
            connection.consume_input()


def wire_of(connection: Connection) -> Wire:
    """Of a connection to PostgreSQL."""
    found: Wire | None = connection.info.get(Wire)
    if found is None:
        raw: Any = connection.connection.driver_connection
        found = connection.info[Wire] = Wire(raw)
    return found


def _wired(values: Sequence[Any]) -> tuple[list[bytes | None], list[pq.Format]]:
    return [_KINDS.get(type(value), _other)(value) for value in values], [
        pq.Format.BINARY if type(value) is bytes else pq.Format.TEXT for value in values
    ]


def _other(value: Any) -> bytes:
    """Words of enumerations."""
    if isinstance(value, str):
        return _text(value)
    raise TypeError(f"no value for PostgreSQL: {value!r}")


def _text(value: str) -> bytes:
    if "\0" in value:
        raise psycopg.DataError("PostgreSQL text cannot hold the character NUL")
    return value.encode()


_KINDS: Final[Mapping[type, Callable[[Any], bytes | None]]] = {
    bool: lambda value: b"t" if value else b"f",
    bytes: lambda value: value,
    float: lambda value: repr(value).encode(),
    int: lambda value: b"%d" % value,
    str: _text,
    type(None): lambda value: None,
}
