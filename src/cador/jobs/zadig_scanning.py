"""Job type ``zadig-scanning``: run code scans. Source: API documents, "Execute the Workflow", ``zadig-scanning``.

A scan configuration (kind ``scan``) names repositories, variables and a script. Scans of type ``sonarQube`` report to a
SonarQube server (kind ``sonar``): when their processes have ended, the server asks it what came of the scan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, urlencode

from pydantic import Field

from cador.domain.errors import NotStartable
from cador.domain.naming import norm, primary_repo
from cador.domain.variables import expand_shell_names, for_service
from cador.domain.workflow import Job
from cador.jobs.base import Collected, Conclusion, Doc, JobTaskPlan, Run, Scope
from cador.jobs.environment import repo_variables
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
from cador.jobs.steps.sonar import REASON, answer_of, properties, report_of
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
from cador.ports.actions import ActionCall
from cador.ports.executor import JobFolder

Object = dict[str, Any]
_BY_SERVICE: Final = "service_scanning"
_SONAR: Final = "sonarQube"
_RESULTS: Final = "scanning-result"
_ARCHIVE: Final = "artifactResultOut.tar.gz"


class NamedScanInput(Input):
    scanning_name: str
    repo_info: list[RepoInput] = Field(default_factory=list)
    inputs: list[KeyInput] = Field(default_factory=list)


class ScanningInput(Input):
    scanning_list: list[NamedScanInput] = Field(default_factory=list)
    service_list: list[ServiceInput] | None = Field(None)


class Scanning(SandboxType):
    name = "zadig-scanning"

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        """``scanning_list`` overrides, it does not select: a scan that is not listed runs as it is stored."""
        given = parse(ScanningInput, parameters)
        where = f"job {job.name}"
        if text(job.spec.get("scanning_type")) == _BY_SERVICE:
            return self._services(job, given.service_list, scope, where)
        asked = {item.scanning_name: item for item in given.scanning_list}
        scans = []
        for entry in _scans(job.spec):
            item = asked.pop(text(entry.get("name")), None)
            scans.append(self._set(entry, item, scope, where) if item else entry)
        for name in asked:
            scope.warn(f"{where}: scan {name} is not configured")
        return {**job.spec, "scannings": scans}

    def _services(self, job: Job, given: list[ServiceInput] | None, scope: Scope, where: str) -> Object:
        if given is None:
            return dict(job.spec)
        asked = {item.pair: item for item in given}
        configured = _service_scans(job.spec)
        chosen = [self._set(entry, asked[_pair(entry)], scope, where) for entry in configured if _pair(entry) in asked]
        for service, module in (pair for pair in asked if pair not in {_pair(entry) for entry in configured}):
            scope.warn(f"{where}: {service}/{module} has no scan configured")
        left_out = ("service_scanning_options", "target_services")
        return {**{k: v for k, v in job.spec.items() if k not in left_out}, "service_and_scannings": chosen}

    def _set(self, entry: Object, given: NamedScanInput | ServiceInput, scope: Scope, where: str) -> Object:
        base = _configuration(entry, scope)
        return {
            **entry,
            "key_vals": set_values(_envs(base, entry), given.inputs, scope, where),
            "repos": set_refs(_repos(base, entry, scope, where), given.repo_info, scope, where),
        }

    def expand(self, job: Job, scope: Scope) -> list[JobTaskPlan]:
        if text(job.spec.get("scanning_type")) != _BY_SERVICE:
            return [self._task(job, entry, (), scope) for entry in _scans(job.spec)]
        entries = _service_scans(job.spec)
        refs: dict[tuple[str, str], Sequence[Mapping[str, Any]]] = {}
        if job.spec.get("source") == "fromjob":
            modules = referred_services(job, scope)
            configured = {_pair(entry) for entry in entries}
            entries = [entry for module in modules for entry in entries if _pair(entry) == module.pair]
            for module in modules:
                if module.pair not in configured:
                    scope.warn(f"job {job.name}: {module.service}/{module.module} has no scan configured, left out")
            if job.spec.get("ref_repos") is True:
                refs = {module.pair: module.repos for module in modules}
        elif chosen := {_pair(entry) for entry in objects(job.spec.get("target_services"))}:
            entries = [entry for entry in entries if _pair(entry) in chosen]
        return with_job_lists(
            job.name, [self._task(job, entry, refs.get(_pair(entry), ()), scope) for entry in entries]
        )

    def _task(self, job: Job, entry: Object, refs: Sequence[Mapping[str, Any]], scope: Scope) -> JobTaskPlan:
        kind = text(job.spec.get("scanning_type"))
        service, module = _pair(entry) if kind == _BY_SERVICE else ("", "")
        scan = text(entry.get("name"))
        where = f"job {job.name} scan {scan}"
        base = _configuration(entry, scope)
        settings = mapping(base.get("advanced_settings"))
        repos = overlay_refs(_repos(base, entry, scope, where), [dict(repo) for repo in refs])
        envs = _envs(base, entry)
        require_values(envs, where)
        branch = text(repos[0].get("branch")) if repos else ""
        predefined = {"SCANNING_TYPE": kind, "SCANNING_NAME": scan, "BRANCH": branch}
        if kind == _BY_SERVICE:
            predefined |= {"SERVICE_NAME": service, "SERVICE_MODULE": module}
        plan: Object = {
            "service_name": service,
            "service_module": module,
            "scanning_type": kind,
            "scanning_name": scan,
            "envs": envs,
            "predefined": predefined,
            "outputs": output_names(settings.get("outputs")),
            "image": image(None, None, base.get("image_name"), scope, where),
            "limits": limits("define", settings.get("resource_spec") or {"cpu_limit": 1000, "memory_limit": 512}),
            "sonar": _sonar(base, repos, envs, predefined, scope) if base.get("scanner_type") == _SONAR else None,
        }
        plan["steps"] = _steps(scan, base, repos, plan["sonar"])
        own = (service, module) if kind == _BY_SERVICE else (scan,)
        key = ".".join([job.name, *own])
        plan = for_service(plan, service, module) if kind == _BY_SERVICE else plan
        return JobTaskPlan(
            name=norm(*own, job.name),
            key=key,
            display_name="-".join([job.name, *own]),
            timeout_s=timeout_s(settings.get("timeout"), USUAL_MIN),
            plan=plan,
            info={"job_name": job.name, "scanning_name": scan, "service_name": service, "service_module": module},
            variables=variables_of(key, plan),
            repos=git_paths(plan),
        )

    def compile(self, plan: Doc, run: Run) -> JobFolder:
        sonar = plan.get("sonar")
        if sonar is None:
            return super().compile(plan, run)
        told = {
            "SONAR_URL": sonar["server"],
            "SONAR_LINK": _link(sonar, sonar["project"]),
            "SONAR_TOKEN": sonar["token"],
        }
        folder = super().compile({**plan, "predefined": {**plan["predefined"], **told}}, run)
        token = run.open(sonar["token"])
        asked = {"server": sonar["server"], "project": sonar["project"], "branch": sonar["branch"], "token": token}
        secrets = tuple(dict.fromkeys([*folder.secrets, token]))
        return replace(folder, secrets=secrets, after=ActionCall("sonar", asked, repeatable=True))

    def conclude(self, plan: Doc, outputs: Mapping[str, str], passed: bool, collected: Collected) -> Conclusion:
        base = super().conclude(plan, outputs, passed, collected)
        result = {**base.result, "archive": bool(collected.names(_RESULTS))}
        sonar, report = plan.get("sonar"), report_of(outputs)
        if sonar is None:
            return Conclusion(result=result)
        published: dict[str, str] = {}
        if report is not None:
            project = text(sonar["project"]) or report["project"]
            published = {
                "SonarCETaskID": report["task"],
                "SonarProjectKey": project,
                "SonarBranchKey": text(sonar["branch"]),
            }
            result["link_url"] = _link(sonar, project)
        answer = answer_of(outputs)
        if answer is not None and answer.metrics is not None:
            result["sonar_metrics"] = dict(answer.metrics)
        error = "" if passed else outputs.get(REASON, "").strip()
        if passed and answer is not None and sonar["check_quality_gate"]:
            error = answer.error
        return Conclusion(result=result, error=error, outputs=published)

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        sonar = mapping(plan.get("sonar"))
        return {
            "scanning_type": plan["scanning_type"],
            "scanning_name": plan["scanning_name"],
            "service_name": plan["service_name"],
            "service_module": plan["service_module"],
            "repos": shown_repos(plan, result),
            "link_url": text(result.get("link_url")) or (_link(sonar, sonar["project"]) if sonar else ""),
            "is_has_artifact": final and result.get("archive") is True,
            "sonar_metrics": result.get("sonar_metrics"),
            "envs": shown_variables(plan["envs"]),
        }


def _scans(spec: Doc) -> list[Object]:
    return objects(spec.get("scannings")) or objects(spec.get("scanning_options"))


def _service_scans(spec: Doc) -> list[Object]:
    return objects(spec.get("service_scanning_options")) or objects(spec.get("service_and_scannings"))


def _pair(entry: Doc) -> tuple[str, str]:
    return text(entry.get("service_name")), text(entry.get("service_module"))


def _configuration(entry: Doc, scope: Scope) -> Mapping[str, Any]:
    """Raises: NotStartable."""
    name, project = text(entry.get("name")), text(entry.get("project_name")) or scope.workflow.project
    found = scope.catalogue.find("scan", name, project) or scope.catalogue.find("scan", name)
    if found is None:
        raise NotStartable(f"find scanning: {name} error: not found in project {project}")
    return found.document


def _envs(base: Doc, entry: Doc) -> list[Object]:
    """Variables of the configuration with the values of the workflow."""
    return overlay_values(variables(base.get("parameters")), variables(entry.get("key_vals")))


def _repos(base: Doc, entry: Doc, scope: Scope, where: str) -> list[Object]:
    """Repositories of the configuration with what the workflow checks out of them."""
    repos = configured_repos(base.get("repo_info"), scope, where)
    return overlay_refs(repos, configured_repos(entry.get("repos"), scope, where))


def _sonar(
    base: Doc, repos: Sequence[Object], envs: Sequence[Object], predefined: Mapping[str, str], scope: Scope
) -> Object:
    """What a scan needs to know of SonarQube; the token stays sealed. Raises: NotStartable."""
    name = text(base.get("sonar_system"))
    server = scope.catalogue.find("sonar", name)
    if server is None:
        raise NotStartable(f"failed to find sonar system with name: {name}")
    open_values = {item["key"]: item["value"] for item in envs if not item["is_credential"]}
    known = {**open_values, **predefined, **repo_variables(repos), "branch": predefined["BRANCH"]}
    parameter = expand_shell_names(text(base.get("sonar_parameter")), known)
    told = properties(parameter)
    address = text(server.document.get("server_address"))
    project, branch = told.get("sonar.projectKey", ""), told.get("sonar.branch.name", "")
    first = primary_repo(repos) or {}
    return {
        "server": address,
        "token": text(server.document.get("token")),
        "parameter": parameter,
        "project": project,
        "branch": branch,
        "check_dir": text(first.get("checkout_path")) or text(first.get("repo_name")) or ".",
        "enable_scanner": base.get("enable_scanner") is True,
        "check_quality_gate": base.get("enable_quality_gate") is True,
    }


def _link(sonar: Doc, project: str) -> str:
    """Page of a project on its SonarQube server; the server's own when the project is not known."""
    if not project:
        return text(sonar["server"])
    branch = {"branch": text(sonar["branch"])} if sonar["branch"] else {}
    return f"{sonar['server']}/dashboard?" + urlencode({"id": project, **branch}, quote_via=quote)


