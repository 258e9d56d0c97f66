"""The action ``sonar`` against a small real server."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from cador.integrations import sonar as module
from cador.integrations.addresses import Rules
from cador.integrations.outgoing import HttpOutgoing
from cador.integrations.sonar import Sonar
from cador.jobs.steps.sonar import REPORT, Answer, answer_of
from support.heard import Heard
from support.sonar import TOKEN, SonarQube, sonarqube

LEFT = {REPORT: "projectKey=shop:api\nserverUrl=http://evil.example.com\nceTaskId=AX-1\nceTaskUrl=http://evil/x\n"}
METRICS = {
    "QualityGateStatus": "OK", "Ncloc": "1200", "Bugs": "0", "Vulnerabilities": "1", "CodeSmells": "7",
    "Coverage": "81.5",
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[SonarQube]:
    with sonarqube() as made:
        yield made


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.0)


def ask(sonar: SonarQube, **changes: Any) -> tuple[Answer, list[str]]:
    """What the action leaves and prints."""
    arguments = {
        "server": sonar.url, "token": TOKEN, "project": "shop:api", "branch": "", "outputs": LEFT, **changes,
    }  # fmt: skip
    heard = Heard()

    async def main() -> None:
        async with asyncio.timeout(30):
            outgoing = HttpOutgoing(Rules.parse(["127.0.0.0/8"]))
            try:
                await Sonar(outgoing).run(heard, arguments)
            finally:
                await outgoing.aclose()

    asyncio.run(main())
    answer = answer_of(heard.outputs)
    assert answer is not None
    return answer, heard.lines


def test_a_scan_that_is_processed_after_a_while(server: SonarQube) -> None:
    server.tasks = [{"status": "PENDING"}, {"status": "IN_PROGRESS"}, {"status": "SUCCESS", "analysisId": "AN-1"}]
    server.down = 1
    answer, lines = ask(server, branch="main & more")
    assert answer == Answer(gate="OK", metrics=METRICS)
    assert answer.error == ""
    assert sum(path.startswith("/api/ce/task") for path in server.paths()) == 4
    assert "branch=main+%26+more" in server.paths()[-1].replace("%20", "+")
    assert lines[-1] == (
        "sonar: QualityGateStatus OK, Ncloc 1200, Bugs 0, Vulnerabilities 1, CodeSmells 7, Coverage 81.5"
    )
    assert not any(TOKEN in line for line in lines)


def test_a_gate_that_is_not_passed_names_what_failed(server: SonarQube) -> None:
    conditions = [
        {"status": "OK", "metricKey": "bugs", "comparator": "GT", "errorThreshold": "0", "actualValue": "0"},
        {"status": "ERROR", "metricKey": "coverage", "comparator": "LT", "errorThreshold": "80", "actualValue": "12.3"},
        {"status": "ERROR", "metricKey": "odd\nname", "comparator": 7},
    ]
    server.gate = {"status": "ERROR", "conditions": conditions}
    answer, lines = ask(server)
    assert answer.error == "quality gate: ERROR; coverage 12.3 fails LT 80; odd name ? fails 7"
    assert "sonar: failed: coverage 12.3 fails LT 80" in lines
    assert answer.metrics is not None
    assert answer.metrics["QualityGateStatus"] == "ERROR"
    server.gate = {"status": "NONE"}
    assert ask(server)[0].error == ""


def test_measures_that_are_not_there_fail_nothing(server: SonarQube) -> None:
    server.measures = None
    answer, lines = ask(server)
    assert (answer.metrics, answer.error) == (None, "")
    assert lines[-1].startswith("sonar: no measures: SonarQube answered 404 to api/measures/component: Component key")
    server.measures = {"bugs": "3"}
    answer, _ = ask(server)
    assert answer.metrics == {**dict.fromkeys(METRICS, ""), "QualityGateStatus": "OK", "Bugs": "3"}
    assert ask(server, project="", outputs={REPORT: "ceTaskId=AX-1"})[0].metrics is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"outputs": {}}, "the scanner left no report (.scannerwork/report-task.txt)"),
        ({"outputs": {REPORT: "ceTaskId=../../x?y"}}, "the scanner left no report (.scannerwork/report-task.txt)"),
        ({"outputs": {REPORT: "ceTaskId=AX-2"}},
         "SonarQube answered 404 to api/ce/task: No activity found for task"),
        ({"token": "wrong"}, "SonarQube refused the token (401)"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked(server: SonarQube, change: dict[str, Any], problem: str) -> None:
    answer, _ = ask(server, **change)
    assert answer == Answer(problem=problem)
    assert answer.error == f"the quality gate is not known: {problem}"


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"status": "FAILED", "errorMessage": "no such\nbranch"},
         "SonarQube ended the processing of the scan: FAILED: no such branch"),
        ({"status": "CANCELED"}, "SonarQube ended the processing of the scan: CANCELED"),
        ({"status": "SUCCESS"}, "SonarQube processed the scan and named no analysis"),
    ],
)  # fmt: skip
def test_a_scan_that_is_not_processed(server: SonarQube, task: dict[str, Any], problem: str) -> None:
    server.tasks = [task]
    assert ask(server)[0] == Answer(problem=problem)


def test_a_server_that_does_not_come_back(server: SonarQube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_S", 0.2)
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.02)
    answer, _ = ask(server, server="http://127.0.0.1:9")
    assert answer.problem == "SonarQube did not process the scan within 0 minutes"


def test_answers_that_are_none(server: SonarQube) -> None:
    for gate in ([], "x", None):
        server.gate = gate  # type: ignore[assignment]
        assert ask(server)[0] == Answer(problem="SonarQube's answer holds no projectStatus")
