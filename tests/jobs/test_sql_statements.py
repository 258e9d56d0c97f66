"""Statements are cut as the clients of the databases cut them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.jobs.sql_statements import split

MYSQL = ["mysql", "mariadb"]
BOTH = [*MYSQL, "postgresql"]


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("", []),
        (" ;\n;; ", []),
        ("-- only; a comment\n/* and; another */", []),
        ("select 1", ["select 1"]),
        ("select 1;select 2 ;\n select 3", ["select 1;", "select 2 ;", "select 3"]),
        ("select ';', 'it''s;' ; x", ["select ';', 'it''s;' ;", "x"]),
        ('select "a;""b;"; x', ['select "a;""b;";', "x"]),
        ("select 1 -- one; two\n, 2; x", ["select 1 -- one; two\n, 2;", "x"]),
        ("select /* ; */ 1; x", ["select /* ; */ 1;", "x"]),
        ("-- before\nselect 1; x", ["-- before\nselect 1;", "x"]),
        ("select 'never closed; x", ["select 'never closed; x"]),
        ("select 1 /* never closed; x", ["select 1 /* never closed; x"]),
        ("select 1;\r\n  select 2;\r\n", ["select 1;", "select 2;"]),
        ("select 1; /* last */ -- words", ["select 1;"]),
    ],
)
def test_both(dialect: str, text: str, statements: list[str]) -> None:
    assert split(text, dialect) == statements


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        (r"select 'a\';', 'b\\'; x", [r"select 'a\';', 'b\\';", "x"]),
        (r'select "a\";"; x', [r'select "a\";";', "x"]),
        ("select `a;``b;` from t; x", ["select `a;``b;` from t;", "x"]),
        ("select 1 # one; two\n; x", ["select 1 # one; two\n;", "x"]),
        ("select 5--1;x", ["select 5--1;", "x"]),
        ("select 5 --\n;x", ["select 5 --\n;", "x"]),
        ("/*!40101 SET NAMES utf8mb4 */; /*M!100100 x; */;", ["/*!40101 SET NAMES utf8mb4 */;", "/*M!100100 x; */;"]),
        ("select /* /* ; */ 1; x", ["select /* /* ; */ 1;", "x"]),
        ("delimiter //\nselect 1; select 2//\nDELIMITER ;\nselect 3;", ["select 1; select 2", "select 3;"]),
        ("select 0;\n  Delimiter $$ more\nx; '$$'; y$$ select 1 $$", ["select 0;", "x; '$$'; y", "select 1"]),
        ("delimiter //\n//\n // delimiter ;", ["delimiter ;"]),
        ("select\ndelimiter from t; x", ["select\ndelimiter from t;", "x"]),
        ("delimiter ;;\nselect 1;;\nselect ';;'; select 2;;", ["select 1", "select ';;'; select 2"]),
        ("delimiter", ["delimiter"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dialect", MYSQL)
def test_mysql(dialect: str, text: str, statements: list[str]) -> None:
    assert split(text, dialect) == statements


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        (r"select 'a\'; x", [r"select 'a\';", "x"]),
        (r"select E'a\';', e'b\\'; x", [r"select E'a\';', e'b\\';", "x"]),
        (r"select name'a\'; x", [r"select name'a\';", "x"]),
        ("do $$ begin; end; $$; x", ["do $$ begin; end; $$;", "x"]),
        ("select $a$;$$;$b$;$a$; x", ["select $a$;$$;$b$;$a$;", "x"]),
        ("select a$1; x", ["select a$1;", "x"]),
        ("select $1; select $2; x", ["select $1;", "select $2;", "x"]),
        ("select 1 /* a /* b; */ c; */; x", ["select 1 /* a /* b; */ c; */;", "x"]),
        ("select 5--1;\n; x", ["select 5--1;\n;", "x"]),
        ("select 1 # 2; x", ["select 1 # 2;", "x"]),
        ("create rule r as on insert to t do (a; b); x", ["create rule r as on insert to t do (a; b);", "x"]),
        ("begin; select case when a then b end; end; x", ["begin;", "select case when a then b end;", "end;", "x"]),
        (
            "create or replace function f() begin atomic select case when a then b end; select 2; end; x",
            ["create or replace function f() begin atomic select case when a then b end; select 2; end;", "x"],
        ),
        ("create table begin_end (a int); x", ["create table begin_end (a int);", "x"]),
    ],
)  # fmt: skip
def test_postgresql(text: str, statements: list[str]) -> None:
    assert split(text, "postgresql") == statements


PIECES = {
    "mysql": [
        "a", " ", "\n", "1", "'x;'", "'it''s'", r"'a\';'", '";"', "`;`", "-- ;\n", "#;\n", "/* ; */", "(", ")", "$$",
        "/*! ; */",
    ],
    "postgresql": [
        "a", " ", "\n", "1", "'x;'", "'it''s'", r"'\'", '";"', r" E'\';'", "-- ;\n", "/* ; /* ; */ */", "(;)",
        " $t$;$$;$t$", "#",
    ],
}  # fmt: skip


@pytest.mark.parametrize("dialect", ["mysql", "postgresql"])
@given(data=st.data())
def test_a_statement_of_whole_pieces_is_never_cut(dialect: str, data: st.DataObject) -> None:
    """Between whole quotes and comments every ``;`` cuts, within them none does, and not a character is lost."""
    written = data.draw(st.lists(st.lists(st.sampled_from(PIECES[dialect]), max_size=8), max_size=5))
    skipped = {"-- ;\n", "/* ; */", " ", "\n", "#;\n" if dialect == "mysql" else "/* ; /* ; */ */"}
    balanced = [one for one in written if dialect == "mysql" or one.count("(") == one.count(")")]
    text = "".join(f"{' '.join(pieces)};" for pieces in balanced)
    kept = [f"{' '.join(pieces)};" for pieces in balanced if not skipped.issuperset(pieces)]
    assert [one.split() for one in split(text, dialect)] == [one.split() for one in kept]


@pytest.mark.parametrize("dialect", ["mysql", "postgresql"])
@given(text=st.text(alphabet="ab ;'\"`\\-#/*!$\n(Ed", max_size=80))
def test_nothing_is_lost_and_nothing_breaks(dialect: str, text: str) -> None:
    found = split(text, dialect)
    at = 0
    for statement in found:
        assert statement == statement.strip()
        assert statement
        at = text.index(statement, at) + len(statement)
    rest = split(text[at:], dialect) if at else []
    assert rest == [], "what is behind the last statement is none"


@pytest.mark.parametrize("dialect", ["mysql", "postgresql"])
def test_hostile_texts_take_no_longer_than_others(dialect: str) -> None:
    """Some hundred thousand characters each; a pattern that went back and forth would never come to an end."""
    for text in (
        "'" + "a''" * 100_000,
        "/*" * 150_000,
        "$a" * 150_000,
        "'\\'" * 100_000,
        '"' * 300_001,
        "$a$" * 100_001,
    ):
        assert len(split(text, dialect)) <= 1


def test_many_statements_with_a_delimiter_of_ones_own() -> None:
    """Each ends where a search for the next quote or comment would go on to the end of the text."""
    count = 200_000
    assert split("delimiter x\n" + "ax" * count, "mysql") == ["a"] * count
    assert split("delimiter x\n" + "ax" * 3 + "'x'ax-- x\nbx", "mysql") == ["a", "a", "a", "'x'a", "-- x\nb"]
