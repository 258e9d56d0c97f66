"""docs/compatibility.md says of the editions what is replayed here."""

from documents import compatibility


def test_the_tables_are_up_to_date() -> None:
    page = compatibility.PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- table ") == len(compatibility.TABLES)
    assert compatibility.filled(page) == page, "run: python tests/documents/compatibility.py"