def _steps(scan: str, base: Doc, repos: list[Object], sonar: Object | None) -> list[Object]:
    own, other = ("script", "prelaunch_script") if sonar is None else ("prelaunch_script", "script")
    script = text(base.get(own)) or text(base.get(other))
    steps: list[Object] = [
        {"name": f"{scan}-tool-install", "type": "tools", "spec": {"installs": objects(base.get("addons"))}},
        {"name": f"{scan}-git", "type": "git", "spec": {"repos": repos}},
        {"name": f"{scan}-shell", "type": "shell", "spec": {"script": script}},
    ]
    if sonar is not None:
        spec = {key: sonar[key] for key in ("server", "parameter", "check_dir")}
        if sonar["enable_scanner"]:
            steps.append({"name": f"{scan}-sonar", "type": "sonar_scanner", "spec": spec})
        steps.append({"name": f"{scan}-sonar-report", "type": "sonar_get_metrics", "spec": spec})
    if paths := [text(path) for path in base.get("artifact_paths") or () if text(path).strip()]:
        kept = {"result_dirs": paths, "dest_dir": _RESULTS, "file_name": _ARCHIVE}
        steps.append({"name": "archive-result-step", "type": "tar_archive", "spec": kept})
    return [step for step in steps if has_work(step)]


SCANNING: Final = Scanning()
