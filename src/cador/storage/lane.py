"""The short way to the driver for statements that run for every job: compiled once, then said to it directly.

SQLAlchemy's own way through ``Connection.execute`` costs 40 us of processor time for each statement, this one 5; a job
causes some fifty statements, all under the interpreter lock. Statements, types and dialects stay SQLAlchemy's.

To PostgreSQL what only writes waits for what is said next (see ``wire``); the order of statements is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import Boolean, Connection, Dialect

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

    from cador.storage.wire import Wire

Values: TypeAlias = Mapping[str, Any]
Converter: TypeAlias = Callable[[Any], Any]

_NOTHING: Final[Values] = {}


class _Plan:
    """One statement as one dialect writes it. ``bind``: what the driver takes for the values of one execution."""

    __slots__ = ("bind", "converters", "text")

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled: SQLCompiler = statement.compile(dialect=dialect)
        if compiled.post_compile_params or compiled.literal_execute_params:
            raise TypeError(f"the text of this statement depends on its values: {statement}")
        self.text = str(compiled)
        required = {name for name, bind in compiled.binds.items() if bind.required}
        constants = {
            name: value for name, value in compiled.construct_params(_check=False).items() if name not in required
        }
        self.bind = (
            _by_place(tuple(compiled.positiontup or ()), constants) if compiled.positional else _by_name(constants)
        )
        # Of the types of our columns only truth values come back as something else, from SQLite.
        truth: Converter | None = Boolean().result_processor(dialect, None)  # type: ignore[no-untyped-call]
        self.converters: tuple[tuple[int, Converter], ...] = tuple(
            (number, truth)
            for number, column in enumerate(compiled._result_columns)
            if truth is not None and isinstance(column.type, Boolean)
        )

    def convert(self, row: Sequence[Any]) -> tuple[Any, ...]:
        values = list(row)
        for number, converter in self.converters:
            values[number] = converter(values[number])
        return tuple(values)


def _by_name(constants: Values) -> Callable[[Values], Any]:
    return (lambda values: {**constants, **values}) if constants else (lambda values: values)


def _by_place(names: tuple[str, ...], constants: Values) -> Callable[[Values], Any]:
    if not names:
        return lambda values: ()
    if constants:
        return lambda values: tuple([values[name] if name in values else constants[name] for name in names])
    if len(names) == 1:
        (only,) = names
        return lambda values: (values[only],)
    return itemgetter(*names)


_PLANS: Final[dict[str, dict[Any, _Plan]]] = {}
"""By dialect, then by statement. Statements are constants of their modules; two threads may build one twice."""


_NUMBERED: Final[dict[type, Dialect]] = {}
"""The dialect of PostgreSQL with ``$1`` for the first value, as its protocol has it."""


class Lane:
    """Runs statements on the driver's connection of *connection*, within the transaction that is open there.

    Statements whose text depends on their values (``IN`` lists) do not pass. Rows are tuples of converted values.
    """

    __slots__ = ("_dialect", "_execute", "_plans", "_raw", "_wire")

    def __init__(self, connection: Connection) -> None:
        raw: Any = connection.connection.dbapi_connection
        self._raw = raw
        self._execute = self._raw.execute
        self._plans = _PLANS.setdefault(connection.dialect.name, {})
        self._dialect = connection.dialect
        self._wire: Wire | None = None
        if connection.dialect.name == "postgresql":
            from cador.storage.wire import wire_of  # SQLite needs nothing of the driver of PostgreSQL

            self._wire = wire_of(connection)
            kind: Any = type(connection.dialect)
            self._dialect = _NUMBERED.get(kind) or _NUMBERED.setdefault(kind, kind(paramstyle="numeric_dollar"))

    def _plan(self, statement: Any) -> _Plan:
        plan = self._plans.get(statement)
        if plan is None:
            plan = self._plans[statement] = _Plan(statement, self._dialect)
        return plan

    def rows(self, statement: Any, values: Values = _NOTHING) -> list[tuple[Any, ...]]:
        plan = self._plan(statement)
        if self._wire is None:
            found: list[tuple[Any, ...]] = self._execute(plan.text, plan.bind(values)).fetchall()
        else:
            (answer,) = self._wire.say((plan.text, plan.bind(values)))
            found = answer.rows()
        return [plan.convert(row) for row in found] if plan.converters else found

    def rows_of_all(self, statements: Sequence[Any], values: Values) -> list[list[tuple[Any, ...]]]:
        """The rows of several statements about the same *values*."""
        if self._wire is None:
            return [self.rows(statement, values) for statement in statements]
        plans = [self._plan(statement) for statement in statements]
        return [answer.rows() for answer in self._wire.say(*((plan.text, plan.bind(values)) for plan in plans))]

    def row(self, statement: Any, values: Values = _NOTHING) -> tuple[Any, ...] | None:
        """The first row, None without one."""
        found = self.rows(statement, values)
        return found[0] if found else None

    def value(self, statement: Any, values: Values = _NOTHING) -> Any:
        """The first value of the first row, None without one."""
        found = self.rows(statement, values)
        return found[0][0] if found else None

    def changed(self, statement: Any, values: Values = _NOTHING) -> int:
        """Run what returns no rows; how many it changed."""
        plan = self._plan(statement)
        if self._wire is None:
            count: int = self._execute(plan.text, plan.bind(values)).rowcount
            return count
        (answer,) = self._wire.say((plan.text, plan.bind(values)))
        return answer.changed()

    def change(self, statement: Any, values: Values = _NOTHING) -> None:
        """Run what returns no rows, at the latest with the next statement of this transaction."""
        plan = self._plan(statement)
        if self._wire is None:
            self._execute(plan.text, plan.bind(values))
        else:
            self._wire.later(plan.text, plan.bind(values))

    def change_each(self, statement: Any, values: Sequence[Values]) -> None:
        """The same once for each of *values*."""
        if self._wire is None and len(values) > 1:
            plan = self._plan(statement)
            self._raw.cursor().executemany(plan.text, [plan.bind(one) for one in values])
        else:
            for one in values:
                self.change(statement, one)
