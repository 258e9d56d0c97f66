"""JUnit reports: read, counted, merged and judged. What is read came out of a job: never trusted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape, quoteattr

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

SHOWN_CASES: Final = 200
"""Cases that are kept with the result: failed ones only. All are in the merged report."""
MOST_CASES: Final = 250_000
"""Cases of all reports of a job together: they are held in memory to be judged and merged."""
_LONGEST_MESSAGE: Final = 2_048
_OUTCOMES: Final = {"failure": "failed", "error": "error", "skipped": "skipped"}


class TooManyCases(Exception):
    """Judging by a part of them could let failed tests pass."""


class UnreadableReport(Exception):
    """No XML, or none that is safe to read; ``str()`` is the reason."""


@dataclass(frozen=True, slots=True)
class Case:
    """``status``: ``passed``, ``failed``, ``error`` or ``skipped``; ``time_s``: seconds."""

    name: str
    classname: str
    time_s: float
    status: str
    message: str = ""
    detail: str = ""


@dataclass(slots=True)
class Report:
    """All cases of all files of a job."""

    cases: list[Case] = field(default_factory=list)

    def count(self, status: str) -> int:
        return sum(case.status == status for case in self.cases)

    @property
    def time_s(self) -> float:
        return round(sum(case.time_s for case in self.cases), 3)

    def facts(self) -> dict[str, Any]:
        """As stored with the result of a job and told by the API."""
        failed = [case for case in self.cases if case.status in ("failed", "error")]
        return {
            "tests": len(self.cases),
            "successes": self.count("passed"),
            "failures": self.count("failed"),
            "skips": self.count("skipped"),
            "errors": self.count("error"),
            "time": self.time_s,
            "cases": [
                {
                    "name": case.name[:_LONGEST_MESSAGE],
                    "classname": case.classname[:_LONGEST_MESSAGE],
                    "time": case.time_s,
                    "status": case.status,
                    "message": case.message[:_LONGEST_MESSAGE],
                }
                for case in failed[:SHOWN_CASES]
            ],
        }


def read_report(content: bytes) -> Iterator[Case]:
    """Cases of one file; roots ``testsuites`` and ``testsuite``, suites may be nested. Other XML has none.

    Raises: UnreadableReport.
    """
    above: list[Element] = []
    try:
        for event, element in iterparse(BytesIO(content), events=("start", "end"), forbid_dtd=True):
            if event == "start":
                above.append(element)
                continue
            above.pop()
            if _name(element) == "testcase":
                yield _case(element)
                if above:
                    above[-1].clear()  # what was read is not kept, not even as an empty element
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise UnreadableReport(f"{type(error).__name__}: {error}") from error


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _case(element: Element) -> Case:
    status, message, detail = "passed", "", ""
    for child in element:
        if outcome := _OUTCOMES.get(_name(child)):
            status, message, detail = outcome, child.get("message", ""), (child.text or "").strip()
            if status != "skipped":
                break
    name, classname = element.get("name", ""), element.get("classname", "")
    return Case(name, classname, _seconds(element.get("time")), status, message or detail.partition("\n")[0], detail)


def _seconds(text: str | None) -> float:
    try:
        seconds = float((text or "0").replace(",", ""))
    except ValueError:
        return 0.0
    return seconds if 0.0 <= seconds < 1e9 else 0.0


def merged_xml(report: Report, name: str) -> bytes:
    """One suite with all cases."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name={quoteattr(_xml(name))} tests="{len(report.cases)}" failures="{report.count("failed")}" '
        f'errors="{report.count("error")}" skipped="{report.count("skipped")}" time="{report.time_s}">',
        *(_case_xml(case) for case in report.cases),
        "</testsuite>",
        "",
    ]
    return "\n".join(lines).encode()


def _case_xml(case: Case) -> str:
    head = f"  <testcase name={quoteattr(_xml(case.name))} classname={quoteattr(_xml(case.classname))}"
    head += f' time="{case.time_s}"'
    tag = next((tag for tag, status in _OUTCOMES.items() if status == case.status), "")
    if not tag:
        return f"{head}/>"
    return f"{head}><{tag} message={quoteattr(_xml(case.message))}>{escape(_xml(case.detail))}</{tag}></testcase>"


def _xml(text: str) -> str:
    """Without characters that XML cannot hold."""
    return "".join(
        c for c in text if c in "\t\n\r" or ("\x20" <= c <= "\ud7ff") or (c >= "\ue000" and c not in "\ufffe\uffff")
    )


def verdict(report: Report, required_percent: int) -> str:
    """Why the tests did not pass, ``""`` if they did. *required_percent*: share of cases that neither failed nor broke,
    0 means 100; skipped ones count as good."""
    total = len(report.cases)
    if total == 0:
        return "no test cases found"
    good = total - report.count("failed") - report.count("error")
    required = required_percent or 100
    reached = (200 * good + total) // (2 * total)
    if reached >= required and good < total and required >= 100:
        reached = 100 * good // total  # a failed case is never rounded away
    if reached >= required:
        return ""
    return f"test pass rate {reached}% is below required {required}% ({good}/{total} cases passed)"


def merge(files: Iterable[tuple[str, bytes]]) -> tuple[Report, list[str]]:
    """Read *files* (name and content) into one report; also a line for each that cannot be read: no case of it counts.

    Raises: TooManyCases.
    """
    report, problems = Report(), []
    for name, content in files:
        try:
            cases = list(islice(read_report(content), MOST_CASES - len(report.cases) + 1))
        except UnreadableReport as error:
            problems.append(f"{name} is no JUnit report: {error}")
            continue
        report.cases += cases
        if len(report.cases) > MOST_CASES:
            raise TooManyCases
    return report, problems
