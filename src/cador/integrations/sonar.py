"""Action ``sonar``: ask a SonarQube server what came of a scan.

Arguments: ``server``, ``token``, ``project``, ``branch``, ``outputs`` (what the job wrote, with the scanner's report).
The report names a task of the server's; when that has ended, its quality gate and measures are asked for. Nothing but
questions: doing it again harms nothing. Addresses in the report are not used: a scan must not choose whom the server
calls with its token. The answer is left as one JSON object, see :func:`cador.jobs.steps.sonar.answer_of`.
"""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from cador.jobs.steps.sonar import ANSWER, METRICS, Answer, answer_text, report_of
from cador.ports.actions import ActionRun
from cador.ports.outgoing import NotJson, Outgoing, OutgoingError

REQUEST_S: Final = 15.0
LONGEST_S: Final = 600.0
"""How long the server may take to process a scan."""
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 5.0
_SHOWN: Final = 300
_CONDITIONS: Final = 50


class Refused(Exception):
    """The server said no, or nothing that can be used."""


class Sonar:
    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def run(self, run: ActionRun, arguments: Mapping[str, Any]) -> None:
        """See :data:`cador.ports.actions.Action`."""
        report = report_of(arguments["outputs"])
        if report is None:
            answer = Answer(problem="the scanner left no report (.scannerwork/report-task.txt)")
        else:
            asked = _Asked(self._outgoing, arguments)
            try:
                answer = await asked.all(run, report["task"], arguments["project"] or report["project"])
            except (Refused, OutgoingError) as error:
                answer = Answer(problem=run.mask(str(error)))
                run.line(f"sonar: {answer.problem}")
        run.leave(ANSWER, answer_text(answer))


class _Asked:
    """One scan's questions."""

    def __init__(self, outgoing: Outgoing, arguments: Mapping[str, Any]) -> None:
        self._outgoing = outgoing
        self._server: str = arguments["server"]
        self._branch: str = arguments["branch"]
        basic = base64.b64encode(f"{arguments['token']}:".encode()).decode()
        self._headers = {"Authorization": f"Basic {basic}", "Accept": "application/json"}

    async def all(self, run: ActionRun, task: str, project: str) -> Answer:
        """Raises: Refused, OutgoingError: the quality gate is not known."""
        run.line(f"sonar: waiting for {self._server} to process scan {task}")
        try:
            async with asyncio.timeout(LONGEST_S):
                analysis = await self._analysis(task)
        except TimeoutError:
            raise Refused(f"SonarQube did not process the scan within {LONGEST_S / 60:.0f} minutes") from None
        gate = await self._get("api/qualitygates/project_status", {"analysisId": analysis})
        status = _object(gate, "projectStatus")
        failed = [_condition(one) for one in _list(status, "conditions") if one.get("status") != "OK"]
        answer = Answer(gate=_text(status.get("status")) or "NONE", conditions=tuple(failed[:_CONDITIONS]))
        run.line(f"sonar: quality gate {answer.gate}")
        for condition in answer.conditions:
            run.line(f"sonar: failed: {condition}")
        try:
            metrics = {"QualityGateStatus": answer.gate, **await self._measures(project)}
        except (Refused, OutgoingError) as error:
            run.line(run.mask(f"sonar: no measures: {error}"))
            return answer
        run.line("sonar: " + ", ".join(f"{name} {value or '-'}" for name, value in metrics.items()))
        return replace(answer, metrics=metrics)

    async def _analysis(self, task: str) -> str:
        """Id of the analysis, when the server's task has ended. A server that is away for a moment is asked again."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                found = _object(await self._get("api/ce/task", {"id": task}), "task")
            except OutgoingError as error:
                if error.final:
                    raise
                found = {}
            match found.get("status"):
                case "SUCCESS":
                    if not (analysis := _text(found.get("analysisId"))):
                        raise Refused("SonarQube processed the scan and named no analysis")
                    return analysis
                case "FAILED" | "CANCELED" as status:
                    reason = _text(found.get("errorMessage"))
                    raise Refused(f"SonarQube ended the processing of the scan: {status}" + (reason and f": {reason}"))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)

    async def _measures(self, project: str) -> dict[str, str]:
        if not project:
            raise Refused("the project is not known")
        query = {"component": project, "metricKeys": ",".join(METRICS)}
        if self._branch:
            query["branch"] = self._branch
        component = _object(await self._get("api/measures/component", query), "component")
        values = {_text(one.get("metric")): _text(one.get("value")) for one in _list(component, "measures")}
        return {name: values.get(metric, "") for metric, name in METRICS.items()}

    async def _get(self, path: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        """Raises: Refused; OutgoingError, of which one that is not final may pass."""
        reply = await self._outgoing(
            "GET",
            f"{self._server}/{path}",
            chosen_by="operator",
            params=query,
            headers=self._headers,
            within_s=REQUEST_S,
        )
        if reply.status in (429, 502, 503, 504):
            raise _Busy(f"SonarQube answered {reply.status}")
        if reply.status in (401, 403):
            raise Refused(f"SonarQube refused the token ({reply.status})")
        try:
            body = reply.json()
        except NotJson as error:
            raise Refused(str(error)) from error
        if not reply.ok:
            errors = _list(body, "errors") if isinstance(body, Mapping) else []
            words = "; ".join(_text(one.get("msg")) for one in errors) or "no reason"
            raise Refused(f"SonarQube answered {reply.status} to {path}: {words[:_SHOWN]}")
        if not isinstance(body, Mapping):
            raise Refused(f"SonarQube answered {path} with no object")
        return body


class _Busy(OutgoingError):
    """Ask again later."""


def _object(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = body.get(key)
    if not isinstance(found, Mapping):
        raise Refused(f"SonarQube's answer holds no {key}")
    return found


def _list(body: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = body.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _text(value: Any) -> str:
    """One line of it."""
    return " ".join(str(value).split())[:_SHOWN] if isinstance(value, (str, int, float)) else ""


def _condition(one: Mapping[str, Any]) -> str:
    words = (
        one.get("metricKey"),
        one.get("actualValue", "?"),
        "fails",
        one.get("comparator"),
        one.get("errorThreshold"),
    )
    return " ".join(filter(None, map(_text, words)))
