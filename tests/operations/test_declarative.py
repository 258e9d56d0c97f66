"""Reading declarative files: positions, substitution, limits, expansion. Pure."""
# ruff: noqa: E501 - faults are compared whole

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cador.operations.declarative.documents import FORMS, Document
from cador.operations.declarative.merging import merge, shape_of
from cador.operations.declarative.names import Names, resolve
from cador.operations.declarative.nodes import Misfit, plain, read_stream
from cador.operations.declarative.pipeline import Prepared, Source, dump_all, prepare, to_wire, to_yaml, validate
from cador.operations.declarative.substitution import escape, substitute

SHORT = """\
version: "1"
project: { key: demo, name: Demo shop }
system:
  settings: { base_url: "https://ci.example.com", language: en }
  codehosts:
    main: { type: gitlab, address: "https://gitlab.example.com", access_token: "${TOKEN:?}" }
  registries:
    harbor: { provider: harbor, address: "https://harbor.example.com", namespace: test, default: true }
  users:
    alice: { name: Alice, email: alice@example.com, roles: [] }
members:
  alice: [project-admin]
services:
  api:
    yaml: |
      kind: Deployment
      spec: { template: { spec: { containers: [{ name: api, image: x/api:1 }, { name: side, image: y }] } } }
    variables:
      port: { type: string, value: "8080" }
builds:
  api-build:
    for: [api]
    os: ubuntu 22.04
    tools: { go: 1.20 }
    repos:
      - { codehost: main, repo: group/sub/api, branch: main }
    parameters:
      GOFLAGS: { value: "-mod=vendor" }
      TOKEN: { secret: true, value: "${BUILD_TOKEN}" }
    script: |
      echo ${HOME} $$
    timeout: 1h30m
    resources: { cpu: 500m, memory: 4Gi }
tests:
  unit: { repos: [{ codehost: main, repo: group/api, branch: on }], script: make test, report: report/ }
workflows:
  build-deploy:
    concurrency: 5
    params:
      VERSION: { type: string, default: "1.0" }
      CODE: { type: repo, codehost: main, repo: group/api, branch: main }
    stages:
      - name: build
        parallel: true
        jobs:
          - { name: build, type: zadig-build, registry: harbor, services: [api/api] }
      - name: test
        jobs:
          - { name: unit, type: zadig-test, tests: [unit] }
      - name: deploy
        approval: { type: native, users: [alice], groups: [leads], needed: 1, timeout: 60m, description: Need approval }
        manual: { users: [alice], groups: [leads], inputs: true }
        jobs:
          - name: release
            type: freestyle
            script: echo {{.job.build.api.api.output.IMAGE}}
            env: { A: 1, S: { value: "${BUILD_TOKEN}", secret: true } }
            repos: [{ codehost: main, repo: group/api, branch: main }]
            outputs: [NAME]
            artifacts: [out/]
            timeout: 2h
            tools: { node: 18.0 }
          - name: migrate
            type: sql
            spec: { id: mysql, type: mysql, sql: "select ${X};", source: fixed }
"""
ENVIRONMENT = {"TOKEN": "t0ken$$", "BUILD_TOKEN": "b0${x}"}


def read(text: str, **options: Any) -> Prepared:
    return prepare([Source("cador.yaml", text)], environment=ENVIRONMENT, **options)


def faults(text: str, **options: Any) -> list[str]:
    return [str(fault) for fault in read(text, **options).faults]


def spec(prepared: Prepared, kind: str) -> dict[str, Any]:
    return dict(next(document.spec for document in prepared.documents if document.kind == kind))


