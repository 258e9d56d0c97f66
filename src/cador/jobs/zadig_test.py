"""Job type ``zadig-test``: run tests and judge their reports. Source: API documents, "Execute the Workflow",
``zadig-test``. A test configuration (kind ``test``) names repositories, variables, a script and where its reports are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from cador.domain.errors import NotStartable
from cador.domain.naming import norm
from cador.domain.variables import for_service
from cador.domain.workflow import Job
from cador.jobs.base import Collected, Conclusion, Doc, JobTaskPlan, Scope
from cador.jobs.junit import merge, merged_xml, verdict
from cador.jobs.sandbox import (
    USUAL_MIN,
    SandboxType,
    git_paths,
    has_work,
    image,
    limits,
    output_names,
    timeout_s,
    variables_of,
    with_job_lists,
)
from cador.jobs.sources import referred_services
from cador.jobs.steps.archive import compile_results
from cador.jobs.steps.base import StepParts
from cador.jobs.steps.shell import check_script_type
from cador.jobs.values import (
    Input,
    KeyInput,
    RepoInput,
    ServiceInput,
    configured_repos,
    mapping,
    objects,
    overlay_refs,
    overlay_values,
    parse,
    require_values,
    set_refs,
    set_values,
    shown_repos,
    shown_variables,
    text,
    variables,
)

Object = dict[str, Any]
_BY_SERVICE: Final = "service_test"
_JUNIT: Final = "junit"
_HTML: Final = "html-report"
_RESULTS: Final = "test-result"
_MERGED: Final = f"{_JUNIT}/merged.xml"
_LARGEST_REPORT: Final = 64 * 1024 * 1024


class NamedTestInput(Input):
    testing_name: str
    repo_info: list[RepoInput] = Field(default_factory=list)
    inputs: list[KeyInput] = Field(default_factory=list)


class TestingInput(Input):
    __test__ = False

    testing_list: list[NamedTestInput] = Field(default_factory=list)
    service_list: list[ServiceInput] | None = Field(None)


class Testing(SandboxType):
    name = "zadig-test"

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(TestingInput, parameters)
        where = f"job {job.name}"
        if text(job.spec.get("test_type")) == _BY_SERVICE:
            return self._services(job, given.service_list, scope, where)
        asked = {item.testing_name: item for item in given.testing_list}
        tests = []
        for entry in _tests(job.spec):
            item = asked.pop(text(entry.get("name")), None)
            tests.append(self._set(entry, item, scope, where) if item else entry)
        for name in asked:
            scope.warn(f"{where}: test {name} is not configured")
        return {**job.spec, "test_modules": tests}

    def _services(self, job: Job, given: list[ServiceInput] | None, scope: Scope, where: str) -> Object:
        if given is None:
            return dict(job.spec)
        asked = {item.pair: item for item in given}
        configured = _service_tests(job.spec)
        chosen = [self._set(entry, asked[_pair(entry)], scope, where) for entry in configured if _pair(entry) in asked]
        for service, module in asked.keys() - {_pair(entry) for entry in configured}:
            scope.warn(f"{where}: {service}/{module} has no test configured")
        spec = {key: value for key, value in job.spec.items() if key not in ("service_test_options", "target_services")}
        return {**spec, "service_and_tests": chosen}

    def _set(self, entry: Object, given: NamedTestInput | ServiceInput, scope: Scope, where: str) -> Object:
        base = _configuration(entry, scope)
        envs = overlay_values(variables(base.get("parameters")), variables(entry.get("key_vals")))
        repos = configured_repos(base.get("repo_info"), scope, where)
        repos = overlay_refs(repos, configured_repos(entry.get("repos"), scope, where))
        return {
            **entry,
            "key_vals": set_values(envs, given.inputs, scope, where),
            "repos": set_refs(repos, given.repo_info, scope, where),
        }

    def expand(self, job: Job, scope: Scope) -> list[JobTaskPlan]:
        if text(job.spec.get("test_type")) != _BY_SERVICE:
            return [self._task(job, entry, (), scope) for entry in _tests(job.spec)]
        entries = _service_tests(job.spec)
        refs: dict[tuple[str, str], Sequence[Mapping[str, Any]]] = {}
        if job.spec.get("source") == "fromjob":
            modules = referred_services(job, scope)
            configured = {_pair(entry) for entry in entries}
            entries = [entry for module in modules for entry in entries if _pair(entry) == module.pair]
            for module in modules:
                if module.pair not in configured:
                    scope.warn(f"job {job.name}: {module.service}/{module.module} has no test configured, left out")
            if job.spec.get("ref_repos") is True:
                refs = {module.pair: module.repos for module in modules}
        elif chosen := {_pair(entry) for entry in objects(job.spec.get("target_services"))}:
            entries = [entry for entry in entries if _pair(entry) in chosen]
        plans = [self._task(job, entry, refs.get(_pair(entry), ()), scope) for entry in entries]
        return with_job_lists(job.name, plans)

    def _task(self, job: Job, entry: Object, refs: Sequence[Mapping[str, Any]], scope: Scope) -> JobTaskPlan:
        by_service = text(job.spec.get("test_type")) == _BY_SERVICE
        service, module = _pair(entry) if by_service else ("", "")
        test, project = text(entry.get("name")), text(entry.get("project_name")) or scope.workflow.project
        where = f"job {job.name} test {test}"
        base = _configuration(entry, scope)
        check_script_type(text(base.get("script_type")))
        settings = mapping(base.get("advanced_settings"))
        repos = configured_repos(base.get("repo_info"), scope, where)
        repos = overlay_refs(repos, configured_repos(entry.get("repos"), scope, where))
        repos = overlay_refs(repos, [dict(repo) for repo in refs])
        envs = overlay_values(variables(base.get("parameters")), variables(entry.get("key_vals")))
        require_values(envs, where)
        predefined = {
            "TESTING_PROJECT": project,
            "TESTING_NAME": test,
            "TESTING_TYPE": _BY_SERVICE if by_service else "",
        }
        if by_service:
            predefined |= {"SERVICE": service, "SERVICE_NAME": service, "SERVICE_MODULE": module}
        plan: Object = {
            "service_name": service,
            "service_module": module,
            "test_name": test,
            "project_name": project,
            "envs": envs,
            "predefined": predefined,
            "steps": _steps(test, base, repos),
            "outputs": output_names(settings.get("outputs")),
            "image": image(base.get("image_from"), base.get("image_id"), base.get("build_os"), scope, where),
            "limits": limits("define", settings.get("resource_spec") or {"cpu_limit": 1000, "memory_limit": 512}),
            "reports": {
                "junit": text(base.get("report_path")),
                "html": text(base.get("html_report_path")),
                "artifacts": [text(path) for path in base.get("artifact_paths") or ()],
                "pass_rate": base.get("pass_rate") or 0,
            },
        }
        own = (service, module) if by_service else (test,)
        key = ".".join([job.name, *own])
        plan = for_service(plan, service, module) if by_service else plan
        return JobTaskPlan(
            name=norm(*own, job.name),
            key=key,
            display_name="-".join([job.name, *own]),
            timeout_s=timeout_s(settings.get("timeout"), USUAL_MIN),
            plan=plan,
            info={"job_name": job.name, "test_name": test, "service_name": service, "service_module": module},
            variables=variables_of(key, plan),
            repos=git_paths(plan),
        )

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
        report, problems = merge(_read(names, collected))
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
            "test_type": _BY_SERVICE if plan["service_name"] else "",
            "service_name": plan["service_name"],
            "service_module": plan["service_module"],
            "envs": shown_variables(plan["envs"]),
        }


def _is_report(name: str) -> bool:
    """XML files directly in the folder; ours is none of them."""
    inside = name.removeprefix(f"{_JUNIT}/")
    return "/" not in inside and inside.lower().endswith(".xml") and inside != "merged.xml"


def _read(names: Iterable[str], collected: Collected) -> Iterable[tuple[str, bytes]]:
    left = _LARGEST_REPORT
    for name in names:
        content = collected.open(name)
        left -= len(content)
        if left < 0:
            return
        yield name, content


def _pair(entry: Doc) -> tuple[str, str]:
    return text(entry.get("service_name")), text(entry.get("service_module"))


def _tests(spec: Doc) -> list[Object]:
    return objects(spec.get("test_modules")) or objects(spec.get("test_module_options"))


def _service_tests(spec: Doc) -> list[Object]:
    return objects(spec.get("service_test_options")) or objects(spec.get("service_and_tests"))


def _configuration(entry: Doc, scope: Scope) -> Mapping[str, Any]:
    name, project = text(entry.get("name")), text(entry.get("project_name")) or scope.workflow.project
    found = scope.catalogue.find("test", name, project) or scope.catalogue.find("test", name)
    if found is None:
        raise NotStartable(f"find testing: {name} error: not found in project {project}")
    return found.document


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
