"""References: what is ours is replaced once, what is not stays byte for byte."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.domain.errors import NotStartable
from cador.domain.variables import (
    ROOTS,
    JobFacts,
    TaskFacts,
    bounded,
    creation_variables,
    credentials,
    expand_inputs,
    expand_shell_names,
    for_service,
    job_variables,
    may_run,
    plain,
    protect,
    references,
    render,
    render_text,
    settle,
    settled_params,
    task_url,
)
from cador.domain.workflow import ExecutePolicy, Param, Workflow

WORKFLOW = Workflow("ship", "shop", "Ship it", ())
FACTS = TaskFacts(
    number="7",
    at=1_700_000_000.9,
    local=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
    creator="Ann",
    creator_account="ann",
    creator_id="u-1",
    project_name="The shop",
    url="http://ci/t",
)

NEWLINES = "\r\n"
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ue001"))
nasty = st.one_of(
    texts, st.sampled_from(['a"b\\c\nd', "{{.project}}", "{{.job.a.output.X}}", "}}{{.workflow.id}}", "$&\\1"])
)
foreign = st.sampled_from(
    [
        "docker inspect -f '{{.State.Running}}' x",
        "{{ .Values.image.tag }}",
        "{{- if .Values.x }}",
        "{{ range .Items }}{{ .Name }}{{ end }}",
        "{{.}}",
        "{{project}}",
        "{{.project.}}",
        "{{.Project}}",
        "{{.jobs.a}}",
        "{{.projectx}}",
        "{{. project}}",
        "{{.project\n}}",
        "{.project}",
        "{{`{{.project`}}",
    ]
)


braces = st.lists(
    st.sampled_from(["{", "{{", "}}", ".project", ".project}}", "{.project}}", "{{.project}}", " ", "x", "\n"])
).map("".join)


@given(one=braces, other=braces, before=st.sampled_from(["", "{", "${"]), between=st.sampled_from(["", " "]))
def test_braces_of_values_never_become_a_reference_with_what_stands_beside_them(
    one: str, other: str, before: str, between: str
) -> None:
    table = settle({"workflow.params.X": protect(one), "workflow.params.Y": protect(other), "project": "leaked"})
    text = f"{before}{{{{.workflow.params.X}}}}{between}{{{{.workflow.params.Y}}}}"
    first = render_text(text, {**table, "project": "leaked"}.get)
    again = render_text(first, {**table, "project": "leaked"}.get)
    second = render_text(again, {"project": "leaked"}.get, final=True)
    assert second == f"{before}{one.rstrip(NEWLINES)}{between}{other.rstrip(NEWLINES)}"
    assert plain(first) == second


@given(value=nasty)
def test_a_value_arrives_literally_through_both_passes(value: str) -> None:
    table = {"workflow.params.X": protect(value)}
    first, _ = render({"script": ["echo {{.workflow.params.X}}!"]}, table.get)
    second, unresolved = render(first, {"project": "leaked", "workflow.id": "leaked"}.get, final=True)
    assert second == {"script": [f"echo {value.rstrip(chr(13) + chr(10))}!"]}
    assert unresolved == ()
    assert plain(first) == second


@given(value=nasty)
def test_a_value_of_the_second_pass_arrives_literally(value: str) -> None:
    text = render_text("<{{.job.a.output.X}}>", {"job.a.output.X": value, "project": "leaked"}.get, final=True)
    assert text == f"<{value.rstrip(chr(13) + chr(10))}>"


@given(st.lists(st.one_of(foreign, texts.filter(lambda t: not references(t))), max_size=5).map("\n".join))
def test_foreign_templates_stay(text: str) -> None:
    if references(text):  # two harmless pieces made one of ours
        return
    assert render_text(text, lambda path: "X") == text
    assert render_text(text, lambda path: None, final=True) == text


@given(root=st.sampled_from(sorted(ROOTS)), path=st.lists(st.from_regex(r"[\w-]+", fullmatch=True), max_size=4))
def test_paths_of_known_roots_are_ours(root: str, path: list[str]) -> None:
    name = ".".join([root, *path])
    assert references(f"a{{{{.{name}}}}}b{{{{ .{name}\t}}}}") == [name, name]
    assert render_text(f"{{{{.{name}}}}}", {name: "v"}.get) == "v"


def test_unknown_references_stay_at_creation_and_are_reported_at_the_end() -> None:
    doc = {"a": [{"b": "x{{.job.j.output.O}}y{{.job.j.output.O}}"}, 3, None, True], "{{.project}}": "{{.project}}"}
    first, unresolved = render(doc, {}.get)
    assert (first, unresolved) == (doc, ())
    second, unresolved = render(doc, {}.get, final=True)
    assert second == {"a": [{"b": "xy"}, 3, None, True], "{{.project}}": ""}
    assert [str(one) for one in unresolved] == [
        "{{.job.j.output.O}} has no value (a.0.b)",
        "{{.project}} has no value ({{.project}})",
    ]


def test_service_and_module_are_put_into_references_only() -> None:
    text = "<SERVICE> {{.job.build.<SERVICE>.<MODULE>.output.IMAGE}} {{.Values.<SERVICE>}}"
    assert for_service({"s": [text]}, "web", "nginx") == {
        "s": ["<SERVICE> {{.job.build.web.nginx.output.IMAGE}} {{.Values.<SERVICE>}}"]
    }


def params(*pairs: tuple[str, str], **extra: object) -> list[Param]:
    return [replace(Param(name, "string", value), **extra) for name, value in pairs]  # type: ignore[arg-type]


def test_what_is_known_at_creation() -> None:
    table = creation_variables(WORKFLOW, params(("A", "1\n")), FACTS)
    expected = {
        "project": "shop",
        "project.id": "shop",
        "project.name": "The shop",
        "workflow.id": "ship",
        "workflow.name": "ship",
        "workflow.display_name": "Ship it",
        "workflow.task.id": "7",
        "workflow.task.creator": "Ann",
        "workflow.task.creator.id": "ann",
        "workflow.task.creator.userId": "u-1",
        "workflow.task.timestamp": "1700000000",
        "workflow.task.datetime": "2023-11-14 22:13:20",
        "workflow.task.url": "http://ci/t",
        "workflow.params.A": "1",
    }
    assert {key: table[key] for key in expected} == expected


def test_params_refer_to_each_other_in_any_order() -> None:
    chain = params(("a", "{{.workflow.params.b}}!"), ("b", "{{.workflow.params.c}}?"), ("c", "{{.project}}"))
    table = creation_variables(WORKFLOW, chain, FACTS)
    assert [table[f"workflow.params.{name}"] for name in "abc"] == ["shop?!", "shop?", "shop"]
    assert settled_params(chain, table) == {"a": "shop?!", "b": "shop?", "c": "shop"}


def test_params_in_a_circle_cannot_start() -> None:
    ring = params(("x", "1"), ("a", "{{.workflow.params.b}}"), ("b", "{{.workflow.params.a}}"))
    with pytest.raises(NotStartable, match=r"^workflow params reference each other: a -> b -> a$"):
        creation_variables(WORKFLOW, ring, FACTS)


def test_params_that_lead_on_and_on_cannot_start() -> None:
    chain = params(*((f"p{n}", f"{{{{.workflow.params.p{n + 1}}}}}") for n in range(3_000)), ("p3000", "x"))
    with pytest.raises(NotStartable, match=r"^workflow params reference each other more than 100 deep: p0 -> \.\.\.$"):
        creation_variables(WORKFLOW, chain, FACTS)


def test_values_that_grow_with_each_reference_cannot_start() -> None:
    """Sixty lines of this are longer than any memory."""
    double = params(*((f"p{n}", f"{{{{.workflow.params.p{n + 1}}}}}" * 2) for n in range(60)), ("p60", "x" * 100))
    with pytest.raises(NotStartable, match=r"^the values of references are longer than 32 MiB together$"):
        creation_variables(WORKFLOW, double, FACTS)
    lookup = bounded({"workflow.params.a": "x" * (1 << 20)}.get)
    assert len(render(["{{.workflow.params.a}}"] * 16, lookup)[0]) == 16
    with pytest.raises(NotStartable, match="32 MiB"):
        render(["{{.workflow.params.a}}"] * 17, lookup)


def test_a_service_does_not_begin_references_of_its_own() -> None:
    spec = for_service("{{.job.b.<SERVICE>.<MODULE>.X}}", "a}}{{.workflow.params.TOKEN}}{{.job", "m")
    assert render(spec, {"workflow.params.TOKEN": "s3cr3t"}.get, final=True)[0] == ""
    assert for_service("{{.job.b.<SERVICE>.<MODULE>.X}}", "a", "m") == "{{.job.b.a.m.X}}"


def test_paths_that_grow_with_each_name_are_refused() -> None:
    with pytest.raises(NotStartable, match="32 MiB"):
        expand_shell_names("$A", {"A": "$B" * 1_000, "B": "x" * 100_000})


def test_what_a_caller_typed_in_is_text() -> None:
    typed = params(("a", "{{.project}}"))
    table = creation_variables(WORKFLOW, typed, FACTS, given={"a"})
    assert render(settled_params(typed, table), {"project": "x"}.get, final=True)[0] == {"a": "{{.project}}"}
    doc, _ = render("{{.workflow.params.a}}", table.get)
    assert render(doc, {}.get, final=True) == ("{{.project}}", ())
    fixed = params(("a", "{{.project}}"), source="fixed")
    settled = settled_params(fixed, creation_variables(WORKFLOW, fixed, FACTS))
    assert render(settled, {"project": "x"}.get, final=True)[0] == {"a": "{{.project}}"}


def test_a_param_may_refer_to_what_a_job_will_produce() -> None:
    late = params(("a", "{{.job.b.output.O}}"), source="reference")
    table = creation_variables(WORKFLOW, late, FACTS, given={"a"})
    first, _ = render("v={{.workflow.params.a}}", table.get)
    outputs = job_variables([JobFacts("b", "b", outputs={"O": "42"})])
    assert render(first, outputs.get, final=True) == ("v=42", ())
    assert render(settled_params(late, table), outputs.get, final=True) == ({"a": "42"}, ())


def test_credentials_wait_for_the_second_pass() -> None:
    secret = params(("token", "sealed:v1:x"), is_credential=True)
    table = creation_variables(WORKFLOW, secret, FACTS)
    assert "workflow.params.token" not in table
    assert credentials(secret) == {"workflow.params.token": "sealed:v1:x"}
    assert settled_params(secret, table) == {"token": "sealed:v1:x"}


def test_repo_params_give_their_refs_only() -> None:
    repo = [Param("code", "repo", "", repo={"branch": "main", "repo_name": "x"})]
    table = creation_variables(WORKFLOW, repo, FACTS)
    assert {k: v for k, v in table.items() if "params" in k} == {"workflow.params.code.branch": "main"}
    assert settled_params(repo, table) == {}


def test_settle_leaves_what_it_does_not_know() -> None:
    assert settle({"job.a.X": "{{.job.b.Y}}{{.job.c.output.Z}}", "job.b.Y": "y"}) == {
        "job.a.X": "y{{.job.c.output.Z}}",
        "job.b.Y": "y",
    }


def test_what_jobs_leave() -> None:
    rows = [
        JobFacts("build-my.a.b", "build-my", "passed", 12.7, {"IMAGE": "r/b:1", "X": "{{.project}}"}),
        JobFacts("build-my.a.c", "build-my", "failed", 13.0, {"IMAGE": ""}),
        JobFacts("build-my.a.d", "build-my", "", None, {"IMAGE": "r/d:1"}),
    ]
    assert job_variables(rows) == {
        "job.build-my.a.b.output.IMAGE": "r/b:1",
        "job.build-my.a.b.output.X": "{{.project}}",
        "job.build-my.a.b.status": "passed",
        "job.build-my.a.b.util.startTime": "12",
        "job.build-my.a.c.output.IMAGE": "",
        "job.build-my.a.c.status": "failed",
        "job.build-my.a.c.util.startTime": "13",
        "job.build-my.a.d.output.IMAGE": "r/d:1",
        "job.build-my.IMAGES": "r/b:1,r/d:1",
    }


@pytest.mark.parametrize(
    ("verb", "value", "matches"),
    [
        ("=", "main", True),
        ("=", "Main", False),
        ("!=", "x", True),
        ("begins_with", "ma", True),
        ("not_begins_with", "ma", False),
        ("ends_with", "in", True),
        ("not_ends_with", "x", True),
        ("contains", "ai", True),
        ("not_contains", "ai", False),
        ("matches", "main", False),
    ],
)
def test_verbs(verb: str, value: str, matches: bool) -> None:
    rule = (("{{.x}}", verb, value),)

    def rendered(text: str) -> str:
        return "main" if text == "{{.x}}" else text

    assert may_run(ExecutePolicy("execute", "all", rule), rendered) is matches
    assert may_run(ExecutePolicy("skip", "all", rule), rendered) is not matches
    assert may_run(ExecutePolicy("other", "all", rule), rendered)


def test_all_and_any() -> None:
    rules = (("a", "=", "a"), ("a", "=", "b"))
    assert not may_run(ExecutePolicy("execute", "all", rules), str)
    assert not may_run(ExecutePolicy("execute", "nonsense", rules), str)
    assert may_run(ExecutePolicy("execute", "any", rules), str)
    assert may_run(ExecutePolicy("execute", "any", ()), str)


def test_inputs_of_plugins() -> None:
    assert expand_inputs({"args": ["echo $(inputs.A) $(inputs.B) $(A)"]}, {"A": "$(inputs.B)"}.get) == {
        "args": ["echo $(inputs.B) $(inputs.B) $(A)"]
    }


def test_shell_names() -> None:
    env = {"SERVICE": "a", "SERVICE_NAME": "b", "NESTED": "$SERVICE/x"}
    assert (
        expand_shell_names("$SERVICE_NAME/${SERVICE}/%SERVICE%/$env:SERVICE_NAME/$OTHER/5%", env) == "b/a/a/b/$OTHER/5%"
    )
    assert expand_shell_names("${NESTED}", env) == "a/x"
    assert expand_shell_names("$LOOP", {"LOOP": "$LOOP$LOOP"}) == "$LOOP" * 4
    assert expand_shell_names("$X", {}) == "$X"


def test_task_url_is_escaped() -> None:
    url = task_url("http://ci/", "p", "w", "3", "构建 & go")
    assert url == "http://ci/v1/projects/detail/p/pipelines/custom/w/3?display_name=%E6%9E%84%E5%BB%BA%20%26%20go"
