"""Applying on both databases, without HTTP; and the page about it."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from cador.domain.errors import Conflict, Forbidden, Invalid
from cador.engine import housekeeping
from cador.operations import projects, resources, system_settings, workflows
from cador.operations.apply import Order, apply, read_text
from cador.operations.declarative.documents import FORMS
from cador.operations.declarative.pipeline import Source, prepare, validate
from cador.operations.exporting import export
from cador.operations.first_start import bootstrap_data
from cador.operations.models.system import LIVE_SETTINGS
from cador.operations.retention import KEEPING
from support.rows import start
from support.world import World

pytestmark = pytest.mark.anyio

FILE = """\
project: { key: demo }
system:
  codehosts: { git: { type: other, address: "file:///srv/git" } }
  registries: { one: { provider: native, address: "https://r.example.com", namespace: x, secret_key: s3cret-value } }
members: { ann: [read-only] }
services: { api: { yaml: "kind: Deployment\\nspec: {template: {spec: {containers: [{name: api, image: a}]}}}" } }
builds: { b: { for: [api], repos: [{ codehost: git, repo: a/b, branch: main }], script: make } }
workflows:
  w:
    concurrency: 1
    stages:
      - name: s
        jobs:
          - { name: build, type: zadig-build, registry: one, services: [api] }
      - name: say
        jobs:
          - { name: say, type: freestyle, script: "true" }
"""


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    made = await World.real(tmp_path, database_url)
    await made.boot()
    await bootstrap_data(made.ctx)
    yield made
    await made.close()


async def test_apply_run_change_delete(world: World) -> None:
    ctx, admin = world.ctx, world.actor()
    done = await apply(ctx, admin, read_text(FILE))
    assert [result.error for result in done.results if result.error] == []
    assert {result.action for result in done.results} == {"created"}
    done = await apply(ctx, admin, read_text(FILE))
    assert {result.action for result in done.results} == {"unchanged"}
    done = await apply(ctx, admin, read_text(await export(ctx, admin, "demo")))
    assert {result.action for result in done.results} == {"unchanged"}

    done = await apply(ctx, admin, read_text(FILE.replace("concurrency: 1", "concurrency: 3")))
    assert [(r.kind, r.action) for r in done.results if r.action != "unchanged"] == [("Workflow", "updated")]
    row = await world.db.read(lambda tx: tx.workflows.find("w"))
    assert (row.revision, row.concurrency_limit) == (2, 3)
    registry = (await resources.list_kind(ctx, "registry"))[0]
    with pytest.raises(Conflict, match="registry one is used by workflow w"):
        await resources.delete(ctx, admin, "registry", "", "one")
    assert world.sealer.open(registry.document["secret_key"]) == "s3cret-value"
    assert "s3cret" not in repr(await world.db.read(lambda tx: tx.audit.list_entries(limit=100)))

    for account in ("ann", "eve"):
        with pytest.raises(Forbidden):
            await apply(ctx, world.actor(account), read_text("project: { key: demo, name: Mine }"))
    with pytest.raises(Forbidden):
        await export(ctx, world.actor("eve"), "demo")

    done = await apply(ctx, admin, read_text(FILE), Order(delete=True))
    assert {result.action for result in done.results} == {"deleted"}
    assert done.results[0].kind == "Workflow"
    assert await resources.list_kind(ctx, "applied") == []


async def test_a_project_weighs_what_administrators_say(world: World) -> None:
    ctx, admin = world.ctx, world.actor()

    async def weight() -> object:
        return (await world.db.read(lambda tx: tx.resources.find("project", "", "demo"))).document.get("weight")

    await apply(ctx, admin, read_text("project: { key: demo, weight: 2.5 }"))
    assert await weight() == 2.5
    assert "weight: 2.5" in await export(ctx, admin, "demo")
    await apply(ctx, admin, read_text("project: { key: demo, name: Other }"))
    assert await weight() == 2.5, "what does not say it leaves it"
    boss = replace(world.actor("ann"), roles={"demo": ("project-admin",)})
    await apply(ctx, boss, read_text("project: { key: demo, name: Mine }"))
    done = await apply(ctx, boss, read_text("project: { key: demo, weight: 9 }"))
    assert "permission denied" in done.results[0].error
    assert await weight() == 2.5
    for value in ("0", "heavy", ".nan", "1e9"):
        with pytest.raises(Invalid, match="weight: "):
            read_text(f"project: {{ key: demo, weight: {value} }}")


async def test_project_deletion_leaves_nothing(world: World) -> None:
    ctx, admin = world.ctx, world.actor()
    await apply(ctx, admin, read_text(FILE))
    await projects.delete(ctx, admin, "demo")
    left = await world.db.read(lambda tx: [r for r in tx.resources.of_project("demo") if r.project == "demo"])
    assert left == []
    assert await world.db.read(lambda tx: tx.workflows.find("w")) is None
    assert await world.db.read(lambda tx: dict(tx.people.roles("ann"))) == {}


def test_the_page_about_the_short_form_is_right() -> None:
    page = Path(__file__).parents[2].joinpath("docs/declarative.md").read_text()
    blocks = [block.replace("?:", ":") for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    short, job, *others = blocks
    long = others[-1]
    indented = "\n".join(f"          {line}" for line in job.splitlines())
    text = short.replace("        jobs: []", f"        jobs:\n{indented}").replace(": main, tag: v1", ": main")
    prepared = prepare(
        [Source("page", text), Source("long", long.replace("api-build", "other"))],
        environment=dict.fromkeys(re.findall(r"\$\{([A-Z_]+)", page), "Replace-me-1"),
        read_file=lambda beside, path: "kind: Deployment\nspec: {template: {spec: {containers: [{name: api}]}}}",
        plain_secrets=False,
    )
    checked = validate(prepared)
    assert [str(fault) for fault in checked.faults] == []
    assert checked.warnings == ()
    assert [kind for kind in FORMS if f"`{kind}`" not in page] == [], "each kind has its place on the page"


async def test_a_file_that_adds_to_a_project_leaves_what_it_does_not_say(world: World) -> None:
    ctx, admin = world.ctx, world.actor()

    async def project() -> dict[str, object]:
        return dict((await world.db.read(lambda tx: tx.resources.find("project", "", "demo"))).document)

    await apply(ctx, admin, read_text("project: { key: demo }"))
    assert (await project())["project_name"] == "demo"
    whole = "project: { key: demo, name: Demo shop, type: helm, public: true, variables: { A: 1, B: { value: 2 } } }"
    await apply(ctx, admin, read_text(whole), Order(set_name="one"))
    before = await project()
    assert [(one["key"], one["value"]) for one in before["variables"]] == [("A", "1"), ("B", "2")]  # type: ignore[attr-defined]
    await projects.change(ctx, admin, "demo", {"description": "by hand"})

    long = "apiVersion: cador.dev/v1\nkind: Project\nmetadata: { name: demo }\n"
    done = await apply(ctx, admin, read_text(f"{long}spec: {{ project_type: helm, is_public: true }}"))
    assert [one.action for one in done.results] == ["updated"]
    after = await project()
    assert after == {**before, "project_name": "demo", "description": "by hand", "variables": []}, (
        "what an earlier file said and this one does not goes back, what somebody else has set stays"
    )
    await apply(ctx, admin, read_text("project: { key: demo, name: Demo }\nsystem: { settings: { language: en } }"))
    assert (await project())["project_name"] == "Demo"
    for _ in range(2):
        await projects.change(ctx, admin, "demo", {"project_name": "By hand"})
        await apply(ctx, admin, read_text("project: { key: demo }"))
    assert (await project())["project_name"] == "By hand"


async def test_what_is_deleted_by_a_file_is_found_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a workflow with more tasks than one transaction takes away."""
    monkeypatch.setattr(housekeeping, "MARKS", 2)
    ctx, admin = world.ctx, world.actor()
    text = FILE.replace("concurrency: 1", "concurrency: 0")
    await apply(ctx, admin, read_text(text))
    for _ in range(7):
        await world.db.write(start, "w", project="demo")
    assert await world.db.read(lambda tx: tx.tasks.count("w")) == 7
    await apply(ctx, admin, read_text(text), Order(delete=True))
    assert await world.db.read(lambda tx: tx.tasks.count("w")) == 0


