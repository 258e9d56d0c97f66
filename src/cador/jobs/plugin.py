"""Job type ``plugin`` ("custom task"): one program that its definition describes. Source: API documents, "Execute the
Workflow", ``plugin``.

A plugin is meant as a container: an image, a command, arguments. Here it runs as a process of the host: ``cmds`` and
``args`` are one command, started without a shell in between, ``image`` is not used, and the folder that containers see
as ``/zadig/results`` is the job's own (``$RESULTS_DIR``): where the definition writes that path, the job's folder is
put in its place. A program that has the path built in finds no such folder.
"""

import re
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any, Final

from pydantic import Field

from cador.domain.errors import Invalid, InvalidDefinition, NotStartable
from cador.domain.masking import MASK
from cador.domain.variables import Lookup, bounded, expand_inputs
from cador.domain.workflow import Job, Workflow
from cador.jobs.base import Collected, Conclusion, Doc, JobTaskPlan, Run, Scope
from cador.jobs.environment import RESERVED
from cador.jobs.sandbox import SandboxType, limits, output_names, timeout_s
from cador.jobs.values import Input, KeyInput, mapping, objects, parse, text, texts
from cador.ports.executor import FolderStep, JobFolder, Limits

Object = dict[str, Any]
ENTRYPOINT: Final = (
    "the plugin names no command (cmds), so the entrypoint of its image would run: "
    "that needs a container executor, which this server does not have"
)
_TEXTS: Final = ("name", "description", "repo_url", "version", "image")
_LISTS: Final = ("args", "cmds", "envs", "inputs", "outputs")
_RESULTS: Final = re.compile(r"(?<![\w./-])/zadig/results(?![\w.-])")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PluginInput(Input):
    kv: list[KeyInput] = Field(default_factory=list)


