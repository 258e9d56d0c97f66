"""Job type ``plugin``: inputs, the command that comes of them, and real runs."""

from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Invalid, InvalidDefinition, NotStartable
from cador.jobs.base import JobTaskPlan
from cador.jobs.rules import check_workflow
from jobs.running import TYPES, Ended, World, one_job, run_folder

INPUTS = [
    {"name": "WHO", "value": "x", "default": "nobody"},
    {"name": "KEY", "value": "sealed:k3y", "is_credential": True},
    {"name": "EMPTY", "value": "", "default": "by default"},
    {"name": "MANY", "type": "multi-select", "value": "", "choice_value": ["a", "b"], "choice_option": ["a", "b", "c"]},
]


@pytest.fixture
def world() -> World:
    return World()


def spec(*, cmds: Any = ("/bin/sh", "-c"), args: Any = (), **plugin: Any) -> dict[str, Any]:
    base = {"name": "hi", "image": "alpine", "cmds": list(cmds), "args": list(args), "inputs": INPUTS}
    return {"plugin": {**base, **plugin}, "properties": {"timeout": 7, "res_req": "low"}}


def planned(world: World, given: dict[str, str] | None = None, **plugin: Any) -> JobTaskPlan:
    kv = [{"key": key, "value": value} for key, value in (given or {}).items()]
    [plan] = world.expand(one_job("plugin", spec(**plugin)), {"job": {"kv": kv}})["job"]
    return plan


def ran(world: World, folder: Path, given: dict[str, str] | None = None, **plugin: Any) -> Ended:
    return run_folder(world.compile("plugin", planned(world, given, **plugin)), folder)


def test_inputs_and_what_the_detail_shows(world: World) -> None:
    args = ["echo $(inputs.WHO) $(inputs.KEY) $(inputs.NO) $(inputs.EMPTY) $(inputs.MANY)"]
    plan = planned(world, {"WHO": "you", "KEY": "new", "Z": ""}, args=args, version=None)
    assert [item["value"] for item in plan.plan["inputs"]] == ["you", "sealed:new", "by default", "a,b"]
    assert (plan.name, plan.key, plan.timeout_s) == ("job", "job", 420)
    assert world.warnings == ["job job: the plugin has no input Z"]
    view = TYPES["plugin"].view(plan.plan, {}, {}, False)
    assert view["args"] == ["echo you ******** $(inputs.NO) by default a,b"]
    assert view["cmds"] == ["/bin/sh", "-c"]
    assert "limits" not in view
    assert (view["is_offical"], view["outputs"], view["version"], view["name"]) == (False, [], "", "hi")


def test_a_value_that_was_sent_empty_stays_empty_and_a_mask_keeps_the_secret(world: World) -> None:
    plan = planned(world, {"WHO": "", "EMPTY": "", "KEY": "********"})
    assert [item["value"] for item in plan.plan["inputs"]] == ["", "sealed:k3y", "", "a,b"]
    assert [item["value"] for item in planned(world).plan["inputs"]] == ["x", "sealed:k3y", "by default", "a,b"]
    plan = planned(world, {"MANY": ""}, args=["[$(inputs.MANY)]"])
    assert TYPES["plugin"].view(plan.plan, {}, {}, False)["args"] == ["[]"], "nothing of the choices that are stored"


def test_times(world: World) -> None:
    for minutes, seconds in ((0, 36_000), (-1, 36_000), (3, 180)):
        definition = one_job("plugin", {**spec(), "properties": {"timeout": minutes}})
        assert world.expand(definition, {"job": {}})["job"][0].timeout_s == seconds
    newer = {"plugin": {"cmds": ["true"]}, "advanced_setting": {"timeout": 2, "res_req": "high"}}
    [plan] = world.expand(one_job("plugin", newer), {"job": {}})["job"]
    assert (plan.timeout_s, plan.plan["limits"]["cpu_milli"]) == (120, 16_000)
    [plan] = world.expand(one_job("plugin", {"plugin": {}}), {"job": {}})["job"]
    assert (plan.timeout_s, plan.plan["limits"]["cpu_milli"]) == (36_000, 2_000)


def test_the_image_is_named_as_not_used(world: World) -> None:
    notes: list[str] = []
    definition = one_job("plugin", spec())
    scope = world.scope(definition)
    job = definition.job("job")
    assert job is not None
    object.__setattr__(scope, "note", notes.append)
    TYPES["plugin"].expand(TYPES["plugin"].update(job, {"kv": [{"key": "MANY", "value": "a,z"}]}, scope), scope)
    assert notes == [
        "job job: the value of MANY is none of its options",
        "job job: the image alpine is not used: plugins run as processes of this host",
    ]
    assert world.warnings == []


