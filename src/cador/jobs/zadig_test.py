"""Job type ``zadig-test``: run tests and judge their reports. Source: API documents, "Execute the Workflow",
``zadig-test``. A test configuration (kind ``test``) names repositories, variables, a script and where its reports are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from cador.jobs.base import Collected, Conclusion, Doc, Scope
from cador.jobs.configured import USUAL_RESOURCES, ListedType, Shape
from cador.jobs.junit import MOST_CASES, TooManyCases, merge, merged_xml, verdict
from cador.jobs.sandbox import has_work, image, limits, output_names
from cador.jobs.steps.archive import compile_results
from cador.jobs.steps.base import StepParts
from cador.jobs.steps.shell import check_script_type
from cador.jobs.values import (
    Input,
    KeyInput,
    RepoInput,
    ServiceInput,
    mapping,
    objects,
    parse,
    shown_repos,
    shown_variables,
    text,
    texts,
)

Object = dict[str, Any]
_SHAPE: Final = Shape(
    kind="test",
    find="find testing",
    type_key="test_type",
    by_service="service_test",
    listed=("test_modules", "test_module_options"),
    served=("service_and_tests", "service_test_options"),
    name_key="test_name",
)
_JUNIT: Final = "junit"
_HTML: Final = "html-report"
_RESULTS: Final = "test-result"
_MERGED: Final = f"{_JUNIT}/merged.xml"
_LARGEST_REPORT: Final = 64 * 1024 * 1024
"""Bytes of all reports of a job together."""


class NamedTestInput(Input):
    testing_name: str
    repo_info: list[RepoInput] = Field(default_factory=list)
    inputs: list[KeyInput] = Field(default_factory=list)

    @property
    def name(self) -> str:
        return self.testing_name


class TestingInput(Input):
    __test__ = False

    testing_list: list[NamedTestInput] = Field(default_factory=list)
    service_list: list[ServiceInput] | None = Field(None)


class Testing(ListedType):
    name = "zadig-test"
    shape = _SHAPE

    def given(self, parameters: Doc) -> tuple[Sequence[NamedTestInput], list[ServiceInput] | None]:
        given = parse(TestingInput, parameters)
        return given.testing_list, given.service_list

    def plan(
        self,
        entry: Doc,
        base: Doc,
        envs: list[Object],
        repos: list[Object],
        by_service: bool,
        scope: Scope,
        where: str,
    ) -> Object:
        check_script_type(text(base.get("script_type")))
        test, project = text(entry.get("name")), text(entry.get("project_name")) or scope.workflow.project
        kind = _SHAPE.by_service if by_service else ""
        predefined = {"TESTING_PROJECT": project, "TESTING_NAME": test, "TESTING_TYPE": kind}
        if by_service:
            service, module = text(entry.get("service_name")), text(entry.get("service_module"))
            predefined |= {"SERVICE": service, "SERVICE_NAME": service, "SERVICE_MODULE": module}
        settings = mapping(base.get("advanced_settings"))
        return {
            "test_name": test,
            "project_name": project,
            "envs": envs,
            "predefined": predefined,
            "steps": _steps(test, base, repos),
            "outputs": output_names(settings.get("outputs")),
            "image": image(base.get("image_from"), base.get("image_id"), base.get("build_os"), scope, where),
            "limits": limits("define", settings.get("resource_spec") or USUAL_RESOURCES),
            "reports": {
                "junit": text(base.get("report_path")),
                "html": text(base.get("html_report_path")),
                "artifacts": texts(base.get("artifact_paths")),
                "pass_rate": base.get("pass_rate") or 0,
            },
        }

    def reports(self, plan: Doc, env: Mapping[str, str]) -> StepParts:
        reports = plan["reports"]
        parts = [
            compile_results([reports["html"]], _HTML, env),
            compile_results(reports["artifacts"], _RESULTS, env),
            compile_results([reports["junit"]], _JUNIT, env),
        ]
        return StepParts(keep=tuple(keep for part in parts for keep in part.keep))

    def conclude(self, plan: Doc, outputs: Mapping[str, str], passed: bool, collected: Collected) -> Conclusion:
        base = super().conclude(plan, outputs, passed, collected)
        result = {
            **base.result,
            "html_report": bool(collected.names(_HTML)),
            "archive": bool(collected.names(_RESULTS)),
        }
        folder = plan["reports"]["junit"]
        if not folder:
            return Conclusion(result=result)
        names = sorted(name for name in collected.names(_JUNIT) if _is_report(name))
        if not names:
            missing = f"failed to merge test result: test result files not found in path {folder}"
            return Conclusion(result=result, error=missing if passed else "", lines=() if passed else (missing,))
        try:
            report, problems = merge(_read(names, collected))
        except (_TooLarge, TooManyCases) as more:
            most = f"{_LARGEST_REPORT >> 20} MiB" if isinstance(more, _TooLarge) else f"{MOST_CASES} test cases"
            large = f"the test reports in {folder} are more than {most} together"
            return Conclusion(result=result, error=large if passed else "", lines=() if passed else (large,))
        facts = report.facts()
        error = verdict(report, plan["reports"]["pass_rate"])
        summary = (
            f"tests: {facts['tests']}, successes: {facts['successes']}, failures: {facts['failures']}, "
            f"errors: {facts['errors']}, skips: {facts['skips']}"
        )
        return Conclusion(
            result={**result, "junit": facts},
            error=error if passed else "",
            lines=(*problems, summary),
            files={_MERGED: merged_xml(report, plan["test_name"])},
        )

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        return {
            "repos": shown_repos(plan, result),
            "junit_report": final and "junit" in result,
            "archive": final and result.get("archive") is True,
            "html_report": final and result.get("html_report") is True,
            "project_name": plan["project_name"],
            "test_name": plan["test_name"],
            "test_type": _SHAPE.by_service if plan["service_name"] else "",
            "service_name": plan["service_name"],
            "service_module": plan["service_module"],
            "envs": shown_variables(plan["envs"]),
        }


def _is_report(name: str) -> bool:
    """XML files directly in the folder; ours is none of them."""
    inside = name.removeprefix(f"{_JUNIT}/")
    return "/" not in inside and inside.lower().endswith(".xml") and inside != "merged.xml"


class _TooLarge(Exception):
    """Judging by a part of the reports could let failed tests pass."""


def _read(names: Iterable[str], collected: Collected) -> Iterator[tuple[str, bytes]]:
    left = _LARGEST_REPORT
    for name in names:
        content = collected.open(name, left + 1)
        left -= len(content)
        if left < 0:
            raise _TooLarge
        yield name, content


def _steps(test: str, base: Doc, repos: list[Object]) -> list[Object]:
    steps: list[Object] = [
        {"name": f"{test}-tool-install", "type": "tools", "spec": {"installs": objects(base.get("installs"))}},
        {"name": f"{test}-git", "type": "git", "spec": {"repos": repos}},
        {"name": f"{test}-shell", "type": "shell", "spec": {"script": text(base.get("script"))}},
    ]
    storage = mapping(mapping(base.get("post_test")).get("object_storage_upload") or base.get("object_storage_upload"))
    if storage.get("enabled"):
        spec = {"upload_detail": objects(storage.get("upload_detail"))}
        steps.append({"name": "object-storage-step", "type": "archive", "spec": spec})
    return [step for step in steps if has_work(step)]


TEST: Final = Testing()
