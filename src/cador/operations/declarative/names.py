"""Names in documents to ids, and back. Pure: who knows the names hands them in."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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

_PEOPLE: Final = frozenset({"approve_users", "approval_users", "manual_exec_users", "target_users"})
"""Lists of people."""
ID_KEYS: Final[Mapping[str, str]] = {
    "cluster_id": "cluster",
    "app_id": "imapp",
    "project_management_id": "projectmanagement",
    "tapd_id": "projectmanagement",
    "sonar_id": "sonar",
}
"""Keys of a definition that hold an id, where a file may give a name; of which kind. (Registries are found by more than
their name.)"""
JOB_IDS: Final[Mapping[tuple[str, str], str]] = {("sql", "id"): "database"}
"""The same for keys that mean that only in the spec of one job type."""
REFERRED: Final = frozenset({"group", *ID_KEYS.values(), *JOB_IDS.values()})
"""Kinds whose names and ids are in :attr:`Names.ids`."""
GROUP: Final = "group"
"""The kind of something missing that is only warned of: groups of others' making may come later."""
LOCAL_CLUSTER: Final = "0123456789abcdef12345678"
GROUP_PREFIX: Final = "group:"
"""Before the name of a group, where accounts stand."""
_KIND_WORDS: Final = {
    "imapp": "IM app",
    "projectmanagement": "project management",
    "database": "database",
    "cluster": "cluster",
    "sonar": "sonar",
}
_ID: Final = re.compile(r"[0-9a-f*]{24}|[0-9a-z]*\*+[0-9a-z*]*")


