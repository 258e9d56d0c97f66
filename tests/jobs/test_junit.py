"""JUnit reports: what tools really write, what breaks, and when a job fails for it."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.jobs.junit import Case, Report, TooManyCases, UnreadableReport, merge, merged_xml, read_report, verdict

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" errors="0" failures="1"
 skipped="1" tests="3" time="0.05"><testcase classname="t" name="ok" time="0.001" /><testcase classname="t" name="bad"
 time="1,234.5"><failure message="assert 1 == 2">def test():
&gt; assert</failure><system-out>x</system-out></testcase><testcase classname="t" name="later" time="0"><skipped
 type="pytest.skip" message="not now">why</skipped></testcase></testsuite></testsuites>"""
NESTED = b"""<testsuite name="outer"><testsuite name="inner"><testcase name="a" time="x"/><testcase name="b">
<error>Boom
at line 2</error></testcase></testsuite><testcase name="c"/></testsuite>"""


def test_what_tools_write() -> None:
    report, problems = merge([("a.xml", PYTEST), ("b.xml", NESTED)])
    assert problems == []
    assert [(case.name, case.status) for case in report.cases] == [
        ("ok", "passed"),
        ("bad", "failed"),
        ("later", "skipped"),
        ("a", "passed"),
        ("b", "error"),
        ("c", "passed"),
    ]
    assert report.facts() == {
        "tests": 6,
        "successes": 3,
        "failures": 1,
        "skips": 1,
        "errors": 1,
        "time": 1234.501,
        "cases": [
            {"name": "bad", "classname": "t", "time": 1234.5, "status": "failed", "message": "assert 1 == 2"},
            {"name": "b", "classname": "", "time": 0.0, "status": "error", "message": "Boom"},
        ],
    }


def test_names_with_a_namespace_and_other_xml() -> None:
    spaced = b'<testsuite xmlns="http://x"><testcase name="a"><failure/></testcase></testsuite>'
    assert [case.status for case in read_report(spaced)] == ["failed"]
    assert list(read_report(b"<coverage/>")) == []


BOMB = b"""<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<testsuite><testcase name="&b;"/></testsuite>"""
OUTSIDE = b"""<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<testsuite><testcase name="a">&a;</testcase></testsuite>"""


@pytest.mark.parametrize("content", [b"", b"no xml", b"<testsuite>", b"\xff\xfe\x00", BOMB, OUTSIDE])
def test_what_is_not_read(content: bytes) -> None:
    with pytest.raises(UnreadableReport):
        list(read_report(content))
    report, problems = merge([("x.xml", content), ("a.xml", PYTEST)])
    assert len(report.cases) == 3
    assert len(problems) == 1
    assert problems[0].startswith("x.xml is no JUnit report: ")


def cases(passed: int = 0, failed: int = 0, errors: int = 0, skipped: int = 0) -> Report:
    counts = {"passed": passed, "failed": failed, "error": errors, "skipped": skipped}
    return Report([Case("n", "c", 0.0, status) for status, count in counts.items() for _ in range(count)])


@pytest.mark.parametrize(
    ("report", "required", "told"),
    [
        (cases(), 0, "no test cases found"),
        (cases(passed=3), 0, ""),
        (cases(passed=2, skipped=1), 0, ""),
        (cases(skipped=1), 100, ""),
        (cases(passed=2, failed=1), 0, "test pass rate 67% is below required 100% (2/3 cases passed)"),
        (cases(passed=2, failed=1), 67, ""),
        (cases(passed=2, failed=1), 68, "test pass rate 67% is below required 68% (2/3 cases passed)"),
        (cases(passed=1, errors=1), 50, ""),
        (cases(passed=1, errors=1), 51, "test pass rate 50% is below required 51% (1/2 cases passed)"),
        (cases(passed=999, failed=1), 0, "test pass rate 99% is below required 100% (999/1000 cases passed)"),
    ],
)
def test_verdicts(report: Report, required: int, told: str) -> None:
    assert verdict(report, required) == told


text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@given(st.lists(st.tuples(text, text, st.sampled_from(["passed", "failed", "error", "skipped"]), text), max_size=6))
def test_the_merged_report_is_xml_and_says_the_same(written: list[tuple[str, str, str, str]]) -> None:
    report = Report([Case(name, cls, 1.5, status, detail, detail) for name, cls, status, detail in written])
    merged = merged_xml(report, "suite <&>\x00")
    again = list(read_report(merged))
    assert [case.status for case in again] == [case.status for case in report.cases]


def test_what_is_stored_of_a_case_is_bounded() -> None:
    report = Report([Case("n" * 100_000, "c" * 100_000, 0.0, "failed", "m" * 100_000)])
    assert len(str(report.facts())) < 10_000


def test_more_cases_than_memory_should_hold_judge_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cador.jobs.junit.MOST_CASES", 4)
    two = b'<testsuite><testcase name="a"/><testcase name="b"/></testsuite>'
    assert len(merge([("a.xml", two), ("b.xml", two)])[0].cases) == 4
    with pytest.raises(TooManyCases):
        merge([("a.xml", two), ("b.xml", two), ("c.xml", two)])
    endless = b"<testsuite>" + b"<testcase/>" * 1_000 + b"no end"
    with pytest.raises(TooManyCases):
        merge([("a.xml", endless)])


def test_what_was_read_is_not_kept() -> None:
    """Cases are given away as they come: what is held does not grow with their number."""
    many = b"<testsuites><testsuite>" + b"<testcase/>" * 20_000 + b"</testsuite></testsuites>"
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_report(many)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