def test_the_short_form_expands() -> None:
    prepared = read(SHORT, plain_secrets=False)
    assert prepared.faults == ()
    assert [document.kind for document in prepared.documents] == [
        "Setting", "Setting", "CodeHost", "Registry", "User", "Project", "RoleBinding", "Service", "Build", "Test",
        "Workflow",
    ]  # fmt: skip
    build = spec(prepared, "Build")
    assert build["installs"] == [{"name": "go", "version": "1.20"}]
    assert build["services"] == [{"service_name": "api"}]
    assert build["repo_info"][0]["repo_namespace"] == "group/sub"
    assert build["build_script"] == "echo ${HOME} $$\n"
    assert build["advanced_settings"] == {
        "cluster_name": "local",
        "timeout": 90,
        "resource_spec": {"cpu_limit": 500, "memory_limit": 4096},
    }
    assert build["parameters"][1] == {
        "key": "TOKEN", "type": "string", "default_value": "b0${x}", "is_credential": True
    }  # fmt: skip
    assert spec(prepared, "Test")["repo_info"][0]["branch"] == "on"
    assert spec(prepared, "CodeHost")["access_token"] == "t0ken$$"
    workflow = spec(prepared, "Workflow")
    release, migrate = workflow["stages"][2]["jobs"]
    assert [step["type"] for step in release["spec"]["steps"]] == ["tools", "git", "shell", "archive"]
    assert release["spec"]["steps"][0]["spec"]["installs"] == [{"name": "node", "version": "18.0"}]
    assert release["spec"]["properties"]["envs"][0]["value"] == "1"
    assert release["spec"]["properties"]["timeout"] == 120
    assert release["spec"]["outputs"] == [{"name": "NAME", "description": ""}]
    assert migrate["spec"]["sql"] == "select ${X};"
    assert workflow["stages"][2]["approval"]["native_approval"] == {
        "approve_users": [{"type": "user", "user_name": "alice"}, {"type": "group", "group_name": "leads"}],
        "timeout": 60,
        "needed_approvers": 1,
    }
    assert workflow["stages"][2]["manual_exec"] == {
        "enabled": True,
        "modify_params": True,
        "manual_exec_users": [{"type": "user", "user_name": "alice"}, {"type": "group", "group_name": "leads"}],
    }
    assert workflow["params"][1]["repo"]["repo_name"] == "api"
    assert validate(prepared).faults == ()


def test_expanding_is_deterministic_and_the_long_form_reads_back() -> None:
    first, second = read(SHORT), read(SHORT)
    assert to_wire(first.documents) == to_wire(second.documents)
    for text in (to_wire(first.documents), to_yaml(first.documents)):
        again = prepare([Source("", text)])
        assert again.faults == ()
        assert [(d.identity, d.spec) for d in again.documents] == [(d.identity, d.spec) for d in first.documents]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("branch: main }\n    param", "brnach: main }\n    param", "cador.yaml:26:48: builds.api-build.repos[0]: unknown key 'brnach', did you mean 'branch'?"),
        ("version: \"1\"", "version: 1\nbuild: {}", "cador.yaml:2:1: unknown key 'build', did you mean 'builds'?"),
        ("concurrency: 5", "concurency: 5", "cador.yaml:38:5: workflows.build-deploy: unknown key 'concurency', did you mean 'concurrency'?"),
        ("timeout: 1h30m", "timeout: soon", "cador.yaml:32:5: builds.api-build.timeout: 'soon' is no duration such as 30m, 2h or 1h30m"),
        ("memory: 4Gi", "memory: 4Pi", "cador.yaml:33:29: builds.api-build.resources.memory: must be an amount such as 512Mi or 4Gi"),
        ("members:", "triggers: {}\nmembers:", "cador.yaml:11:1: triggers is not supported yet by this server"),
        ("type: zadig-test", "type: tapd", "has no short form"),
        ("key: demo,", "key: Demo,", r"cador.yaml:2:10: Project/Demo: project key should match regex: ^[a-z-\d]+$"),
        ('"${TOKEN:?}"', "literal", "cador.yaml:6:80: access_token: a secret does not stand in the file: write ${NAME} and set NAME in the environment"),
        ('"${TOKEN:?}"', '"${OTHER:?get one}"', "variable OTHER: get one"),
        ('"${TOKEN:?}"', '"${OTHER}"', "variable OTHER is not set"),
    ],
)  # fmt: skip
def test_faults_tell_their_place(old: str, new: str, text: str) -> None:
    assert old in SHORT
    found = faults(SHORT.replace(old, new, 1), plain_secrets=False)
    assert any(text in fault for fault in found), found