@dataclass(frozen=True, slots=True)
class Names:
    """What names mean. ``registries``: by name, address with namespace and id. ``users``: account to uid and display
    name. ``services``: modules of each. ``builds``: the modules each makes. ``tests``, ``scans``: names. Ids of code
    hosts: with their type. ``ids``: of the kinds in :data:`REFERRED`, by kind and name."""

    codehosts: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    registries: Mapping[str, str] = field(default_factory=dict)
    base_images: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    services: Mapping[str, Sequence[str]] = field(default_factory=dict)
    builds: Mapping[str, Sequence[Pair]] = field(default_factory=dict)
    tests: frozenset[str] = frozenset()
    scans: frozenset[str] = frozenset()
    project: str = ""
    ids: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    made_by: Mapping[Pair, str] = field(default_factory=dict)
    """The build that makes a module, the first of them."""
    plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What jobs that name a plugin take in."""


@dataclass(frozen=True, slots=True)
class AllNames:
    """Names of several projects."""

    system: Names
    projects: Mapping[str, Names]

    def of(self, project: str) -> Names:
        own = self.projects.get(project, Names())
        return replace(
            self.system,
            services=own.services,
            builds=own.builds,
            tests=own.tests,
            scans=own.scans,
            made_by=own.made_by,
            project=project,
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
    scans: dict[str, set[str]] = {}
    plugins: dict[str, Mapping[str, Any]] = {}
    ids: dict[str, dict[str, str]] = {"cluster": {"local": LOCAL_CLUSTER}}
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
            case "Plugin":
                plugins[name] = {**spec, "name": name}
            case "User":
                users[name] = (name, str(spec.get("name") or name))
            case "Service" if not spec.get("production"):
                services.setdefault(project, {})[name] = _modules(spec)
            case "Build":
                builds.setdefault(project, {})[name] = pairs(spec.get("services") or (), services.get(project, {}))
            case "Test":
                tests.setdefault(project, set()).add(name)
            case "Scan":
                scans.setdefault(project, set()).add(name)
            case _ if document.form.kind in REFERRED:
                ids.setdefault(document.form.kind, {})[name] = name
    projects = {
        project: Names(
            services=services.get(project, {}),
            builds=builds.get(project, {}),
            tests=frozenset(tests.get(project, ())),
            scans=frozenset(scans.get(project, ())),
            made_by=makers(builds.get(project, {})),
        )
        for project in {*services, *builds, *tests, *scans}
    }
    return AllNames(Names(codehosts, registries, images, users, ids=ids, plugins=plugins), projects)


def makers(builds: Mapping[str, Sequence[Pair]]) -> dict[Pair, str]:
    """The first build of each module."""
    found: dict[Pair, str] = {}
    for name, made in builds.items():
        for pair in made:
            found.setdefault(pair, name)
    return found


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
    if kind in ("Build", "Test", "Scan"):
        return _script(kind, body, names, missing), missing
    if kind == "Workflow":
        return _Workflow(names, missing).resolved(body), missing
    if kind == "Group":
        return _members(body, "uids", names, missing), missing
    if kind == "Collaboration":
        return _groups(_members(body, "user_ids", names, missing), names, missing), missing
    if kind == "RoleBinding":
        account = str(body.get("account"))
        group = account.removeprefix(GROUP_PREFIX)
        if group == account and account not in names.users:
            missing.append(("user", account))
        elif group != account and group not in names.ids.get("group", {}):
            missing.append((GROUP, group))
    return dict(body), missing


def _members(body: Mapping[str, Any], key: str, names: Names, missing: list[Missing]) -> dict[str, Any]:
    """Accounts of people to uids."""
    uids = body.get(key)
    if not isinstance(uids, list):
        return dict(body)
    known = {uid for uid, _ in names.users.values()}
    missing += [("user", str(one)) for one in uids if one not in names.users and one not in known]
    return {**body, key: [names.users[one][0] if one in names.users else one for one in uids]}


def _groups(body: dict[str, Any], names: Names, missing: list[Missing]) -> dict[str, Any]:
    """Names of groups to ids."""
    groups, ids = names.ids.get("group", {}), body.get("group_ids")
    if not isinstance(ids, list):
        return body
    known = set(groups.values())
    missing += [("user group", str(one)) for one in ids if one not in groups and one not in known]
    return {**body, "group_ids": [groups.get(one, one) for one in ids]}


def _script(kind: str, body: Mapping[str, Any], names: Names, missing: list[Missing]) -> dict[str, Any]:
    result = dict(body)
    if kind == "Build" and isinstance(body.get("services"), list):
        result["services"] = _targets(body["services"], names, missing)
    for repo in body.get("repo_info") or ():
        if isinstance(repo, Mapping) and repo.get("codehost_name") not in names.codehosts:
            missing.append(("code host", str(repo.get("codehost_name"))))
    image = body.get("image_name" if kind == "Scan" else "build_os")
    if image and image not in names.base_images:
        missing.append(("base image", str(image)))
    sonar = body.get("sonar_system")
    if sonar and sonar not in names.ids.get("sonar", {}):
        missing.append(("sonar", str(sonar)))
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


_OF_JOBS: Final = ("error_policy", "notify_ctls")


class _Workflow:
    def __init__(self, names: Names, missing: list[Missing]) -> None:
        self._names, self._missing = names, missing

    def resolved(self, body: Mapping[str, Any]) -> dict[str, Any]:
        result = dict(body)
        if isinstance(body.get("stages"), list):
            result["stages"] = [self._stage(stage) for stage in body["stages"]]
        for key in ("params", "notify_ctls"):
            if isinstance(body.get(key), list):
                result[key] = self._walk(body[key])
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
        for key in ("service_and_builds", "service_and_images", "service_and_tests", "service_and_scannings"):
            if isinstance(spec.get(key), list):
                spec[key] = _targets(spec[key], self._names, self._missing)
        if job.get("type") == "zadig-build":
            spec["service_and_builds"] = [self._build(target) for target in spec.get("service_and_builds") or ()]
        if job.get("type") == "zadig-test":
            for key in ("test_modules", "service_and_tests"):
                if isinstance(spec.get(key), list):
                    spec[key] = [self._of_project("test", self._names.tests, test) for test in spec[key]]
        if job.get("type") == "zadig-scanning":
            for key in ("scannings", "service_and_scannings"):
                if isinstance(spec.get(key), list):
                    spec[key] = [self._of_project("scan", self._names.scans, scan) for scan in spec[key]]
        if job.get("type") == "plugin" and isinstance(spec.get("plugin"), Mapping):
            spec["plugin"] = self._plugin(spec["plugin"])
        for (kind, key), of in JOB_IDS.items():
            if job.get("type") == kind and isinstance(spec.get(key), str):
                spec[key] = self._id(of, spec[key])
        return {**job, "spec": spec, **{key: self._walk(job[key]) for key in _OF_JOBS if key in job}}

    def _plugin(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """What only names a plugin, with what that is: *given* says no more than values of inputs."""
        name = str(given.get("name") or "")
        if not name or any(given.get(key) for key in ("image", "cmds", "args")):
            return given
        found = self._names.plugins.get(name)
        if found is None:
            self._missing.append(("plugin", name))
            return given
        values = {one.get("name"): one for one in given.get("inputs") or () if isinstance(one, Mapping)}
        inputs = [{"value": "", **one, **values.pop(one.get("name"), {})} for one in found.get("inputs") or ()]
        self._missing += [(f"input of plugin {name}", str(unknown)) for unknown in values]
        return {**found, **given, "inputs": inputs}

    def _build(self, target: Any) -> Any:
        """The build that makes the module, when none is named."""
        if not isinstance(target, Mapping):
            return target
        if name := target.get("build_name"):
            if name not in self._names.builds:
                self._missing.append(("build", str(name)))
            return target
        pair = (str(target.get("service_name") or ""), str(target.get("service_module") or ""))
        if pair in self._names.made_by:
            return {**target, "build_name": self._names.made_by[pair]}
        self._missing.append(("build", f"for {'/'.join(pair)}"))
        return target

    def _of_project(self, kind: str, known: frozenset[str], entry: Any) -> Any:
        """A test or scan, with the project it is of."""
        if not isinstance(entry, Mapping):
            return entry
        project = entry.get("project_name") or self._names.project
        if project == self._names.project and entry.get("name") not in known:
            self._missing.append((kind, str(entry.get("name"))))
        return {**entry, "project_name": project}

    def _walk(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._walk(element) for element in value]
        if not isinstance(value, Mapping):
            return value
        result = {key: self._walk(child) for key, child in value.items()}
        for key, child in value.items():
            if key.endswith("registry_id") and isinstance(child, str) and child:
                result[key] = self._registry(child)
            elif key in ID_KEYS and isinstance(child, str):
                result[key] = self._id(ID_KEYS[key], child)
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

    def _id(self, kind: str, text: str) -> str:
        found = self._names.ids.get(kind, {}).get(text)
        if found is None and text and not _ID.fullmatch(text) and "{{" not in text:
            self._missing.append((_KIND_WORDS[kind], text))
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
        if not isinstance(user, Mapping):
            return user
        if user.get("type") == "group":
            return self._group(user)
        account = str(user.get("user_name") or "")
        if user.get("user_id") or user.get("type", "user") != "user" or user.get("id"):
            return user  # the last: somebody of an IM app
        found = self._names.users.get(account)
        if found is None:
            self._missing.append(("user", account))
            return user
        return {**user, "user_id": found[0], "user_name": found[1]}

    def _group(self, group: Mapping[str, Any]) -> Mapping[str, Any]:
        name = str(group.get("group_name") or "")
        if group.get("group_id") or not name:
            return group
        found = self._names.ids.get("group", {}).get(name)
        if found is None:
            self._missing.append((GROUP, name))
            return group
        return {**group, "group_id": found}

    def _image(self, label: str) -> dict[str, Any]:
        found = self._names.base_images.get(label)
        if found is None:
            self._missing.append(("base image", label))
            return {}
        return {"image_id": found}


def named(kind: str, body: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """The inverse: names where an id would be read back from exactly that name."""
    if kind == "Workflow":
        return dict(_Back(names).walk(body))
    if kind in ("Group", "Collaboration"):
        accounts = {uid: account for account, (uid, _) in reversed([*names.users.items()])}
        key = "uids" if kind == "Group" else "user_ids"
        body = {**body, key: [accounts.get(uid, uid) for uid in body[key]]}
    if kind == "Collaboration":
        groups = {ident: name for name, ident in names.ids.get("group", {}).items()}
        body = {**body, "group_ids": [groups.get(ident, ident) for ident in body["group_ids"]]}
    return dict(body)


class _Back:
    def __init__(self, names: Names) -> None:
        self._codehosts = {ident: (name, kind) for name, (ident, kind) in names.codehosts.items()}
        self._registries: dict[str, str] = {}
        for name, ident in names.registries.items():
            self._registries.setdefault(ident, name)
        self._users = {uid: (account, shown) for account, (uid, shown) in names.users.items()}
        self._images = {ident: label for label, ident in names.base_images.items()}
        self._ids = {kind: {ident: name for name, ident in known.items()} for kind, known in names.ids.items()}

    def walk(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.walk(element) for element in value]
        if not isinstance(value, Mapping):
            return value
        result = {key: self.walk(child) for key, child in value.items()}
        for key, child in value.items():
            if key.endswith("registry_id") and child in self._registries:
                result[key] = self._registries[child]
            elif key in ID_KEYS and isinstance(child, str):
                result[key] = self._ids.get(ID_KEYS[key], {}).get(child, child)
            elif key == "jobs" and isinstance(child, list):
                result[key] = [self._job(job) for job in result[key]]
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

    def _job(self, job: Any) -> Any:
        spec = job.get("spec") if isinstance(job, Mapping) else None
        if not isinstance(spec, Mapping):
            return job
        named = {
            key: self._ids.get(of, {}).get(spec[key], spec[key])
            for (kind, key), of in JOB_IDS.items()
            if job.get("type") == kind and isinstance(spec.get(key), str)
        }
        return {**job, "spec": {**spec, **named}} if named else job

    def _user(self, user: Any) -> Any:
        if not isinstance(user, Mapping):
            return user
        if user.get("type") == "group":
            name = self._ids.get("group", {}).get(user.get("group_id") or "")
            same = name is not None and name == user.get("group_name")
            return {key: value for key, value in user.items() if key != "group_id"} if same else user
        if user.get("type", "user") != "user":
            return user
        account, shown = self._users.get(user.get("user_id") or "", ("", ""))
        if not account or user.get("user_name") != shown:
            return user
        return {**{key: value for key, value in user.items() if key != "user_id"}, "user_name": account}
