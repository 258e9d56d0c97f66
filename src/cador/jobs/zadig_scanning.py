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
from cador.domain.naming import primary_repo
from cador.domain.variables import expand_shell_names
from cador.jobs.base import Collected, Conclusion, Doc, Run, Scope
from cador.jobs.configured import USUAL_RESOURCES, ListedType, Shape
from cador.jobs.environment import repo_variables
from cador.jobs.sandbox import has_work, image, limits, output_names
from cador.jobs.steps.sonar import REASON, answer_of, properties, report_of
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
from cador.ports.actions import ActionCall
from cador.ports.executor import JobFolder

Object = dict[str, Any]
_SHAPE: Final = Shape(
    kind="scan",
    find="find scanning",
    type_key="scanning_type",
    by_service="service_scanning",
    listed=("scannings", "scanning_options"),
    served=("service_and_scannings", "service_scanning_options"),
    name_key="scanning_name",
)
_SONAR: Final = "sonarQube"
_RESULTS: Final = "scanning-result"
_ARCHIVE: Final = "artifactResultOut.tar.gz"


class NamedScanInput(Input):
    scanning_name: str
    repo_info: list[RepoInput] = Field(default_factory=list)
    inputs: list[KeyInput] = Field(default_factory=list)

    @property
    def name(self) -> str:
        return self.scanning_name


class ScanningInput(Input):
    scanning_list: list[NamedScanInput] = Field(default_factory=list)
    service_list: list[ServiceInput] | None = Field(None)


class Scanning(ListedType):
    name = "zadig-scanning"
    shape = _SHAPE

    def given(self, parameters: Doc) -> tuple[Sequence[NamedScanInput], list[ServiceInput] | None]:
        given = parse(ScanningInput, parameters)
        return given.scanning_list, given.service_list

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
        scan, kind = text(entry.get("name")), _SHAPE.by_service if by_service else ""
        branch = text((primary_repo(repos) or {}).get("branch"))
        predefined = {"SCANNING_TYPE": kind, "SCANNING_NAME": scan, "BRANCH": branch}
        if by_service:
            predefined |= {key.upper(): text(entry.get(key)) for key in ("service_name", "service_module")}
        settings = mapping(base.get("advanced_settings"))
        sonar = _sonar(base, repos, envs, predefined, scope) if base.get("scanner_type") == _SONAR else None
        return {
            "scanning_type": kind,
            "scanning_name": scan,
            "envs": envs,
            "predefined": predefined,
            "steps": _steps(scan, base, repos, sonar),
            "outputs": output_names(settings.get("outputs")),
            "image": image(None, None, base.get("image_name"), scope, where),
            "limits": limits("define", settings.get("resource_spec") or USUAL_RESOURCES),
            "sonar": sonar,
        }

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
    if paths := [path for path in texts(base.get("artifact_paths")) if path.strip()]:
        kept = {"result_dirs": paths, "dest_dir": _RESULTS, "file_name": _ARCHIVE}
        steps.append({"name": "archive-result-step", "type": "tar_archive", "spec": kept})
    return [step for step in steps if has_work(step)]


SCANNING: Final = Scanning()
