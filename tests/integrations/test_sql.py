"""The action ``sql`` against real databases: MariaDB of this machine, PostgreSQL from a wheel."""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from cador.integrations.sql import MOST_STATEMENTS, ConnectFailed, check_database, open_session, run_sql
from cador.ports.actions import ActionFailed
from support.databases import PostgresServer
from support.heard import Heard
from support.mariadb import MariaDB, mariadb  # noqa: F401 - a fixture

pytestmark = pytest.mark.real
DEADLINE_S = 60.0
WAITING = "select 1 from pg_locks where not granted"


def play(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await test()

    asyncio.run(main())


@dataclass
class Place:
    """A database to run statements on. ``sleep``: takes a minute; ``running``: how many of those run."""

    arguments: Mapping[str, Any]
    sleep: str
    running: str

    async def run(self, sql: str, *, heard: Heard | None = None, **more: Any) -> Heard:
        heard = heard or Heard()
        await run_sql(heard, {**self.arguments, **more, "sql": sql})
        return heard

    async def count(self, sql: str) -> int:
        """Rows that a statement returns."""
        session = await open_session(self.arguments, lambda text: None)
        try:
            return await session.execute(sql)
        finally:
            await session.close()


@pytest.fixture(scope="module")
def maria(mariadb: MariaDB) -> Place:  # noqa: F811 - the fixture
    running = "select 1 from information_schema.processlist where info like '%sleep(60)%' and info not like '%info%'"
    return Place({**mariadb.arguments, "database": "ci"}, "select sleep(60)", running)


@pytest.fixture(scope="module")
def postgres(postgres_server: PostgresServer) -> Place:
    url = make_url(postgres_server.create())
    arguments = {
        "name": "pg",
        "type": "postgresql",
        "host": url.query.get("host") or url.host,
        "port": url.port or 5432,
        "username": url.username,
        "password": url.password or "",
        "database": url.database,
    }
    running = (
        "select 1 from pg_stat_activity where query like '%sleep(60)%' and query not like '%activity%' "
        "and state = 'active'"
    )
    return Place(arguments, "select pg_sleep(60)", running)


@pytest.fixture(params=["maria", "postgres"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def test_statements_one_after_the_other_on_one_connection(place: Place) -> None:
    async def test() -> None:
        heard = await place.run(
            """
            create temporary table t (a int, b varchar(20)); -- first; comment
            insert into t values (1, 'x;y'), (2, 'it''s');
            update t set a = a + 1;
            select * from t;
            /* nothing here; */ ;
            delete from t where b = 'x;y'"""
        )
        assert [(one["status"], one["rows_affected"]) for one in heard.facts["results"]] == [
            ("success", 0),
            ("success", 2),
            ("success", 2),
            ("success", 2),
            ("success", 1),
        ]
        assert heard.facts["results"][0]["sql"] == "create temporary table t (a int, b varchar(20));"
        assert (
            heard.facts["results"][1]["sql"]
            == "-- first; comment\n            insert into t values (1, 'x;y'), (2, 'it''s');"
        )
        assert heard.facts["results"][4]["sql"].endswith("delete from t where b = 'x;y'")
        assert all(isinstance(one["elapsed_time"], int) for one in heard.facts["results"])
        assert heard.lines[0] == "statement 1 of 5: create temporary table t (a int, b varchar(20));"
        assert heard.lines[3].startswith("statement 2: success, 2 rows, ")

    play(test)


def test_the_first_error_ends_it_and_what_was_done_stays(place: Place) -> None:
    async def test() -> None:
        heard = Heard()
        with pytest.raises(ActionFailed, match=r'^exec SQL "select nothing from nowhere;" error: E') as failed:
            await place.run("create table kept (a int); select nothing from nowhere; select 2;", heard=heard)
        assert "nowhere" in str(failed.value).partition("error: ")[2]
        assert [one["status"] for one in heard.facts["results"][-3:]] == ["success", "failed", "not_exec"]
        assert heard.facts["results"][-1] == {
            "sql": "select 2;",
            "elapsed_time": 0,
            "rows_affected": 0,
            "status": "not_exec",
        }
        assert await place.count("select * from kept") == 0

    play(test)


def test_a_cancelled_statement_stops_on_the_database(place: Place) -> None:
    async def test() -> None:
        heard = Heard()
        running = asyncio.get_running_loop().create_task(place.run(f"select 1; {place.sleep}; select 2;", heard=heard))
        await heard.until("statement 2 of 3")
        while not await place.count(place.running):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        while await place.count(place.running):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        assert [one["status"] for one in heard.facts["results"]] == ["success", "failed", "not_exec"]
        assert not any("may still run" in line for line in heard.lines), heard.lines

    play(test)


def test_a_large_result_is_not_kept_in_memory(place: Place) -> None:
    many = {
        "mariadb": "select repeat('x', 2000) from seq_1_to_150000;",
        "postgresql": "select repeat('x', 2000) from generate_series(1, 150000);",
    }

    async def test() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        heard = await place.run(many[place.arguments["type"]])
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert heard.facts["results"][0]["rows_affected"] == 150_000
        assert grown < 100_000, f"{grown} KiB more for 300 MB of rows"

    play(test)


def test_one_statement_is_one_statement(place: Place) -> None:
    """Whatever the text is cut into, the database takes no second statement with the first."""

    async def test() -> None:
        from cador.integrations.sql import StatementFailed

        session = await open_session(place.arguments, lambda text: None)
        try:
            with pytest.raises(StatementFailed):
                await session.execute("select 1; select 2")
        finally:
            await session.close()

    play(test)


def test_no_connection(place: Place) -> None:
    async def test() -> None:
        if place.arguments["password"]:  # the other one is reached by a socket file, which asks for no password
            with pytest.raises(
                ActionFailed, match=r"^cannot connect to database maria \(127.0.0.1:\d+\): .*denied"
            ) as no:
                await place.run("select 1", password="not-the-password")
            assert "not-the-password" not in str(no.value)
        with pytest.raises(ActionFailed, match=r"^cannot connect to database .* \(127.0.0.1:1\): "):
            await place.run("select 1", host="127.0.0.1", port=1)
        with pytest.raises(ConnectFailed, match=r"^cannot connect to database .* \(db.invalid:"):
            await check_database({**place.arguments, "host": "db.invalid"})
        heard = Heard()
        with pytest.raises(ActionFailed):
            await place.run("select 1; select 2;", heard=heard, host="127.0.0.1", port=1)
        assert [one["status"] for one in heard.facts["results"]] == ["not_exec", "not_exec"]
        await check_database(place.arguments)

    play(test)


def test_a_server_that_never_answers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr("cador.integrations.sql.CONNECT_S", 0.2)
        opened: list[asyncio.StreamWriter] = []
        silent = await asyncio.start_server(lambda reader, writer: opened.append(writer), "127.0.0.1", 0)
        async with silent:
            port = silent.sockets[0].getsockname()[1]
            with pytest.raises(ActionFailed, match="no answer within 0 seconds"):
                await place.run("select 1", host="127.0.0.1", port=port)
        for writer in opened:
            writer.close()

    play(test)


def test_secrets_are_masked_in_results_and_lines(place: Place) -> None:
    async def test() -> None:
        heard = await place.run("select 's3cr3t-value';", heard=Heard(secrets=("s3cr3t-value",)))
        assert heard.facts["results"][0]["sql"] == "select '********';"
        assert not any("s3cr3t" in line for line in heard.lines)

    play(test)


def test_bounds(place: Place) -> None:
    async def test() -> None:
        with pytest.raises(ActionFailed, match=r"^SQL is empty$"):
            await place.run("-- only; this\n;;")
        with pytest.raises(ActionFailed, match="are more than 10000"):
            await place.run("select 1;" * (MOST_STATEMENTS + 1))

    play(test)


def test_a_lost_connection_is_a_failed_statement(place: Place) -> None:
    killing = {
        "mariadb": "kill connection_id()",
        "postgresql": "select pg_terminate_backend(pg_backend_pid())",
    }

    async def test() -> None:
        heard = Heard()
        with pytest.raises(ActionFailed, match='exec SQL "') as failed:
            await place.run(f"{killing[place.arguments['type']]}; select 1; select 2", heard=heard)
        assert str(failed.value)
        assert "failed" in [one["status"] for one in heard.facts["results"]]
        assert heard.facts["results"][-1]["status"] == "not_exec"

    play(test)


def test_routines_of_mariadb(maria: Place) -> None:
    async def test() -> None:
        heard = await maria.run(
            """create database if not exists r; use r;
            delimiter //
            create or replace procedure p() begin select 1; select 2 union select 3; end//
            delimiter ;
            call p();
            select 5;"""
        )
        assert [one["rows_affected"] for one in heard.facts["results"]] == [1, 0, 0, 3, 1]
        assert heard.facts["results"][2]["sql"].endswith("select 3; end")

    play(test)


def test_files_of_this_machine_are_not_read(maria: Place, tmp_path: Any) -> None:
    async def test() -> None:
        (tmp_path / "f").write_text("1\n")
        await maria.run("create database if not exists files; create or replace table files.t (a int);")
        with pytest.raises(ActionFailed, match="error: "):
            await maria.run(f"load data local infile '{tmp_path / 'f'}' into table files.t;")
        assert await maria.count("select * from files.t") == 0

    play(test)


def test_what_postgresql_says_besides(postgres: Place) -> None:
    async def test() -> None:
        heard = await postgres.run("do $$ begin raise notice 'half; way'; end $$; select 1;")
        assert "NOTICE: half; way" in heard.lines
        with pytest.raises(ActionFailed, match="COPY"):
            await postgres.run("create temporary table c (a int); copy c from stdin;")
        with pytest.raises(ActionFailed, match=r"error: ERROR: .*does not exist \(SQLSTATE 42P01\)"):
            await postgres.run("select * from nowhere")

    play(test)


def test_a_lock_is_waited_for_no_longer_than_the_job(postgres: Place) -> None:
    """A statement that waits for another one's lock is stopped like one that works."""

    async def test() -> None:
        await postgres.run("create table locked (a int)")
        holder = await open_session(postgres.arguments, lambda text: None)
        try:
            await holder.execute("begin")
            await holder.execute("lock table locked")
            heard = Heard()
            waiting = asyncio.get_running_loop().create_task(postgres.run("select * from locked", heard=heard))
            while not await postgres.count(WAITING):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            while await postgres.count(WAITING):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
        finally:
            await holder.close()

    play(test)