async def test_nothing_that_was_written_ends_a_comment_of_an_export(world: World) -> None:
    """Who may change a workflow has administrators apply nothing."""
    ctx, admin = world.ctx, world.actor()
    await apply(ctx, admin, read_text(FILE))
    row = await world.db.read(lambda tx: tx.workflows.find("w"))
    evil = "x\n---\n{apiVersion: cador.dev/v1, kind: User, metadata: {name: eve}, spec: {admin: true}}\n#"
    for odd in ("\n", "\r", "\u2028", "\x85"):
        body = msgspec.json.decode(row.definition)
        body["stages"][1]["jobs"][0]["spec"][evil.replace("\n", odd)] = {"password": "s3cret"}
        await workflows.replace_workflow(ctx, admin, "w", "demo", body)
        text = await export(ctx, admin, "demo")
        assert "#   X_" in text or "PASSWORD: Workflow/w" in text
        kinds = [document.kind for document in read_text(text).documents]
        assert "User" not in kinds


PLUGIN = """\
system:
  plugins:
    greet:
      version: "1"
      cmds: [/bin/sh, -c]
      args: ["echo $(inputs.WORD) to $(inputs.WHOM)"]
      inputs:
        - { name: WORD, type: choice, choice_option: [hello, bye], default: hello }
        - { name: WHOM, is_credential: true }
project: { key: shop }
workflows:
  p:
    stages:
      - name: s
        jobs:
          - name: say
            type: plugin
            plugin: greet
            timeout: 5m
            inputs: { WHOM: { value: "${WHOM}", secret: true } }
"""


