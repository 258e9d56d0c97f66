"""What a Zadig tells of itself, as documents of cador. Pure.

Ids become names; what is secret becomes ``${NAME}``; what has no counterpart is told.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cador.cli.import_zadig_values import (
    HOOKS,
    LIMITS,
    RUNTIME,
    TARGET,
    Reference,
    docker_step,
    free_name,
    is_repository,
    known_fields,
    other_secret,
    says_something,
    text_of,
    with_references,
)
from cador.domain.secrets import CREDENTIAL_VALUES, SECRET_KEYS
from cador.operations.declarative.documents import API_VERSION, FORMS, WORKFLOW_KEYS

Doc = dict[str, Any]
LOCAL_CLUSTER: Final = "0123456789abcdef12345678"
DEFAULT_OS: Final = "ubuntu 22.04"
_SHIPPED_IMAGES: Final = ("ubuntu 20.04", "ubuntu 22.04", "ubuntu 24.04")
_ROLES: Final = ("project-admin", "read-only", "read-project-only")
_TOKENS: Final = ("gitlab", "github", "gitee", "gitee-enterprise")


@dataclass(slots=True)
class Mapper:
    """``documents``: of the long form, references escaped. ``secrets``: names of variables with what each is.
    ``notes``: what was left out or changed."""

    documents: list[Doc] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _hosts: dict[int, str] = field(default_factory=dict)
    _registries: dict[str, str] = field(default_factory=dict)
    _images: dict[str, str] = field(default_factory=dict)
    _labels: set[str] = field(default_factory=lambda: set(_SHIPPED_IMAGES))
    _clusters: dict[str, str] = field(default_factory=lambda: {LOCAL_CLUSTER: "local", "": "local"})
    _databases: dict[str, str] = field(default_factory=dict)
    _accounts: dict[str, str] = field(default_factory=dict)
    _groups: dict[str, str] = field(default_factory=dict)

    # -- the system

    def system(self, found: Mapping[str, list[Doc]]) -> None:
        for make, name in (
            (self._code_host, "codehosts"),
            (self._registry, "registries"),
            (self._image, "images"),
            (self._cluster, "clusters"),
            (self._database, "databases"),
            (self._user, "users"),
            (self._group, "groups"),
        ):
            for one in found[name]:
                self._take(name, one, make, one)

    def _take(self, what: str, one: Doc, make: Callable[..., None], *args: Any) -> None:
        """One object. What has another shape than anything known here is left out, and told."""
        try:
            make(*args)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            name = next((one[key] for key in ("name", "service_name", "env_key", "account", "id") if one.get(key)), "?")
            self._note(f"{what}: {name}", "it has a shape that is not known here")

    def _code_host(self, one: Doc) -> None:
        name = free_name(str(one.get("alias") or one.get("name") or f"{one.get('type')}-{one.get('id')}"))
        kind = str(one.get("type") or "")
        if isinstance(one.get("id"), int):
            self._hosts[one["id"]] = name
        if kind not in (*_TOKENS, "gerrit", "other"):
            self._note(f"code host {name}", f"its type {kind or '?'} is not known here")
            return
        spec: Doc = {"type": kind, "address": str(one.get("address") or "")}
        spec |= {key: True for key in ("enable_proxy", "disable_ssl") if one.get(key) is True}
        wanted = {"gerrit": "password", "other": other_secret(one)}.get(kind, "access_token")
        if kind == "gerrit":
            spec["username"] = str(one.get("username") or "admin")
        if kind == "other" and wanted:
            spec["auth_type"] = str(one.get("auth_type"))
        if wanted:
            spec[wanted] = self._variable(f"CodeHost/{name} {wanted}", name, wanted)
        self._add("CodeHost", name, "", spec)

    def _registry(self, one: Doc) -> None:
        address, namespace = str(one.get("address") or ""), str(one.get("namespace") or "")
        name = free_name(f"{address.partition('://')[2] or address}-{namespace}".strip("-"))
        self._registries[str(one.get("registry_id") or one.get("id") or "")] = name
        spec: Doc = {"address": address, "provider": str(one.get("provider") or one.get("reg_provider") or "native")}
        spec |= {key: one[key] for key in ("namespace", "region") if one.get(key)}
        if one.get("is_default") is True:
            spec["is_default"] = True
        for key in ("access_key", "secret_key"):
            spec[key] = self._variable(f"Registry/{name} {key}", name, key)
        self._add("Registry", name, "", spec)

    def _image(self, one: Doc) -> None:
        label = str(one.get("label") or one.get("value") or "")
        if not label:
            return
        self._images[str(one.get("id") or "")] = label
        if label in _SHIPPED_IMAGES or one.get("image_from") != "custom":
            if label not in self._labels and one.get("value"):
                self._labels.add(label)
                spec = {"value": str(one["value"]), "image_from": "custom"}
                self._add("BaseImage", free_name(label), "", spec)
            return
        self._labels.add(label)
        kind = {"image_type": "sonar"} if one.get("image_type") == "sonar" else {}
        self._add("BaseImage", free_name(label), "", {"value": str(one.get("value") or label), **kind})

    def _cluster(self, one: Doc) -> None:
        ident, name = str(one.get("cluster_id") or ""), free_name(str(one.get("name") or ""))
        if one.get("local") is True or ident == LOCAL_CLUSTER:
            self._clusters[ident] = "local"
            return
        self._clusters[ident] = name
        spec = {
            "type": "kubeconfig",
            "kube_config": self._variable(f"Cluster/{name} kube_config", name, "kube_config"),
            "production": one.get("production") is True,
            "description": str(one.get("description") or ""),
            "project_names": [str(key) for key in one.get("project_names") or ()],
        }
        self._add("Cluster", name, "", spec)

    def _database(self, one: Doc) -> None:
        name = free_name(str(one.get("name") or ""))
        self._databases[str(one.get("id") or "")] = name
        spec = {key: one[key] for key in ("type", "host", "port", "username", "projects") if one.get(key)}
        spec["password"] = self._variable(f"Database/{name} password", name, "password")
        self._add("Database", name, "", spec)

    def _user(self, one: Doc) -> None:
        account = str(one.get("account") or "")
        self._accounts[str(one.get("uid") or "")] = account
        if account in ("", "admin"):
            return
        spec = {key: str(one[key]) for key in ("name", "email", "phone") if one.get(key)}
        self._add("User", account, "", spec)

    def _group(self, one: Doc) -> None:
        name = free_name(str(one.get("name") or ""))
        self._groups[str(one.get("id") or one.get("group_id") or "")] = name
        users = [
            self._accounts.get(str(user.get("uid")), "") for user in one.get("users") or () if isinstance(user, Mapping)
        ]
        spec: Doc = {"uids": sorted(filter(None, users))}
        if one.get("description"):
            spec["description"] = str(one["description"])
        self._add("Group", name, "", spec)

    # -- a project

    def project(self, one: Doc, found: Doc) -> None:
        key = str(found["key"])
        kind = {"helm": "helm", "cloud_host": "vm"}.get(str(one.get("deploy_type")), "yaml")
        spec: Doc = {"project_name": str(one.get("project_name") or key), "project_type": kind}
        if one.get("is_public") is True:
            spec["is_public"] = True
        if one.get("description"):
            spec["description"] = " ".join(str(one["description"]).split())
        self._add("Project", key, key, spec)
        for binding in found["members"]:
            self._take(f"{key}: members", binding, self._binding, key, binding)
        for name, production in (("services", False), ("production", True)):
            for service in found[name]:
                self._take(f"{key}: {name}", service, self._service, key, service, production)
        makers: tuple[tuple[str, Callable[[str, Doc], None]], ...] = (
            ("builds", self._build),
            ("tests", self._test),
            ("scans", self._scan),
            ("environments", self._environment),
            ("workflows", self._workflow),
            ("views", self._view),
        )
        for name, make in makers:
            for body in found[name]:
                self._take(f"{key}: {name}", body, make, key, body)

    def _binding(self, project: str, one: Doc) -> None:
        roles = [str(role.get("name") if isinstance(role, Mapping) else role) for role in one.get("roles") or ()]
        known = [role for role in roles if role in _ROLES]
        user, group = one.get("user_info") or {}, one.get("group_info") or {}
        name = str(user.get("account") or "") or (f"group:{free_name(str(group['name']))}" if group.get("name") else "")
        if unknown := [role for role in roles if role not in _ROLES]:
            self._note(f"{project}: roles {', '.join(unknown)} of {name}", "roles of one's own are not read")
        if name and known:
            self._add("RoleBinding", name, project, {"roles": known})

    def _service(self, project: str, one: Doc, production: bool) -> None:
        name, text = str(one["service_name"]), str(one.get("yaml") or "")
        if not text.strip():
            self._note(f"{project}: service {name}", "it has no manifest")
            return
        spec: Doc = {"yaml": text}
        kvs = [
            {key: kv[key] for key in ("key", "value", "type", "options", "desc") if kv.get(key) not in (None, "", [])}
            for kv in one.get("service_variable_kvs") or ()
        ]
        if kvs:
            spec["variable_yaml"] = [{**kv, "value": text_of(kv.get("value"))} for kv in kvs]
        if production:
            spec["production"] = True
        self._add("Service", name, project, spec)

    def _script(self, project: str, what: str, one: Doc, before: Doc) -> Doc:
        """What builds, tests and scans have in common. *before*: ``pre_build`` or ``pre_test``."""
        spec: Doc = {}
        if text := str(one.get("desc") or one.get("description") or ""):
            spec["description"] = " ".join(text.split())
        if installs := [one for one in before.get("installs") or one.get("installs") or () if one.get("name")]:
            spec["installs"] = [
                {"name": str(tool["name"]), "version": text_of(tool.get("version"))} for tool in installs
            ]
        if repos := [self._repo_of_build(repo, what) for repo in one.get("repos") or ()]:
            spec["repo_info"] = list(filter(None, repos))
        envs = before.get("envs") or one.get("envs") or one.get("parameters") or ()
        if envs:
            spec["parameters"] = [self._parameter(env, what) for env in envs if env.get("key")]
        settings = one.get("advanced_settings") or one.get("advanced_setting") or {}
        if timeout := one.get("timeout") or settings.get("timeout"):
            spec["advanced_settings"] = {"timeout": int(timeout)}
        request = before.get("res_req_spec") or settings.get("res_req_spec") or settings.get("resource_spec") or {}
        limits = {key: value for key, value in request.items() if key in LIMITS and isinstance(value, int) and value}
        if limits:
            spec.setdefault("advanced_settings", {})["resource_spec"] = limits
        outputs = [str(out.get("name") if isinstance(out, Mapping) else out) for out in one.get("outputs") or ()]
        if outputs := [name for name in outputs if name not in ("IMAGE", "PKG_FILE")]:
            spec.setdefault("advanced_settings", {})["outputs"] = outputs
        cluster = self._cluster_name(str(before.get("cluster_id") or settings.get("cluster_id") or ""), what)
        if "advanced_settings" in spec or cluster != "local":
            spec.setdefault("advanced_settings", {})["cluster_name"] = cluster
        return spec

    def _build(self, project: str, one: Doc) -> None:
        name = str(one["name"])
        what = f"Build/{name}"
        if one.get("jenkins_build"):
            self._note(f"{project}: {what}", "Jenkins builds are not known here")
            return
        if one.get("template_id") or one.get("template_name"):
            self._note(f"{project}: {what}", "it is made from a template: only what it shows itself is taken")
        before = one.get("pre_build") or {}
        spec = {
            "build_os": self._build_os(before or one.get("build_env") or {}),
            **self._script(project, what, one, before),
        }
        targets = one.get("targets") or one.get("target_services") or ()
        if pairs := [{key: str(target[key]) for key in TARGET} for target in targets if all(map(target.get, TARGET))]:
            spec["services"] = pairs
        spec["build_script"] = str(one.get("scripts") or one.get("build_script") or "")
        after = one.get("post_build") or {}
        docker = after.get("docker_build") or one.get("docker_build_step") or {}
        if docker:
            spec["docker_build_step"] = docker_step(docker)
        if location := (after.get("file_archive") or {}).get("file_location"):
            spec["post_build"] = {"file_archive": {"file_location": str(location)}}
        if after.get("scripts"):
            self._note(f"{project}: {what}", "its script after the image build is put at the end of the script")
            spec["build_script"] += "\n" + str(after["scripts"])
        self._add("Build", name, project, spec)

    def _test(self, project: str, one: Doc) -> None:
        name, before = str(one["name"]), one.get("pre_test") or {}
        spec = {"build_os": self._build_os(before), **self._script(project, f"Test/{name}", one, before)}
        spec["script"] = str(one.get("scripts") or one.get("script") or "")
        for theirs, ours in (("test_result_path", "report_path"), ("test_report_path", "html_report_path")):
            if one.get(theirs):
                spec[ours] = str(one[theirs])
        if paths := one.get("artifact_paths"):
            spec["artifact_paths"] = [str(path) for path in paths]
        for key in ("hook_ctl", "schedules", "notify_ctls"):
            if says_something(one.get(key)):
                self._note(f"{project}: Test/{name}", f"its {key} is left out: a workflow can start it")
        self._add("Test", name, project, spec)

    def _scan(self, project: str, one: Doc) -> None:
        name = str(one.get("name") or "")
        spec = self._script(project, f"Scan/{name}", one, {})
        spec.pop("installs", None)
        kind = str(one.get("scanner_type") or "other")
        image = self._images.get(str(one.get("image_id") or "")) or str(one.get("image_name") or DEFAULT_OS)
        spec |= {"scanner_type": kind, "image_name": image if image in self._labels else DEFAULT_OS}
        spec["script"] = str(one.get("script") or one.get("scripts") or "")
        if kind == "sonarQube":
            spec["sonar_parameter"] = str(one.get("parameter") or one.get("sonar_parameter") or "")
            self._note(f"{project}: Scan/{name}", "name its SonarQube server in sonar_system")
        self._add("Scan", name, project, spec)

    def _environment(self, project: str, one: Doc) -> None:
        name = str(one["env_key"])
        spec: Doc = {
            "cluster_name": self._cluster_name(str(one.get("cluster_id") or ""), f"Environment/{name}"),
            "namespace": str(one.get("namespace") or name),
        }
        if registry := self._registries.get(str(one.get("registry_id") or "")):
            spec["registry_id"] = registry
        if one.get("production") is True:
            spec["production"] = True
        self._add("Environment", name, project, spec)

    def _view(self, project: str, one: Doc) -> None:
        members = [
            {key: str(member[key]) for key in ("workflow_key", "workflow_type") if member.get(key)}
            for member in one.get("workflows") or ()
            if member.get("workflow_key") and member.get("enabled", True)
        ]
        spec = {"workflow_list": members}
        self._add("WorkflowView", str(one["name"]), project, spec)

    # -- workflows

    def _workflow(self, project: str, one: Doc) -> None:
        name = str(one["name"])
        what = f"Workflow/{name}"
        spec: Doc = {"display_name": str(one.get("display_name") or one.get("workflow_name") or name)}
        for key in WORKFLOW_KEYS:
            if key in one and key not in (
                "name",
                "workflow_key",
                "display_name",
                "workflow_name",
                "project",
                "project_key",
            ):
                spec[key] = one[key]
        for key in ("hook_ctls", "jira_hook_ctls", "meego_hook_ctls", "general_hook_ctls"):
            if says_something(one.get(key)):
                self._note(
                    f"{project}: {what}", f"its {key.removesuffix('_ctls')}s are left out: triggers are made anew"
                )
        spec = {key: value for key, value in spec.items() if value not in (None, "", [], {}, False) or key == "stages"}
        spec.setdefault("stages", [])
        self._add("Workflow", name, project, dict(self._walk(spec, what, name)))

    def _walk(self, value: Any, what: str, label: str) -> Any:
        if isinstance(value, list):
            return [self._walk(child, what, label) for child in value]
        if not isinstance(value, Mapping):
            return value
        if is_repository(value):
            value = {key: child for key, child in value.items() if key not in RUNTIME and key not in SECRET_KEYS}
        own = value.get("key") or value.get("name")
        label = f"{label}_{own}" if isinstance(own, str) and own else label
        result = {}
        for key, child in value.items():
            variable = value.get("is_credential") is True and key in CREDENTIAL_VALUES
            if child is None:
                continue
            if (variable or key in SECRET_KEYS or key in HOOKS) and isinstance(child, str):
                place = f"{what} {label.removeprefix(what.partition('/')[2]).strip('_')} {key}"
                result[key] = self._hidden(child, place, *((label,) if variable else (label, key)))
            elif key == "docker_registry_id" or key.endswith("_registry_id"):
                result[key] = self._registries.get(str(child), child)
            elif key == "cluster_id":
                result[key] = self._clusters.get(str(child), child) if child else child
            else:
                result[key] = self._walk(child, what, label)
        return self._named(result, what)

    def _named(self, node: Doc, what: str) -> Doc:
        """One mapping of a workflow, with names for the ids in it."""
        if is_repository(node):
            node = dict(node)
            host = self._host_name(node.pop("codehost_id"), str(node.get("source") or ""), what)
            node.pop("source", None)
            return {**node, "codehost_name": host}
        if node.get("user_id") in self._accounts:
            account = self._accounts[node["user_id"]]
            return {**{key: child for key, child in node.items() if key != "user_id"}, "user_name": account}
        if node.get("type") == "group" and node.get("group_id") in self._groups:
            name = self._groups[node["group_id"]]
            return {**{key: child for key, child in node.items() if key != "group_id"}, "group_name": name}
        if node.get("image_id") in self._images and "build_os" in node:
            label = self._images[node["image_id"]]
            return {
                **node,
                "image_id": "",
                "image_from": "koderover",
                "build_os": label if label in self._labels else DEFAULT_OS,
            }
        if node.get("type") == "sql" and isinstance(node.get("spec"), Mapping):
            ident = str(node["spec"].get("id") or "")
            return {**node, "spec": {**node["spec"], "id": self._databases.get(ident, ident)}}
        return node

    # -- pieces

    def _host_name(self, ident: Any, kind: str, what: str) -> str:
        if ident not in self._hosts:
            name = f"codehost-{ident}"
            self._hosts[ident] = name
            self._note(
                f"code host {ident} ({kind or '?'})", f"it is not shown: {what} names it {name}, which must be made"
            )
        return self._hosts[ident]

    def _repo_of_build(self, repo: Doc, what: str) -> Doc:
        host = repo.get("codehost_name") or self._host_name(
            repo.get("codehost_id"), str(repo.get("source") or ""), what
        )
        found: Doc = {
            "codehost_name": host,
            "repo_namespace": str(repo.get("repo_namespace") or repo.get("repo_owner") or ""),
            "repo_name": str(repo.get("repo_name") or ""),
            "branch": str(repo.get("branch") or ""),
        }
        if not (found["branch"] or repo.get("tag") or repo.get("enable_commit")):
            found["branch"] = "main"
            self._note(what, f"repository {found['repo_name']} has no branch: main is put in")
        for key in ("remote_name", "checkout_path", "tag", "commit_id"):
            if repo.get(key):
                found[key] = str(repo[key])
        return found | {
            key: True for key in ("submodules", "hidden", "is_primary", "enable_commit") if repo.get(key) is True
        }

    def _parameter(self, env: Doc, what: str) -> Doc:
        value = text_of(env.get("value") if env.get("value") is not None else env.get("default_value"))
        found: Doc = {"key": str(env["key"]), "type": str(env.get("type") or "string")}
        if env.get("choice_option"):
            found["choice_option"] = [str(option) for option in env["choice_option"]]
        if env.get("description"):
            found["description"] = str(env["description"])
        if env.get("is_credential") is True:
            name = what.partition("/")[2]
            return {
                **found,
                "is_credential": True,
                "default_value": self._hidden(value, f"{what} {env['key']}", name, str(env["key"])),
            }
        return {**found, "default_value": value}

    def _build_os(self, before: Doc) -> str:
        ident = str(before.get("image_id") or before.get("basic_image_id") or "")
        label = self._images.get(ident) or str(before.get("basic_image_label") or before.get("build_os") or "")
        return label if label in self._labels else DEFAULT_OS

    def _cluster_name(self, ident: str, what: str) -> str:
        if ident in self._clusters and "Cluster" in FORMS:
            return self._clusters[ident]
        if ident not in ("", LOCAL_CLUSTER) and self._clusters.get(ident) != "local":
            self._note(what, f"its cluster {self._clusters.get(ident, ident)} is not taken along: it runs on local")
        return "local"

    def _hidden(self, value: str, place: str, *parts: str) -> Any:
        if not value or re.fullmatch(r"\s*\{\{[^{}]*\}\}\s*", value):
            return value
        return self._variable(place, *parts)

    def _variable(self, place: str, *parts: str) -> "Reference":
        base = re.sub(r"[^A-Z0-9]+", "_", "_".join(parts).upper()).strip("_") or "SECRET"
        base = f"_{base}" if base[0].isdigit() else base
        name, number = base, 2
        while name in self.secrets:
            name, number = f"{base}_{number}", number + 1
        self.secrets[name] = place
        return Reference("${" + name + "}")

    def _note(self, what: str, reason: str) -> None:
        text = f"{what}: {reason}"
        if text not in self.notes:
            self.notes.append(text)

    def _add(self, kind: str, name: str, project: str, spec: Doc) -> None:
        form = FORMS.get(kind)
        if form is None:
            self._note(f"{project + ': ' if project else ''}{kind}/{name}", "this kind is not known to cador.yaml yet")
            return
        if form.model is not None:
            spec = known_fields(form.model, spec, form.extra)
        metadata = {"name": name} | ({"project": project} if project and kind != "Project" else {})
        document = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
        self.documents.append(dict(with_references(document)))
