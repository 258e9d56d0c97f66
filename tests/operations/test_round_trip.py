"""What is exported says all there is: applied again nothing changes, applied elsewhere the same comes into being."""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cador.operations.actions import SYSTEM_ACTIONS
from cador.operations.apply import apply
from cador.operations.declarative.documents import FORMS
from cador.operations.declarative.pipeline import Source, dump_all, prepare
from cador.operations.declarative.substitution import escape
from cador.operations.exporting import export
from cador.operations.first_start import bootstrap_data
from support.world import World

pytestmark = pytest.mark.anyio

MANIFEST = "kind: Deployment\nspec: {template: {spec: {containers: [{name: api, image: a/api:1}]}}}\n"
REPO = {
    "codehost_name": "git",
    "repo_namespace": "a/b",
    "repo_name": "c",
    "branch": "main",
    "remote_name": "up",
    "checkout_path": "src",
    "submodules": True,
    "hidden": True,
    "is_primary": True,
    "enable_commit": True,
    "commit_id": "0" * 40,
    "tag": "v1",
}
SCRIPT: dict[str, Any] = {
    "description": "what $it does",
    "build_os": "own 1",
    "installs": [{"name": "go", "version": "1.20"}],
    "repo_info": [REPO],
    "parameters": [
        {"key": "A", "type": "choice", "default_value": "x", "choice_option": ["x", "y"], "description": "one"},
        {"key": "T", "default_value": "t0ken-in-clear", "is_credential": True},
        {"key": "R", "default_value": {"valueFrom": {"secret": "own", "key": "K"}}, "is_credential": True},
    ],
    "advanced_settings": {
        "cluster_name": "local",
        "timeout": 7,
        "resource_spec": {"cpu_req": 1, "cpu_limit": 2, "memory_req": 3, "memory_limit": 4, "gpu_limit": "1"},
        "use_host_docker_daemon": True,
        "privileged_mode": True,
        "cache_setting": {"enabled": False, "cache_dir": "/c"},
        "custom_annotations": [{"key": "a", "value": "b"}],
        "outputs": ["OUT"],
    },
}
SAMPLES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    # kind: name, spec; everything that is no default
    "Secret": ("shared", {"description": "for all", "projects": ["demo"], "data": {"A": "s3cret-a", "B": "s3cret-b"}}),
    "Setting": ("base_url", {"value": "https://ci.example.com"}),
    "BaseImage": ("own 1", {"value": "registry.example.com/base:1", "image_from": "custom", "image_type": "sonar"}),
    "CodeHost": (
        "git",
        {
            "type": "gitlab",
            "address": "https://gitlab.example.com",
            "access_token": {"valueFrom": {"secret": "shared", "key": "A"}},
            "enable_proxy": True,
            "disable_ssl": True,
            "projects": ["demo"],
        },
    ),
    "Registry": (
        "harbor",
        {
            "provider": "harbor",
            "address": "https://harbor.example.com",
            "namespace": "test",
            "access_key": "robot$x",
            "secret_key": "s3cret-of-harbor",
            "is_default": True,
            "enable_tls": False,
        },
    ),
    "Sonar": ("quality", {"server_address": "https://sonar.example.com", "token": "s3cret-of-sonar"}),
    "Storage": (
        "minio",
        {
            "ak": "key",
            "sk": "s3cret-of-minio",
            "endpoint": "https://s3.example.com",
            "bucket": "ci-logs",
            "subfolder": "x",
            "insecure": True,
            "is_default": True,
            "projects": ["demo"],
            "provider": 2,
            "region": "eu",
        },
    ),
    "User": ("zoe", {"name": "Zoe", "email": "zoe@example.com", "phone": "123", "password": "Replace-me-1"}),
    "Group": ("leads", {"description": "who decide", "uids": ["zoe"]}),
    "Project": (
        "demo",
        {
            "project_name": "Demo",
            "project_type": "yaml",
            "is_public": True,
            "description": "a ${b} $$",
            "weight": 2.5,
        },
    ),
    "Role": ("deployer", {"desc": "may start", "actions": ["run_workflow", "get_workflow"]}),
    "RoleBinding": ("group:leads", {"roles": ["deployer", "read-only"]}),
    "Service": (
        "api",
        {
            "production": True,
            "yaml": MANIFEST,
            "variable_yaml": [
                {"key": "port", "type": "enum", "value": "80", "options": ["80", "81"], "desc": "where"},
            ],
        },
    ),
    "Build": (
        "b",
        {
            **SCRIPT,
            "services": [{"service_name": "web", "service_module": "api"}],
            "build_script": "make ${HOME} $$",
            "docker_build_step": {"dockerfile_source": "local", "build_context_dir": ".", "build_args": "--x=$y"},
            "post_build": {"file_archive": {"file_location": "dist"}},
        },
    ),
    "Test": (
        "t",
        {
            **SCRIPT,
            "script": "make test",
            "report_path": "r/",
            "html_report_path": "h.html",
            "pass_rate": 90,
            "artifact_paths": ["out/"],
        },
    ),
    "Scan": (
        "s",
        {
            **{key: value for key, value in SCRIPT.items() if key not in ("build_os", "installs")},
            "scanner_type": "sonarQube",
            "image_name": "own 1",
            "sonar_system": "quality",
            "addons": [{"name": "go", "version": "1.20"}],
            "prelaunch_script": "echo ${x}",
            "sonar_parameter": "sonar.sources=.",
            "script": "make scan",
            "enable_scanner": False,
            "enable_quality_gate": True,
            "artifact_paths": ["out/"],
        },
    ),
    "Workflow": (
        "w",
        {
            "display_name": "All $of it",
            "description": "d",
            "concurrency_limit": 3,
            "disabled": True,
            "remark_required": True,
            "task_timeout": 90,
            "enable_approval_ticket": True,
            "params": [
                {"name": "P", "type": "choice", "choice_option": ["a", "b"], "value": "a", "default": "a"},
                {"name": "S", "type": "string", "value": "param-s3cret", "is_credential": True},
            ],
            "notify_ctls": [
                {
                    "enabled": True,
                    "webhook_type": "mail",
                    "notify_type": ["failed"],
                    "mail_notification_config": {"target_users": [{"type": "user", "user_name": "zoe"}]},
                }
            ],
            "stages": [
                {
                    "name": "one",
                    "parallel": True,
                    "approval": {
                        "enabled": True,
                        "type": "native",
                        "native_approval": {
                            "timeout": 5,
                            "needed_approvers": 1,
                            "approve_users": [
                                {"type": "user", "user_name": "zoe"},
                                {"type": "group", "group_name": "leads"},
                            ],
                        },
                    },
                    "jobs": [
                        {
                            "name": "say",
                            "type": "freestyle",
                            "spec": {
                                "properties": {
                                    "timeout": 5,
                                    "build_os": "own 1",
                                    "image_from": "koderover",
                                    "envs": [
                                        {
                                            "key": "T",
                                            "is_credential": True,
                                            "value": {"valueFrom": {"secret": "own", "key": "K"}},
                                        }
                                    ],
                                },
                                "steps": [
                                    {"name": "git", "type": "git", "spec": {"repos": [REPO]}},
                                    {"name": "shell", "type": "shell", "spec": {"script": "echo ${x} $$"}},
                                ],
                            },
                        },
                        {
                            "name": "build",
                            "type": "zadig-build",
                            "spec": {
                                "docker_registry_id": "harbor",
                                "service_and_builds": [
                                    {"service_name": "web", "service_module": "api", "build_name": "b"}
                                ],
                            },
                        },
                    ],
                }
            ],
        },
    ),
}
SAMPLES = {
    **SAMPLES,
    "Collaboration": (
        "guests",
        {
            "recycle_day": 3,
            "user_ids": ["zoe"],
            "group_ids": ["leads"],
            "workflows": [{"name": "w", "verbs": ["get_workflow", "run_workflow"]}],
        },
    ),
    "ApprovalTicket": (
        "CHG-1042",
        {
            "status": 0,
            "envs": ["dev", "p$od"],
            "services": [{"service_name": "api", "service_module": "api"}],
            "users": [{"name": "Zoe", "email": "zoe@example.com"}],
            "execution_window_start": 1_700_000_000,
            "execution_window_end": 4_000_000_000,
        },
    ),
    "Database": (
        "mysql",
        {
            "type": "mysql",
            "projects": ["demo"],
            "host": "db.example.com",
            "port": "3306",
            "username": "ci",
            "password": "s3cret-db",
            "database": "shop",
        },
    ),
    "ProjectManagement": (
        "tapd",
        {
            "type": "tapd",
            "spec": {
                "tapd_address": "https://api.tapd.cn",
                "tapd_client_id": "i",
                "tapd_client_secret": "s3cret-tapd",
                "tapd_company_id": "1",
            },
        },
    ),
    "Cluster": (
        "prod",
        {
            "type": "kubeconfig",
            "kube_config": "clusters: [{name: s3cret-cluster}]",
            "production": True,
            "description": "far",
            "provider": 4,
            "project_names": ["demo"],
        },
    ),
    "MailServer": (
        "default",
        {
            "host": "smtp.example.com",
            "port": 25,
            "username": "ci",
            "password": "s3cret-mail",
            "isTLS": True,
            "address": "ci@example.com",
            "display_name": "CI",
        },
    ),
    "IMApp": (
        "wx",
        {
            "type": "workwx",
            "host": "https://wx.example.com",
            "corp_id": "c",
            "agent_id": 7,
            "agent_secret": "s3cret-wx",
            "workwx_approval_template_id": "t",
            "workwx_token": "s3cret-token",
            "workwx_aes_key": "s3cret-aes",
        },
    ),
    "Proxy": (
        "http",
        {
            "address": "proxy.example.com",
            "port": 3128,
            "need_password": True,
            "username": "ci",
            "password": "s3cret-proxy",
            "enable_repo_proxy": True,
            "enable_application_proxy": True,
        },
    ),
    "Tool": (
        "go 1.22.3",
        {
            "scripts": ["tar xf ${FILEPATH}"],
            "env": ["GOROOT=/opt/go"],
            "bin_path": "/opt/go/bin",
            "download_path": "https://go.example.com/go.tgz",
            "enabled": False,
        },
    ),
    "Plugin": (
        "scan",
        {
            "is_offical": True,
            "category": "custom",
            "description": "looks $at it",
            "repo_url": "https://git.example.com/scan",
            "version": "v1.0",
            "image": "registry.example.com/scan:1",
            "cmds": ["/bin/sh", "-c"],
            "args": ["echo $(inputs.WHAT) ${HOME}"],
            "envs": [{"name": "A", "value": "$(inputs.WHAT)"}],
            "inputs": [
                {
                    "name": "WHAT",
                    "description": "d",
                    "type": "choice",
                    "default": "x",
                    "choice_option": ["x", "y"],
                    "is_credential": False,
                },
                {
                    "name": "KEY",
                    "description": "",
                    "type": "string",
                    "default": "",
                    "choice_option": [],
                    "is_credential": True,
                },
            ],
            "outputs": [{"name": "OUT", "description": "o"}],
        },
    ),
    "DockerfileTemplate": ("slim", {"description": "small", "dockerfile_text": "FROM x:${TAG}"}),
    "BuildTemplate": (
        "make",
        {key: value for key, value in SCRIPT.items() if key != "repo_info"}
        | {
            "parameters": SCRIPT["parameters"][:2],
            "build_script": "make",
            "docker_build_step": {"dockerfile_source": "template", "template_name": "slim"},
            "post_build": {"file_archive": {"file_location": "dist"}},
        },
    ),
    "ServiceTemplate": (
        "web",
        {"description": "all alike", "yaml": MANIFEST, "variable_yaml": [{"key": "A", "value": "1", "options": ["1"]}]},
    ),
    "Environment": (
        "dev",
        {
            "env_name": "For trying",
            "cluster_name": "prod",
            "namespace": "demo-dev",
            "registry_id": "harbor",
            "global_variables": [{"key": "G", "value": "1", "desc": "g", "related_services": ["web"]}],
            "services": [
                {
                    "service_name": "web",
                    "deploy_strategy": "import",
                    "containers": [{"name": "api", "image": "a/api:2"}],
                    "variable_kvs": [{"key": "V", "value": "2", "use_global_variable": True}],
                }
            ],
        },
    ),
    "WorkflowView": (
        "releases",
        {"workflow_list": [{"workflow_key": "w", "workflow_type": "product", "enabled": False}]},
    ),
}
MORE = (
    ("Setting", "webhook_secret", "", {"value": "s3cret-hook", "is_credential": True}),
    ("Setting", "engine.max_running_tasks", "", {"value": "8"}),
    ("Setting", "retention.max_days", "", {"value": "30"}),
    (
        "Environment",
        "dev",
        "demo",
        {"production": True, "cluster_name": "local", "namespace": "prod", "registry_id": "harbor"},
    ),
    (
        "Service",
        "made",
        "demo",
        {"template_name": "web", "auto_sync": True, "variable_yaml": [{"key": "A", "value": "2"}]},
    ),
    (
        "Build",
        "templated",
        "demo",
        {
            "template_name": "make",
            "target_services": [
                {
                    "service_name": "web",
                    "service_module": "api",
                    "repo_info": [REPO],
                    "inputs": [
                        {"key": "T", "value": "s3cret-input", "is_credential": True},
                        {"key": "A", "value": "y"},
                    ],
                }
            ],
        },
    ),
    ("Service", "web", "demo", {"yaml": MANIFEST}),
    ("Secret", "own", "demo", {"description": "of the project", "data": {"K": "s3cret-k"}}),
    ("RoleBinding", "zoe", "demo", {"roles": ["project-admin"]}),
    ("Role", "auditor", "", {"desc": "looks", "actions": sorted(SYSTEM_ACTIONS)[:2]}),
    ("RoleBinding", "zoe", "", {"roles": ["auditor"]}),
    ("RoleBinding", "group:leads", "", {"roles": ["auditor"]}),
)
LABELS = {"team": "shop"}