class Plugin(SandboxType):
    name = "plugin"

    def check(self, job: Job, workflow: Workflow) -> None:
        plugin = job.spec.get("plugin")
        if plugin is not None and not isinstance(plugin, Mapping):
            raise InvalidDefinition(f"job {job.name}: plugin must be an object")
        for key in _LISTS:
            kind: type = str if key in ("args", "cmds") else Mapping
            entries = mapping(plugin).get(key)
            if entries is not None and not (isinstance(entries, list) and all(isinstance(e, kind) for e in entries)):
                what = "strings" if kind is str else "objects"
                raise InvalidDefinition(f"job {job.name}: plugin.{key} must be a list of {what}")

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        """``kv`` sets inputs by name. One that is empty and was not sent has its default."""
        given = {item.key: item.value for item in parse(PluginInput, parameters).kv}
        plugin = dict(mapping(job.spec.get("plugin")))
        inputs = []
        for item in objects(plugin.get("inputs")):
            value = given.pop(text(item.get("name")), None)
            if value is None or (value == MASK and item.get("is_credential") is True):
                value = _stored(item)
            else:
                value = self._given(item, value, job.name, scope)
            inputs.append({**item, "value": value})
            if item.get("type") == "multi-select" and item.get("is_credential") is not True:
                inputs[-1]["choice_value"] = value.split(",") if value else []
        for name in given:
            scope.warn(f"job {job.name}: the plugin has no input {name}")
        return {**job.spec, "plugin": {**plugin, "inputs": inputs}}

    def _given(self, item: Doc, value: str, job: str, scope: Scope) -> str:
        kind, options = item.get("type"), texts(item.get("choice_option"))
        chosen = value.split(",") if kind == "multi-select" and value else [value]
        if kind in ("choice", "multi-select") and options and any(one not in options for one in chosen):
            scope.note(f"job {job}: the value of {text(item.get('name'))} is none of its options")
        return scope.seal(value) if item.get("is_credential") is True else value

    def expand(self, job: Job, scope: Scope) -> list[JobTaskPlan]:
        plugin = mapping(job.spec.get("plugin"))
        properties = _properties(job.spec)
        plan: Object = {
            **dict.fromkeys(_TEXTS, ""),
            **{key: [] for key in _LISTS},
            "is_offical": False,
            **{key: value for key, value in plugin.items() if value is not None},
            "limits": limits(properties.get("res_req"), properties.get("res_req_spec")),
        }
        scope.note(f"job {job.name}: {_unused(plan)}")
        return [
            JobTaskPlan(
                name=job.name,
                key=job.name,
                display_name=job.name,
                timeout_s=timeout_s(properties.get("timeout")),
                plan=plan,
                info={"job_name": job.name},
            )
        ]

    def compile(self, plan: Doc, run: Run) -> JobFolder:
        inputs = objects(plan["inputs"])
        values = {text(item.get("name")): run.open(_value(item)) for item in inputs}
        lookup = bounded(values.get)
        hidden = [values[text(item.get("name"))] for item in inputs if item.get("is_credential") is True]
        if not plan["cmds"]:
            raise Invalid(ENTRYPOINT)
        words = [text(word) for word in (*plan["cmds"], *plan["args"])]
        env: dict[str, str] = {
            "CI": "true",
            "ZADIG": "true",
            "PROJECT": run.project,
            "WORKFLOW": run.workflow,
            "TASK_ID": str(run.number),
            "TASK_URL": run.task_url,
        }
        lines = [f"printf '%s\\n' {quote(_unused(plan))}"]
        for name, template in _variables(plan):
            value = run.open(template)
            if _RESULTS.search(value) and _VARIABLE.fullmatch(name):
                lines.append(f"export {name}={_word(value, lookup)}")
            env[name] = str(expand_inputs(value, lookup))
        lines.append("exec " + " ".join(_word(word, lookup) for word in words))
        if any("\0" in one for one in (*lines, *env.values())):
            raise Invalid("a value of the plugin holds a NUL character")
        # dash drops variables whose names it could not set itself
        shell = "/bin/sh" if all(map(_VARIABLE.fullmatch, env)) else "bash"
        step = FolderStep(text(plan["name"]) or self.name, self.name, "\n".join([*lines, ""]), interpreter=(shell,))
        return JobFolder(
            steps=(step,),
            env=env,
            secrets=tuple(dict.fromkeys(filter(None, (*run.secrets(), *hidden)))),
            outputs=tuple(output_names(plan["outputs"])),
            image=text(plan["image"]),
            limits=Limits(**plan["limits"]),
        )

    def conclude(self, plan: Doc, outputs: Mapping[str, str], passed: bool, collected: Collected) -> Conclusion:
        """An output that was declared and not written is empty."""
        missing = {name: "" for name in output_names(plan["outputs"]) if name not in outputs}
        return Conclusion(outputs=missing, only_if_passed=True)

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        values = {
            text(item.get("name")): MASK if item.get("is_credential") is True else _value(item)
            for item in objects(plan.get("inputs"))
        }
        shown = {key: value for key, value in plan.items() if key != "limits"}
        lookup = bounded(values.get)
        try:
            return {**shown, **{key: expand_inputs(plan[key], lookup) for key in ("args", "cmds", "envs")}}
        except NotStartable:  # it never ran: as it is written
            return shown


def _properties(spec: Doc) -> Mapping[str, Any]:
    """``properties`` of the documents win over ``advanced_setting`` of newer definitions."""
    return mapping(spec.get("properties")) or mapping(spec.get("advanced_setting"))


def _unused(plan: Doc) -> str:
    return f"the image {text(plan['image']) or 'of the plugin'} is not used: plugins run as processes of this host"


def _stored(item: Doc) -> str:
    """The value of the definition, else its default."""
    return _value(item) or text(item.get("default"))


def _value(item: Doc) -> str:
    """The value of an input; that of a multi-select is what is chosen, joined by commas."""
    value = text(item.get("value"))
    if not value and item.get("type") == "multi-select":
        value = ",".join(texts(item.get("choice_value")))
    return value


def _variables(plan: Doc) -> Iterator[tuple[str, str]]:
    for item in objects(plan["envs"]):
        name = text(item.get("name"))
        if name and "=" not in name and "\0" not in name and name not in RESERVED and not name.startswith("CADOR_"):
            yield name, text(item.get("value"))


def _word(template: str, lookup: Lookup) -> str:
    """*template* with its inputs put in, as one word of the shell that nothing in it can change; the results folder of
    containers becomes that of the job. Only where the definition names it: in a value it is text like any other."""
    return '"$RESULTS_DIR"'.join(quote(str(expand_inputs(part, lookup))) for part in _RESULTS.split(template))


PLUGIN: Final = Plugin()