LONG = """\
apiVersion: cador.dev/v1
kind: Build
metadata: { name: b, project: demo }
spec:
  build_os: ubuntu 22.04
  repo_info:
    - { codehost_name: main, repo_namespace: a, repo_name: b, branch: main, remotename: x }
"""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (LONG, "cador.yaml:7:77: Build/b.repo_info[0]: unknown key 'remotename', did you mean 'remote_name'?"),
        (LONG.replace("Build", "Buidl"), "cador.yaml:2:1: unknown kind 'Buidl', did you mean 'Build'?"),
        (LONG.replace("Build", "Trigger"), "cador.yaml:2:1: kind Trigger is not supported yet by this server"),
        (LONG.replace("v1", "v9"), "cador.yaml:1:1: apiVersion must be cador.dev/v1, not 'cador.dev/v9'"),
        (LONG.replace(", remotename: x", "") + "---\n" + LONG.replace(", remotename: x", ""), "stands here twice"),
        (LONG.replace("name: b, project", "name: ../b, project").replace(", remotename: x", ""),
         "cador.yaml:5:3: Build/../b: build name should match regex: ^[a-zA-Z0-9-_]+$"),
        ("- 1", "cador.yaml:1:3: a document must be a mapping"),
        ("a: [", "this is not YAML"),
        ("{a: 1, a: 2}", "cador.yaml:1:8: key 'a' stands here twice"),
        ("a: !!python/object:os.system x", "is not allowed here"),
        ("a: *b", "unknown alias *b"),
        ("a: &b [*b]", "alias *b is used inside itself"),
        ("[" * 200, "nested deeper than 100 levels"),
        ("? [a]\n: 1", "a key must be a text"),
        ("a: \x01", "this is not YAML"),
        ("project: { key: x }\ninclude: [other.yaml]", "include is read by the command line"),
    ],
)  # fmt: skip
def test_long_and_hostile_texts(text: str, fault: str) -> None:
    found = faults(text)
    assert any(fault in one for one in found), found


def test_bombs_and_sizes() -> None:
    lines = ["x-a: &a0 [" + "lol, " * 9 + "lol]"]
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(Misfit, match="too large with its aliases"):
        read_stream("\n".join(lines))
    with pytest.raises(Misfit, match="larger than 10 MiB"):
        read_stream("a: " + "x" * (10 * 1024 * 1024))
    with pytest.raises(Misfit, match="more than 300000 values"):
        read_stream("a: [" + "1," * 400_000 + "1]")
    assert len(read_stream("a: " + "x" * (10 * 1024 * 1024 - 10))) == 1
    large = "a: &a {" + ", ".join(f"k{n}: 1" for n in range(3_000)) + "}\n"
    with pytest.raises(Misfit, match="'<<' takes more than 300000 values"):
        read_stream(large + "\n".join(f"b{n}: {{<<: *a}}" for n in range(200)))
    assert len(plain(read_stream(large + "b: {<<: [" + "*a, " * 3_000 + "]}")[0])["b"]) == 3_000


@pytest.mark.parametrize("number", [1, 100_000])
def test_references_that_nobody_closes_are_read_once(number: int) -> None:
    """Not to the end of the text from each of them, which took hours."""
    (fault,) = faults("project: { key: demo, description: '" + "${A:-" * number + "${B}}'}")
    assert "this is no reference: '${A:-$" in fault


def test_aliases_of_aliases_are_nested() -> None:
    """However flat they are written: whoever walks the tree must not go too deep."""
    head = "apiVersion: cador.dev/v1\nkind: Workflow\nmetadata: {name: a, project: b}\nspec:\n  x:\n"
    chain = "  - &a0 {a: x}\n" + "".join(f"  - &a{n} {{a: *a{n - 1}}}\n" for n in range(1, 3_000))
    (fault,) = faults(head + chain)
    assert "nested deeper than 100 levels" in fault
    inside = "<<: {" + ", ".join(["k0: &k0 [x]", *(f"k{n}: &k{n} [*k{n - 1}]" for n in range(1, 90))]) + "}\nz: *k89\n"
    assert len(read_stream(inside)) == 1
    with pytest.raises(Misfit, match="nested deeper"):
        read_stream(inside + "y: [[[[[[[[[[[*k89]]]]]]]]]]]\n")


