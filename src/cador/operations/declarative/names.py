"""Names in documents to ids, and back. Pure: who knows the names hands them in."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cador.domain.errors import Invalid
from cador.operations.models.registry import location
from cador.operations.models.service import read_modules

if TYPE_CHECKING:
    from cador.operations.declarative.documents import Document

Missing = tuple[str, str]
"""Kind and name of something that is not known."""
Pair = tuple[str, str]
"""Service and module."""

_PEOPLE: Final = frozenset({"approve_users", "manual_exec_users"})
"""Lists of people."""
_ID: Final = re.compile(r"[0-9a-f*]{24}|[0-9a-z]*\*+[0-9a-z*]*")


@dataclass(frozen=True, slots=True)
class Names:
    """What names mean. ``registries``: by name, address with namespace and id. ``users``: account to uid and display
    name. ``services``: modules of each. ``builds``: the modules each makes. ``tests``: names. Ids of code hosts: with
    their type."""

    codehosts: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    registries: Mapping[str, str] = field(default_factory=dict)
    base_images: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    services: Mapping[str, Sequence[str]] = field(default_factory=dict)
    builds: Mapping[str, Sequence[Pair]] = field(default_factory=dict)
    tests: frozenset[str] = frozenset()
    project: str = ""


@dataclass(frozen=True, slots=True)
class AllNames:
    """Names of several projects."""

    system: Names
    projects: Mapping[str, Names]

    def of(self, project: str) -> Names:
        own = self.projects.get(project, Names())
        return Names(
            self.system.codehosts,
            self.system.registries,
            self.system.base_images,
            self.system.users,
            own.services,
            own.builds,
            own.tests,
            project,
        )


def names_of(documents: "Iterable[Document]") -> AllNames:
    """The names that *documents* define; ids are made up."""
    codehosts: dict[str, tuple[int, str]] = {}
    registries: dict[str, str] = {}
    images: dict[str, str] = {"ubuntu 20.04": "", "ubuntu 22.04": "", "ubuntu 24.04": ""}
    users: dict[str, tuple[str, str]] = {"admin": ("admin", "admin")}
    services: dict[str, dict[str, Sequence[str]]] = {}
    builds: dict[str, dict[str, Sequence[Pair]]] = {}
    tests: dict[str, set[str]] = {}
    for document in documents:
        spec, name, project = document.spec, document.name, document.project
        match document.kind:
            case "CodeHost":
                codehosts[name] = (len(codehosts) + 1, str(spec.get("type", "")))
            case "Registry":
                for key in registry_keys(name, spec):
                    registries.setdefault(key, name)
            case "BaseImage":
                images[name] = name
            case "User":
                users[name] = (name, str(spec.get("name") or name))
            case "Service" if not spec.get("production"):
                services.setdefault(project, {})[name] = _modules(spec)
            case "Build":
                builds.setdefault(project, {})[name] = pairs(spec.get("services") or (), services.get(project, {}))
            case "Test":
                tests.setdefault(project, set()).add(name)
    projects = {
        project: Names(
            services=services.get(project, {}),
            builds=builds.get(project, {}),
            tests=frozenset(tests.get(project, ())),
        )
        for project in {*services, *builds, *tests}
    }
    return AllNames(Names(codehosts, registries, images, users), projects)


def registry_keys(name: str, spec: Mapping[str, Any]) -> list[str]:
    """How a registry may be named: its name, ``host/namespace``, ``name/namespace``."""
    address, namespace = str(spec.get("address") or ""), str(spec.get("namespace") or "")
    keys = [name, f"{name}/{namespace}"]
    return [*keys, location(address, namespace)] if address else keys


def _modules(spec: Mapping[str, Any]) -> list[str]:
    try:
        return [module["name"] for module in read_modules(str(spec.get("yaml") or ""))]
    except Invalid:
        return []


def pairs(targets: Sequence[Mapping[str, Any]], services: Mapping[str, Sequence[str]]) -> list[Pair]:
    found: list[Pair] = []
    for target in targets:
        service, module = str(target.get("service_name") or ""), str(target.get("service_module") or "")
        found += [(service, module)] if module else [(service, name) for name in services.get(service, ())]
    return found


def resolve(kind: str, body: Mapping[str, Any], names: Names) -> tuple[dict[str, Any], list[Missing]]:
    """*body* with ids for names, and what was not found. Deterministic; twice is as good as once."""
    missing: list[Missing] = []
    if kind in ("Build", "Test"):
        return _script(kind, body, names, missing), missing
    if kind == "Workflow":
        return _Workflow(names, missing).resolved(body), missing
    if kind == "RoleBinding" and body.get("account") not in names.users:
        missing.append(("user", str(body.get("account"))))
    return dict(body), missing


def _script(kind: str, body: Mapping[str, Any], names: Names, missing: list[Missing]) -> dict[str, Any]:
    result = dict(body)
    if kind == "Build" and isinstance(body.get("services"), list):
        result["services"] = _targets(body["services"], names, missing)
    for repo in body.get("repo_info") or ():
        if isinstance(repo, Mapping) and repo.get("codehost_name") not in names.codehosts:
            missing.append(("code host", str(repo.get("codehost_name"))))
    if body.get("build_os") and body["build_os"] not in names.base_images:
        missing.append(("base image", str(body["build_os"])))
    return result


def _targets(targets: Sequence[Any], names: Names, missing: list[Missing]) -> list[Any]:
    """Entries that name a service alone become one for each of its modules."""
    found: list[Any] = []
    for target in targets:
        if not isinstance(target, Mapping) or target.get("service_module") or not target.get("service_name"):
            found.append(target)
            continue
        modules = names.services.get(target["service_name"])
        if not modules:
            missing.append(("service", str(target["service_name"])))
        found += [{**target, "service_module": module} for module in modules or ()]
    return found


class _Workflow:
    def __init__(self, names: Names, missing: list[Missing]) -> None:
        self._names, self._missing = names, missing

    def resolved(self, body: Mapping[str, Any]) -> dict[str, Any]:
        result = dict(body)
        if isinstance(body.get("stages"), list):
            result["stages"] = [self._stage(stage) for stage in body["stages"]]
        if isinstance(body.get("params"), list):
            result["params"] = self._walk(body["params"])
        return result

    def _stage(self, stage: Any) -> Any:
        if not isinstance(stage, Mapping):
            return stage
        result = dict(stage)
        for key in ("approval", "manual_exec"):
            if key in stage:
                result[key] = self._walk(stage[key])
        if isinstance(stage.get("jobs"), list):
            result["jobs"] = [self._job(job) for job in stage["jobs"]]
        return result

    def _job(self, job: Any) -> Any:
        if not isinstance(job, Mapping) or not isinstance(job.get("spec"), Mapping):
            return job
        spec = self._walk(job["spec"])
        for key in ("service_and_builds", "service_and_images", "service_and_tests"):
            if isinstance(spec.get(key), list):
                spec[key] = _targets(spec[key], self._names, self._missing)
        if job.get("type") == "zadig-build":
            spec["service_and_builds"] = [self._build(target) for target in spec.get("service_and_builds") or ()]
        if job.get("type") == "zadig-test":
            for key in ("test_modules", "service_and_tests"):
                if isinstance(spec.get(key), list):
                    spec[key] = [self._test(test) for test in spec[key]]
        if "error_policy" in job:
            return {**job, "spec": spec, "error_policy": self._walk(job["error_policy"])}
        return {**job, "spec": spec}

    def _build(self, target: Any) -> Any:
        """The build that makes the module, when none is named."""
        if not isinstance(target, Mapping):
            return target
        if name := target.get("build_name"):
            if name not in self._names.builds:
                self._missing.append(("build", str(name)))
            return target
        pair = (str(target.get("service_name") or ""), str(target.get("service_module") or ""))
        for name, made in self._names.builds.items():
            if pair in made:
                return {**target, "build_name": name}
        self._missing.append(("build", f"for {'/'.join(pair)}"))
        return target

    def _test(self, test: Any) -> Any:
        if not isinstance(test, Mapping):
            return test
        project = test.get("project_name") or self._names.project
        if project == self._names.project and test.get("name") not in self._names.tests:
            self._missing.append(("test", str(test.get("name"))))
        return {**test, "project_name": project}

    def _walk(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._walk(element) for element in value]
        if not isinstance(value, Mapping):
            return value
        result = {key: self._walk(child) for key, child in value.items()}
        for key, child in value.items():
            if key.endswith("registry_id") and isinstance(child, str) and child:
                result[key] = self._registry(child)
        if "codehost_name" in value and "repo_name" in value:
            result = self._repository(result)
        for key in _PEOPLE & value.keys():
            if isinstance(value[key], list):
                result[key] = [self._user(user) for user in value[key]]
        if value.get("image_from") == "koderover" and value.get("build_os") and not value.get("image_id"):
            result |= self._image(str(value["build_os"]))
        return result

    def _registry(self, text: str) -> str:
        known = self._names.registries
        found = known.get(text) or known.get(location(text, ""))
        if found is None and not _ID.fullmatch(text) and "{{" not in text:
            self._missing.append(("registry", text))
        return found or text

    def _repository(self, repo: dict[str, Any]) -> dict[str, Any]:
        found = self._names.codehosts.get(repo["codehost_name"])
        if found is None:
            self._missing.append(("code host", str(repo["codehost_name"])))
            return repo
        result = {key: value for key, value in repo.items() if key != "codehost_name"}
        owner = repo.get("repo_owner") or repo.get("repo_namespace") or ""
        return {**result, "codehost_id": found[0], "source": found[1], "repo_owner": owner}

    def _user(self, user: Any) -> Any:
        if not isinstance(user, Mapping) or user.get("user_id") or user.get("type", "user") != "user":
            return user
        account = str(user.get("user_name") or "")
        found = self._names.users.get(account)
        if found is None:
            self._missing.append(("user", account))
            return user
        return {**user, "user_id": found[0], "user_name": found[1]}

    def _image(self, label: str) -> dict[str, Any]:
        found = self._names.base_images.get(label)
        if found is None:
            self._missing.append(("base image", label))
            return {}
        return {"image_id": found}


def named(body: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """The inverse for a workflow: names where an id would be read back from exactly that name."""
    return dict(_Back(names).walk(body))


class _Back:
    def __init__(self, names: Names) -> None:
        self._codehosts = {ident: (name, kind) for name, (ident, kind) in names.codehosts.items()}
        self._registries: dict[str, str] = {}
        for name, ident in names.registries.items():
            self._registries.setdefault(ident, name)
        self._users = {uid: (account, shown) for account, (uid, shown) in names.users.items()}
        self._images = {ident: label for label, ident in names.base_images.items()}

    def walk(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.walk(element) for element in value]
        if not isinstance(value, Mapping):
            return value
        result = {key: self.walk(child) for key, child in value.items()}
        for key, child in value.items():
            if key.endswith("registry_id") and child in self._registries:
                result[key] = self._registries[child]
        if isinstance(value.get("codehost_id"), int) and "repo_name" in value and "codehost_name" not in value:
            name, kind = self._codehosts.get(value["codehost_id"], ("", ""))
            owner = value.get("repo_owner")
            if name and value.get("source") == kind and owner:
                del result["codehost_id"], result["source"]
                result["codehost_name"] = name
        for key in _PEOPLE & value.keys():
            if isinstance(value[key], list):
                result[key] = [self._user(user) for user in value[key]]
        image = self._images.get(value.get("image_id") or "")
        if image and value.get("build_os") == image and value.get("image_from") == "koderover":
            result["image_id"] = ""
        return result

    def _user(self, user: Any) -> Any:
        if not isinstance(user, Mapping) or user.get("type", "user") != "user":
            return user
        account, shown = self._users.get(user.get("user_id") or "", ("", ""))
        if not account or user.get("user_name") != shown:
            return user
        return {**{key: value for key, value in user.items() if key != "user_id"}, "user_name": account}