async def test_a_job_takes_a_plugin_by_name(world: World) -> None:
    async def applied(text: str) -> dict[str, str]:
        prepared = prepare([Source("", text)], environment={"WHOM": "you-in-clear"})
        assert not prepared.faults, [str(fault) for fault in prepared.faults]
        done = await apply(world.ctx, world.actor(), prepared)
        return {f"{one.kind}/{one.name}": one.error or one.action for one in done.results}

    assert (await applied(PLUGIN))["Workflow/p"] == "created"
    assert set((await applied(PLUGIN)).values()) == {"unchanged"}
    row = await world.db.read(lambda tx: tx.workflows.find("p"))
    plugin = msgspec.json.decode(row.definition)["stages"][0]["jobs"][0]["spec"]["plugin"]
    assert (plugin["name"], plugin["version"], plugin["cmds"]) == ("greet", "1", ["/bin/sh", "-c"])
    assert [one["name"] for one in plugin["inputs"]] == ["WORD", "WHOM"]
    assert "in-clear" not in row.definition

    number = await world.start("p", jobs=["say"])
    assert (await world.done("p", number)).row.status == "passed"
    assert "hello to ********" in world.log("p", number, "say")

    found = await applied(PLUGIN.replace('version: "1"', 'version: "2"'))
    assert found == {"Plugin/greet": "updated", "Project/shop": "unchanged", "Workflow/p": "updated"}
    text = await export(world.ctx, world.actor(), "shop")
    assert "$(inputs.WORD)" in text.replace("$$", "$")
    prepared = prepare([Source("", text)], unset_secret="********")
    assert {one.action for one in (await apply(world.ctx, world.actor(), prepared)).results} == {"unchanged"}

    assert (
        "plugin 'geet' is not known" in (await applied(PLUGIN.replace("plugin: greet", "plugin: geet")))["Workflow/p"]
    )
    unknown = (await applied(PLUGIN.replace("inputs: { WHOM", "inputs: { WHO")))["Workflow/p"]
    assert unknown.endswith("input of plugin greet 'WHO' is not known")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("type: choice", "type: pick", "type of WORD must be one of"),
        ("is_credential: true", "is_credential: true, default: x", "WHOM is a credential"),
        ("name: WHOM", "name: WORD", "WORD stands there twice"),
        ("cmds: [/bin/sh, -c]", "category: x", "image and cmds cannot both be empty"),
        ("cmds:", "cmd:", "did you mean 'cmds'?"),
    ],
)
def test_mistakes_of_plugins(old: str, new: str, fault: str) -> None:
    found = prepare([Source("", PLUGIN.replace(old, new))], environment={"WHOM": "x"}).faults
    assert any(fault in str(one) for one in found), [str(one) for one in found]


async def test_limits_and_retention_are_settings_of_files(world: World) -> None:
    ctx, admin = world.ctx, world.actor()
    text = "system: { settings: { engine.max_running_tasks: 3, retention.max_days: 30, language: en } }"

    async def set_here() -> dict[str, int]:
        return {one.name: one.value for one in await system_settings.live_settings(ctx, admin) if one.live}

    done = await apply(ctx, admin, read_text(text))
    assert {one.action for one in done.results} == {"created"}
    assert done.warnings == ("Setting/language: takes effect when the server starts again",)
    assert await set_here() == {"engine.max_running_tasks": 3, "retention.max_days": 30}
    assert {one.action for one in (await apply(ctx, admin, read_text(text))).results} == {"unchanged"}
    text = text.replace("tasks: 3", "tasks: 4")
    done = await apply(ctx, admin, read_text(text), Order(with_diff=True, dry_run=True))
    assert "-value: '3'\n+value: '4'\n" in "".join(one.diff for one in done.results)
    assert (await set_here())["engine.max_running_tasks"] == 3
    done = await apply(ctx, admin, read_text(text.replace("tasks: 4", "tasks: 0")))
    assert any("must be 1 to" in one.error for one in done.results)
    done = await apply(ctx, admin, read_text("system: { settings: { language: en } }"), Order(prune=True))
    assert await set_here() == {}, "the configuration counts again"
    for bad in ("engine.max_runing: 3", "engine.max_running_tasks: many"):
        with pytest.raises(Invalid, match=r"setting|whole number"):
            read_text(f"system: {{ settings: {{ {bad} }} }}")
    with pytest.raises(Forbidden):
        await apply(ctx, world.actor("ann"), read_text(text))


def test_files_know_all_settings_that_are_changed_while_servers_work() -> None:
    assert set(LIVE_SETTINGS) == {*system_settings.LIMITS, *KEEPING}


def test_the_faults_of_a_text_are_told_within_bounds() -> None:
    with pytest.raises(Invalid) as caught:
        read_text("{" + ", ".join(f"k{number}: 1" for number in range(1_000)) + "}")
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (201, "and 800 more")