def test_the_core_schema_of_yaml_1_2() -> None:
    (node,) = read_stream("{on: yes, a: true, b: 012, c: 0x1f, d: 1.50, e: 12:30, f: 2024-01-01, g: ~, h: '1', i: no}")
    assert plain(node) == {
        "on": "yes", "a": True, "b": 12, "c": 31, "d": 1.5, "e": "12:30", "f": "2024-01-01", "g": None, "h": "1",
        "i": "no",
    }  # fmt: skip
    assert node.mapping is not None
    assert node.mapping["d"].text == "1.50"


def test_merge_keys_and_files(tmp_path: Path) -> None:
    text = """\
x-base: &base { codehost: main, branch: main }
project: { key: demo }
include: [more.yaml]
builds:
  b: { repos: [{ <<: *base, repo: a/b, branch: dev }], scriptFile: b.sh }
"""
    files = {"more.yaml": "project: { key: other }\nservices: { s: { yaml: 'a: 1' } }\n", "b.sh": "echo ${HOME} $$\n"}
    prepared = prepare([Source("cador.yaml", text)], read_file=lambda beside, path: files[path])
    assert prepared.faults == ()
    build = spec(prepared, "Build")
    assert build["repo_info"][0]["branch"] == "dev"
    assert build["build_script"] == files["b.sh"]
    assert {document.project for document in prepared.documents} == {"demo", "other"}
    loop = prepare([Source("a.yaml", "include: [a.yaml]")], read_file=lambda beside, path: "include: [a.yaml]")
    assert "includes itself" in str(loop.faults[0])


SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text("ab$ {}\n#:'\"é", max_size=12)
KEYS = st.text("abcdef-", min_size=1, max_size=6)
TREES = st.recursive(SCALARS, lambda t: st.lists(t, max_size=3) | st.dictionaries(KEYS, t, max_size=3), max_leaves=12)


@given(st.dictionaries(KEYS, TREES, max_size=4))
@settings(max_examples=200)
def test_what_is_escaped_is_read_as_it_was(value: dict[str, Any]) -> None:
    nodes = read_stream(dump_all([escape(value)]))
    assert (plain(substitute(nodes[0], {})) if value and nodes else {}) == value


@given(st.lists(st.text("0189eExXo._-+:~ nultrfas", max_size=6)))
def test_texts_that_look_like_something_else_stay_texts(texts: list[str]) -> None:
    (node,) = read_stream(dump_all([{"a": texts}]))
    assert plain(node) == {"a": texts}


@given(st.dictionaries(KEYS, TREES, max_size=4))
@settings(max_examples=200)
def test_reading_agrees_with_pyyaml_on_what_it_wrote(value: dict[str, Any]) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    nodes = read_stream(text)
    assert (plain(nodes[0]) if nodes else {}) == yaml.safe_load(text)


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_any_text_ends_in_documents_or_faults(text: str) -> None:
    prepare([Source("x", text)])


MAPS = st.dictionaries(
    st.sampled_from("abcd"),
    st.recursive(
        st.integers(), lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), max_leaves=8
    ),
    max_size=4,
)


@given(MAPS, MAPS, MAPS)
@settings(max_examples=300)
def test_merging(there: dict[str, Any], before: dict[str, Any], now: dict[str, Any]) -> None:
    after = merge(there, {}, before)
    assert merge(after, shape_of(before), before) == after, "applying twice changes nothing"
    again = merge(after, shape_of(before), now)
    assert _covers(again, now), "all that is given is there"
    for key, value in there.items():
        if key not in before and key not in now:
            assert again[key] == value, "what others have set stays"
    for key in before:
        if key not in now and not isinstance(before[key], dict):
            assert key not in again, "what is no longer given goes"


