"""Statements that wait for each other, travel together, and fail as if they had been said one by one."""

import threading
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Connection, text

from cador.storage.postgres import connect, driver, engine_for
from cador.storage.wire import Wire, wire_of
from support.postgres_proxy import PostgresProxy

pytestmark = pytest.mark.postgres

PUT = "INSERT INTO meta (name, value) VALUES ($1::text, $2::text)"
GET = "SELECT value FROM meta WHERE name = $1::text"
COUNT = "SELECT count(*) FROM meta WHERE name LIKE 'w%'"


@pytest.fixture
def connection(postgres_url: str) -> Iterator[Connection]:
    opened = connect(engine_for(postgres_url))
    yield opened
    opened.invalidate()
    opened.close()


@pytest.fixture
def wire(connection: Connection) -> Wire:
    return wire_of(connection)


def count(wire: Wire) -> int:
    (answer,) = wire.say((COUNT, ()))
    ((number,),) = answer.rows()
    return int(number)


def test_what_waits_is_said_before_what_is_asked(wire: Wire) -> None:
    wire.later(PUT, ("w1", "one"))
    wire.later(PUT, ("w2", "two"))
    first, second = wire.say((GET, ("w1",)), (GET, ("w2",)))
    assert (first.rows(), second.rows()) == ([("one",)], [("two",)])
    assert wire.say() == []


def test_other_statements_of_the_connection_see_what_waits(connection: Connection, wire: Wire) -> None:
    wire.later(PUT, ("w1", "one"))
    assert connection.execute(text("SELECT value FROM meta WHERE name = 'w1'")).scalar() == "one"


def test_what_is_forgotten_is_never_said(wire: Wire) -> None:
    wire.later(PUT, ("w1", "one"))
    wire.begin(read_only=False)
    wire.commit()
    assert count(wire) == 0


def test_values_come_back_as_they_were_sent(wire: Wire) -> None:
    values = (7, -(1 << 62), 0.1, "a'\\ \u00e9\n", b"\x00\xff", True, None)
    asked = "SELECT $1::int, $2::bigint, $3::float8, $4::text, $5::bytea, $6::bool, $7::text"
    for _ in range(2):  # prepared, and found prepared
        (answer,) = wire.say((asked, values))
        assert answer.rows() == [values]


@pytest.mark.parametrize("known", [False, True], ids=["new statements", "prepared ones"])
def test_the_first_that_fails_is_told_and_none_after_it_is_done(wire: Wire, known: bool) -> None:
    if known:
        wire.say((PUT, ("w0", "zero")), (GET, ("w0",)))
    there = count(wire)
    wire.say(("BEGIN", ()))
    wire.later(PUT, ("w1", "one"))
    wire.later(PUT, ("w1", "again"))
    wire.later("SELECT nothing FROM nowhere", ())
    wire.later(PUT, ("w2", "two"))
    with pytest.raises(psycopg.errors.UniqueViolation):
        wire.say(("COMMIT", ()))
    wire.say(("ROLLBACK", ()))
    assert count(wire) == there
    wire.say((PUT, ("w1", "one")), (GET, ("w1",)))
    assert count(wire) == there + 1


def test_a_statement_that_is_none_can_be_followed_by_others(wire: Wire) -> None:
    for _ in range(2):
        with pytest.raises(psycopg.errors.UndefinedTable):
            wire.say(("SELECT 1 FROM nowhere", ()))
    assert count(wire) == 0


def test_a_value_that_cannot_be_said_leaves_nothing_half_said(wire: Wire) -> None:
    wire.later(PUT, ("w1", "one"))
    with pytest.raises(psycopg.DataError):
        wire.say((PUT, ("w2", "a\0b")))
    with pytest.raises(TypeError):
        wire.say((PUT, ("w2", object())))
    assert count(wire) == 0


def test_more_than_the_buffers_of_the_connection_hold(wire: Wire) -> None:
    large = "x" * 3_000_000
    for number in range(4):
        wire.later(PUT, (f"w{number}", large))
    answers = wire.say(*[(GET, (f"w{number}",)) for number in range(4)])
    assert [answer.rows()[0][0] == large for answer in answers] == [True] * 4


def test_others_run_while_an_answer_is_awaited(wire: Wire, postgres_url: str) -> None:
    """The thread that waits does not hold the interpreter: what ends its waiting is done by this one."""
    other = connect(engine_for(postgres_url))
    driver(other).execute("SELECT pg_advisory_lock(7)")
    answers: list[object] = []
    waiting = threading.Thread(
        target=lambda: answers.extend(wire.say(("SELECT 1", ()), ("SELECT pg_advisory_lock(7)", ())))
    )
    waiting.start()
    while not driver(other).execute("SELECT 1 FROM pg_locks WHERE NOT granted AND objid = 7").fetchone():
        pass
    driver(other).execute("SELECT pg_advisory_unlock(7)")
    waiting.join(30)
    assert len(answers) == 2
    other.invalidate()
    other.close()


def test_a_connection_that_breaks_is_told_as_lost(postgres_url: str) -> None:
    proxy = PostgresProxy(postgres_url)
    connection = connect(engine_for(proxy.url))
    wire = wire_of(connection)
    wire.later(PUT, ("w1", "one"))
    proxy.lose_next_commit = True
    with pytest.raises(psycopg.OperationalError):
        wire.say(("COMMIT", ()))
    assert driver(connection).closed
    connection.invalidate()
    connection.close()
    proxy.close()


def test_a_transaction_in_which_nothing_is_said_costs_nothing(wire: Wire, connection: Connection) -> None:
    for read_only in (True, False):
        wire.begin(read_only=read_only)
        if read_only:
            wire.leave()
        else:
            wire.commit()
        assert wire.xid == ""
    assert driver(connection).info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_writes_alone_are_committed(wire: Wire, connection: Connection) -> None:
    wire.begin(read_only=False)
    wire.later(PUT, ("w1", "one"))
    wire.commit()
    assert wire.xid
    assert driver(connection).info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert count(wire) == 1


def test_what_is_taken_back_leaves_nothing(wire: Wire) -> None:
    wire.begin(read_only=False)
    wire.say((PUT, ("w1", "one")))
    wire.later(PUT, ("w2", "two"))
    wire.roll_back()
    wire.begin(read_only=False)
    wire.later(PUT, ("w3", "three"))
    wire.roll_back()
    assert count(wire) == 0


def test_the_end_of_reading_is_heard_before_the_next_statement(connection: Connection, wire: Wire) -> None:
    for _ in range(3):
        wire.begin(read_only=True)
        assert count(wire) == 0
        wire.leave()
    wire.begin(read_only=True)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        wire.say((PUT, ("w1", "one")))
    wire.roll_back()
    wire.begin(read_only=True)
    assert count(wire) == 0
    wire.leave()
    assert connection.execute(text("SELECT 7")).scalar() == 7