def stream() -> str:
    documents = [_document(kind, name, _project_of(kind), spec) for kind, (name, spec) in SAMPLES.items()]
    return dump_all([escape(one) for one in (*documents, *(_document(*one) for one in MORE))])  # `$` is meant


def _document(kind: str, name: str, project: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, **({"project": project} if project else {}), "labels": LABELS}
    return {"apiVersion": "cador.dev/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _project_of(kind: str) -> str:
    form = FORMS[kind]
    in_system = form.of_system or kind in ("Project", "Secret")
    return "" if in_system else "demo"


@pytest.fixture
async def worlds(tmp_path: Path) -> AsyncIterator[tuple[World, World]]:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        world = await World.real(tmp_path / name, "")
        made.append(world)
        await world.boot()
        await bootstrap_data(world.ctx)
    yield made[0], made[1]
    for world in made:
        await world.close()


async def applied(world: World, text: str, environment: Mapping[str, str] | None = None, **options: Any) -> set[str]:
    prepared = prepare([Source("", text)], environment=environment, **options)
    assert not prepared.faults, [str(fault) for fault in prepared.faults]
    done = await apply(world.ctx, world.actor(), prepared)
    assert [f"{one.kind}/{one.name}: {one.error}" for one in done.results if one.error] == []
    assert "s3cret" not in repr(done)
    return {f"{one.action} {one.kind}/{one.name}" for one in done.results}


async def everything(world: World) -> str:
    text = "---\n".join([await export(world.ctx, world.actor(), name) for name in ("", "demo")])
    assert "s3cret" not in text
    assert "in-clear" not in text
    return text


def test_each_kind_has_a_sample() -> None:
    assert set(SAMPLES) == set(FORMS)


async def test_export_and_apply_is_the_identity(worlds: tuple[World, World]) -> None:
    one, two = worlds
    assert {line.partition(" ")[0] for line in await applied(one, stream())} == {"created"}
    text = await everything(one)
    assert {kind for kind in FORMS if f"kind: {kind}\n" in text} == set(FORMS)
    assert text.count("valueFrom") == 5
    unchanged = await applied(one, text, unset_secret="********")
    assert {line.partition(" ")[0] for line in unchanged} == {"unchanged"}
    assert await everything(one) == text

    needed = re.findall(r"^#   ([A-Z0-9_]+): ", text, re.MULTILINE)
    assert set(needed) == {name for name in re.findall(r"\$\{([A-Z0-9_]+)\}", text.replace("$$", "")) if name in needed}
    assert len(needed) == len(set(needed)) >= 6
    values = {
        name: f"clusters: [{{name: s3cret-of-{name}}}]" if "KUBE_CONFIG" in name else f"s3cret-of-{name}"
        for name in needed
    }
    elsewhere = await applied(two, text, values)
    assert not {line for line in elsewhere if line.startswith("updated") and "Setting" in line}
    assert _sorted(await everything(two)) == _sorted(text)
    assert {line.partition(" ")[0] for line in await applied(two, text, values)} == {"unchanged"}


def _sorted(text: str) -> list[str]:
    """The objects of an export, in an order that does not depend on when they were made."""
    return sorted(piece for piece in text.split("---\n"))