def _covers(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(key in value and _covers(value[key], wanted[key]) for key in wanted)
    return bool(value == wanted)


def test_every_kind_has_a_place_in_the_order() -> None:
    documents = [Document(kind, "n", "", {}) for kind in FORMS]
    assert [document.form.kind for document in documents] == [form.kind for form in FORMS.values()]


def test_people_of_manual_stages_are_named_by_account() -> None:
    body = {"stages": [{"name": "s", "jobs": [], "manual_exec": {"manual_exec_users": [{"user_name": "alice"}]}}]}
    found, missing = resolve("Workflow", body, Names(users={"alice": ("u-1", "Alice")}))
    assert found["stages"][0]["manual_exec"]["manual_exec_users"] == [{"user_id": "u-1", "user_name": "Alice"}]
    assert not missing


NOTIFY = """\
project: { key: demo }
workflows:
  w:
    concurrency: ${LIMIT}
    disabled: ${OFF}
    stages: []
    notify:
      - { type: dingding, url: "${HOOK}", on: [created, failed, passed], mobiles: ["13800138000"] }
      - { type: mail, users: [alice], groups: [leads], emails: [x@example.com], creator: true, on: failed, enabled: false }
      - { type: feishu_app, app: our-app, chat: oc_1, users: [u1], on: [changed] }
      - { type: webhook, url: "${HOOK}", token: "${HOOK}", on: [timeout] }
views: { releases: [w, other], none: [] }
"""


def test_notifications_views_and_numbers_from_variables() -> None:
    prepared = prepare(
        [Source("c", NOTIFY)], environment={"LIMIT": "3", "OFF": "true", "HOOK": "https://hook.example.com"}
    )
    assert not prepared.faults, [str(fault) for fault in prepared.faults]
    workflow = spec(prepared, "Workflow")
    assert (workflow["concurrency_limit"], workflow["disabled"]) == (3, True)
    ding, mail, app, hook = workflow["notify_ctls"]
    assert ding == {
        "enabled": True,
        "webhook_type": "dingding",
        "notify_type": ["created", "failed", "passed"],
        "dingding_notification_config": {"hook_address": "https://hook.example.com", "at_mobiles": ["13800138000"]},
    }
    assert (mail["enabled"], mail["notify_type"]) == (False, ["failed"])
    assert mail["mail_notification_config"]["target_users"] == [
        {"type": "user", "user_name": "alice"},
        {"type": "group", "group_name": "leads"},
        {"type": "email", "user_name": "x@example.com"},
        {"type": "task_creator"},
    ]
    assert app["lark_group_notification_config"] == {
        "app_id": "our-app",
        "chat": {"chat_id": "oc_1", "chat_name": ""},
        "at_users": [{"id": "u1", "id_type": "user_id"}],
    }
    assert hook["webhook_notification_config"]["token"] == "https://hook.example.com"
    assert spec(prepared, "WorkflowView") == {"workflow_list": []}
    assert "Workflow/w: group 'leads' is not in these files" in validate(prepared).warnings


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("type: dingding", "type: carrier-pigeon", "unsupported notification type: carrier-pigeon"),
        ("mobiles", "mobile", "unknown key 'mobile', did you mean 'mobiles'?"),
        ("[timeout]", "[never]", "unknown event 'never'"),
        (", on: [timeout]", "", "'on' is missing"),
        ("app: our-app, ", "", "'app' is missing"),
        ("LIMIT", "HOOK", "concurrency: must be a whole number"),
        ('token: "${HOOK}"', "token: literal", "a secret does not stand in the file"),
        ("[w, other]", "{ w: true }", "must be a list"),
    ],
)  # fmt: skip
def test_mistakes_of_notifications(old: str, new: str, text: str) -> None:
    assert old in NOTIFY
    environment = {"LIMIT": "3", "OFF": "true", "HOOK": "https://hook.example.com"}
    found = prepare([Source("c", NOTIFY.replace(old, new, 1))], environment=environment, plain_secrets=False).faults
    assert any(text in str(fault) for fault in found), [str(fault) for fault in found]


def test_one_mistake_in_a_large_file_is_told_by_its_line() -> None:
    lines = ["project: { key: demo }", "workflows:"]
    lines += [f"  w{n}: {{ stages: [], concurrency: {'few' if n == 700 else 1} }}" for n in range(1_000)]
    assert faults("\n".join(lines)) == ["cador.yaml:703:23: workflows.w700.concurrency: must be a whole number"]


def test_a_secret_that_is_not_known_yet_is_no_mistake() -> None:
    cluster = "system: { clusters: { prod: { type: kubeconfig, kube_config: %s } } }"
    assert "kube_config is no kubeconfig" in faults(cluster % "not-one", plain_secrets=True)[0]
    assert faults(cluster % "{ valueFrom: { secret: prod, key: CONFIG } }") == []
    assert (
        prepare([Source("", cluster % '"${CONFIG}"')], environment={"CONFIG": "http://Unset1-CONFIG.invalid"}).faults
        == ()
    )