@pytest.mark.parametrize("args", [[], ["--flag"]])
def test_a_plugin_without_a_command_needs_its_image(world: World, args: list[str]) -> None:
    plan = planned(world, cmds=[], args=args)
    with pytest.raises(Invalid, match="the entrypoint of its image would run: that needs a container executor"):
        world.compile("plugin", plan)


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        ("x", "plugin must be an object"),
        ({"cmds": "sh -c"}, "plugin.cmds must be a list of strings"),
        ({"args": [1]}, "plugin.args must be a list of strings"),
        ({"envs": ["A=1"]}, "plugin.envs must be a list of objects"),
        ({"inputs": {}}, "plugin.inputs must be a list of objects"),
    ],
)
def test_wrong_shapes(plugin: Any, reason: str) -> None:
    with pytest.raises(InvalidDefinition, match=f"^job job: {reason}$"):
        check_workflow(one_job("plugin", {"plugin": plugin}), TYPES)


def test_arguments_reach_the_program_as_they_are(world: World, tmp_path: Path) -> None:
    """No shell reads them: whatever is in a value stays one argument."""
    odd = "a  b; $(touch pwned) `id` \"'\\ \n* $HOME ~"
    show = ["printf", "<%s>\\n", "$(inputs.WHO)", "", "-n", "$HOME", "x $(inputs.WHO)"]
    ended = ran(world, tmp_path, {"WHO": odd}, cmds=show)
    assert f"<{odd}>\n<>\n<-n>\n<$HOME>\n<x {odd}>\n" in ended.log
    assert "the image alpine is not used" in ended.log
    assert ended.files == {}


def test_environment_and_outputs(world: World, tmp_path: Path) -> None:
    envs = [
        {"name": "GREETING", "value": "hi $(inputs.WHO) {KEY}"},
        {"name": "PROJECT", "value": "its own"},
        {"name": "odd.name", "value": "o"},
        {"name": "WORKSPACE", "value": "/elsewhere"},
        {"name": "INTO", "value": "/zadig/results/THIRD"},
    ]
    script = (
        'env; printf one >/zadig/results/FIRST; printf two >"$RESULTS_DIR/SECOND"; printf three >"$INTO"; '
        "echo not /opt/zadig/results nor /zadig/results2"
    )
    outputs = [{"name": name} for name in ("FIRST", "SECOND", "THIRD", "NEVER")]
    folder = world.compile("plugin", planned(world, cmds=("bash", "-c"), args=[script], envs=envs, outputs=outputs))
    ended = run_folder(folder, tmp_path)
    assert ended.exit_code == 0, ended.log
    assert ended.outputs == {"FIRST": "one", "SECOND": "two", "THIRD": "three"}
    env = dict(line.split("=", 1) for line in ended.log.splitlines() if "=" in line)
    assert (env["GREETING"], env["PROJECT"], env["odd.name"]) == ("hi x {KEY}", "its own", "o")
    assert (env["CI"], env["ZADIG"], env["WORKFLOW"], env["TASK_ID"]) == ("true", "true", "ship", "26")
    assert env["WORKSPACE"] != "/elsewhere"
    assert "not /opt/zadig/results nor /zadig/results2" in ended.log
    concluded = TYPES["plugin"].conclude(planned(world, outputs=outputs).plan, ended.outputs, True, NothingCollected())
    assert (concluded.outputs, concluded.only_if_passed) == ({"NEVER": ""}, True)


def test_the_path_of_results_in_a_value_is_text(world: World, tmp_path: Path) -> None:
    ended = ran(world, tmp_path, {"WHO": "/zadig/results"}, cmds=["echo", "said: $(inputs.WHO)"])
    assert "said: /zadig/results\n" in ended.log


def test_secrets_are_known_and_failures_are_told(world: World, tmp_path: Path) -> None:
    inputs = [*INPUTS, {"name": "PLAIN", "value": "pl4in", "is_credential": True}]
    plan = planned(world, cmds=["false"], args=["$(inputs.KEY)"], inputs=inputs)
    folder = world.compile("plugin", plan)
    assert {"k3y", "pl4in"} <= set(folder.secrets)
    assert run_folder(folder, tmp_path / "a").exit_code == 1
    missing = ran(world, tmp_path / "b", cmds=["no-such-program-here"])
    assert missing.exit_code == 127
    assert "no-such-program-here" in missing.log
    with pytest.raises(Invalid, match="NUL"):
        world.compile("plugin", planned(world, cmds=["echo", "\0"]))


def test_inputs_that_become_longer_than_anybody_means(world: World) -> None:
    plan = planned(world, {"WHO": "x" * 1_000_000}, args=["$(inputs.WHO)"] * 40)
    assert TYPES["plugin"].view(plan.plan, {}, {}, False)["args"] == ["$(inputs.WHO)"] * 40
    with pytest.raises(NotStartable, match="longer than 32 MiB together"):
        world.compile("plugin", plan)


class NothingCollected:
    def names(self, prefix: str) -> list[str]:
        return []

    def open(self, name: str, most: int) -> bytes:
        raise AssertionError(name)
