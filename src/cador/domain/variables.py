"""References in the texts of a definition: ``{{.workflow.params.X}}``, ``$(inputs.X)`` and ``$K``.

Only paths whose first segment is one of :data:`ROOTS` are ours. Everything else that looks like a template
(``docker inspect -f '{{.State.Running}}'``, Helm's ``{{ .Values.x }}``) stays byte for byte, so no escape is needed.

A job's plan is rendered twice: at creation with what is known then (unknown references stay), and when the job starts
(what is still unknown becomes empty and is reported). A value that was put in by the first pass must not be taken for
a reference by the second one, so literal values are *protected*: a private-use character stands behind each of their
braces that could open a reference, also with what stands beside the value, until the second pass, or :func:`plain`,
takes it out again.

Tables map paths without braces (``workflow.task.id``) to texts. In a creation table the texts may hold live references
(a variable whose source is ``reference``); every literal in it is protected. In a start table all texts are literal.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from cador.domain.errors import NotStartable
from cador.domain.workflow import ExecutePolicy, Param, Workflow

ROOTS: Final = frozenset({"project", "workflow", "job", "payload", "parameter"})

Lookup = Callable[[str], str | None]
"""Path without braces to its value; None: not known (yet)."""

_SEGMENT: Final = r"(?:[\w-]+|<SERVICE>|<MODULE>)"
_PATH: Final = rf"(?:{'|'.join(sorted(ROOTS))})(?:\.{_SEGMENT})*"
_REFERENCE: Final = re.compile(r"\{\{[ \t]*\.(" + _PATH + r")[ \t]*\}\}")
_GUARD: Final = "\ue001"
_GUARDED: Final = "{" + _GUARD
_OPENING: Final = re.compile(r"\{(?=\{|[ \t]*\Z)|\A\{(?=[ \t]*\.)")
"""Braces of a value that are, or with a neighbour could be, part of the opening of a reference."""
_REFERENCE_OR_GUARDED: Final = re.compile(_REFERENCE.pattern + "|" + re.escape(_GUARDED))
_INPUT: Final = re.compile(r"\$\(inputs\.([^()\s]+)\)")
_DEEPEST: Final = 100
MOST_PUT_IN: Final = 32 << 20
"""Characters that are put in for references, of a start or of a job."""
_NO_TEXT: Final = frozenset({"repo", "file"})
"""Types of workflow variables that have no value as text."""


def references(text: str) -> list[str]:
    """Paths of all references of ours in *text*, in order, repetitions included."""
    return [match[1] for match in _REFERENCE.finditer(text)]


def protect(value: str) -> str:
    """*value* as a literal of a creation table: nothing in it is a reference, whatever it looks like."""
    return _OPENING.sub(_GUARDED, value.rstrip("\r\n"))


def plain(doc: Any) -> Any:
    """*doc* as people should see it between the two passes: without protection."""
    return _walk(doc, "", lambda text, place: text.replace(_GUARDED, "{"))


def bounded(lookup: Lookup) -> Lookup:
    """*lookup* for one start, or for one job: a few lines can refer to a large value very often, and to each other.

    What it returns raises NotStartable: all values together are longer than anybody means.
    """
    left = MOST_PUT_IN

    def found(path: str) -> str | None:
        nonlocal left
        value = lookup(path)
        left -= len(value or "")
        if left < 0:
            raise NotStartable(f"the values of references are longer than {MOST_PUT_IN >> 20} MiB together")
        return value

    return found


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A reference that became empty. *place*: dotted path in the document (``steps.0.spec.script``)."""

    place: str
    path: str

    def __str__(self) -> str:
        return f"{{{{.{self.path}}}}} has no value" + (f" ({self.place})" if self.place else "")


def render_text(text: str, lookup: Lookup, *, final: bool = False, missing: Callable[[str], None] | None = None) -> str:
    """Replace the references in *text* in one pass: values are never rendered again.

    Unknown references stay; with *final* they become empty (*missing* hears of each) and protection is taken off.
    """
    if "{" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        path = match[1]
        if path is None:
            return "{"
        found = lookup(path)
        if found is not None:
            return found.rstrip("\r\n")
        if not final:
            return match[0]
        if missing is not None:
            missing(path)
        return ""

    return (_REFERENCE_OR_GUARDED if final else _REFERENCE).sub(value, text)


def render(doc: Any, lookup: Lookup, *, final: bool = False) -> tuple[Any, tuple[Unresolved, ...]]:
    """Render every string of a JSON document (keys are left alone); see :func:`render_text`.

    Returns the new document and, with *final*, what had no value: each path once, with the first place it stands at.
    """
    found: dict[str, Unresolved] = {}

    def text(value: str, place: str) -> str:
        def missing(path: str) -> None:
            found.setdefault(path, Unresolved(place, path))

        return render_text(value, lookup, final=final, missing=missing)

    return _walk(doc, "", text), tuple(found.values())


def for_service(doc: Any, service: str, module: str) -> Any:
    """Put *service* and *module* in the places of ``<SERVICE>`` and ``<MODULE>`` inside references. Braces in
    them, which may come with a start, would end one reference and begin another: they are left out."""
    service, module = (name.replace("{", "").replace("}", "") for name in (service, module))

    def text(value: str, place: str) -> str:
        return _REFERENCE.sub(lambda match: match[0].replace("<SERVICE>", service).replace("<MODULE>", module), value)

    return _walk(doc, "", text)


def _walk(doc: Any, place: str, change: Callable[[str, str], str]) -> Any:
    match doc:
        case str():
            return change(doc, place)
        case Mapping():
            return {key: _walk(value, f"{place}.{key}" if place else str(key), change) for key, value in doc.items()}
        case list() | tuple():
            return [_walk(value, f"{place}.{n}" if place else str(n), change) for n, value in enumerate(doc)]
        case _:
            return doc


def settle(table: Mapping[str, str], what: str = "variables") -> dict[str, str]:
    """Resolve references among the entries of a creation table, in dependency order.

    Raises: NotStartable: entries refer to each other; the message names the whole cycle by their last segments. Or one
    leads to another for longer than anybody follows.
    """
    done: dict[str, str] = {}
    trail: list[str] = []

    def value(path: str) -> str | None:
        if path in done:
            return done[path]
        if path not in table:
            return None
        if path in trail:
            cycle = [*trail[trail.index(path) :], path]
            raise NotStartable(f"{what} reference each other: " + " -> ".join(p.rpartition(".")[2] for p in cycle))
        if len(trail) == _DEEPEST:
            raise NotStartable(
                f"{what} reference each other more than {_DEEPEST} deep: {trail[0].rpartition('.')[2]} -> ..."
            )
        trail.append(path)
        done[path] = render_text(table[path], put_in)
        trail.pop()
        return done[path]

    put_in = bounded(value)
    for path in table:
        value(path)
    return done


# -- what is known at creation


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What references may ask about the task that is being created.

    ``number``: as text, the placeholder of job plans while it is not known. ``at``: Unix seconds; ``local``: the same
    in the server's time zone. ``url``: of the task. ``payload``: of the event that started it, flattened: path below
    ``payload`` to text.
    """

    number: str
    at: float
    local: datetime
    creator: str
    creator_account: str = ""
    creator_id: str = ""
    project_name: str = ""
    url: str = ""
    payload: Mapping[str, str] = field(default_factory=dict)


def task_url(base_url: str, project: str, workflow: str, number: str, display_name: str) -> str:
    """Address of a task for people. Source: engine contract, ``workflow.task.url``."""
    return (
        f"{base_url.rstrip('/')}/v1/projects/detail/{quote(project, safe='')}/pipelines/custom/"
        f"{quote(workflow, safe='')}/{number}?display_name={quote(display_name, safe='')}"
    )


def creation_variables(
    workflow: Workflow,
    params: Sequence[Param],
    task: TaskFacts,
    *,
    given: AbstractSet[str] = frozenset(),
) -> dict[str, str]:
    """The table for the first pass. *params*: with the values of this start; *given*: names of those whose value came
    with the start request. Credentials are not in it: they are resolved when the job starts (:func:`credentials`).

    Raises: NotStartable: ``workflow params reference each other: a -> b -> a``.
    """
    literal = {
        "project": workflow.project,
        "project.id": workflow.project,
        "project.name": task.project_name or workflow.project,
        "workflow.name": workflow.key,
        "workflow.id": workflow.key,
        "workflow.display_name": workflow.display_name,
        "workflow.task.id": task.number,
        "workflow.task.creator": task.creator,
        "workflow.task.creator.id": task.creator_account,
        "workflow.task.creator.userId": task.creator_id,
        "workflow.task.timestamp": str(int(task.at)),
        "workflow.task.datetime": task.local.strftime("%Y-%m-%d %H:%M:%S"),
        "workflow.task.url": task.url,
        "workflow.task.is_release_plan_trigger": "false",
        **{f"payload.{path}": value for path, value in task.payload.items()},
    }
    table = {path: protect(value) for path, value in literal.items()}
    for param in params:
        if param.is_credential:
            continue
        path = f"workflow.params.{param.name}"
        if param.type == "repo" and param.repo:
            table |= {
                f"{path}.{name}": protect(str(param.repo[key]))
                for name, key in (("branch", "branch"), ("tag", "tag"), ("commit_id", "commit_id"))
                if param.repo.get(key)
            }
        elif param.type not in _NO_TEXT:
            table[path] = param.value if _refers(param, given) else protect(param.value)
    return settle(table, "workflow params")


def credentials(params: Iterable[Param]) -> dict[str, str]:
    """Entries of credential params for the second pass, values sealed as stored."""
    return {
        f"workflow.params.{param.name}": param.value
        for param in params
        if param.is_credential and param.type not in _NO_TEXT
    }


def _refers(param: Param, given: AbstractSet[str]) -> bool:
    """Whether the value is an expression of the definition's author. What a caller typed in is text."""
    if param.source == "reference":
        return True
    return param.source != "fixed" and param.name not in given and bool(references(param.value))


def settled_params(params: Sequence[Param], table: Mapping[str, str]) -> dict[str, str]:
    """Values of the workflow variables for the environment of jobs, to be rendered when a job starts: references among
    them resolved, literals protected, credentials sealed. Variables of type repo and file are left out."""
    values = {}
    for param in params:
        if param.type in _NO_TEXT:
            continue
        known = None if param.is_credential else table.get(f"workflow.params.{param.name}")
        values[param.name] = param.value if known is None else known
    return values


# -- what is known when a job starts


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job task as later ones may refer to it. ``job``: name in the definition; ``status``: final, ``""`` before."""

    key: str
    job: str
    status: str = ""
    start_at: float | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)


def job_variables(rows: Iterable[JobFacts]) -> dict[str, str]:
    """The table for the second pass, from all job tasks of the task in order of fan-out. Values are literal."""
    table: dict[str, str] = {}
    images: dict[str, list[str]] = {}
    for row in rows:
        table |= {f"job.{row.key}.output.{name}": value for name, value in row.outputs.items()}
        if row.status:
            table[f"job.{row.key}.status"] = row.status
        if row.start_at is not None:
            table[f"job.{row.key}.util.startTime"] = str(int(row.start_at))
        if image := row.outputs.get("IMAGE"):
            images.setdefault(row.job, []).append(image)
    return {**table, **{f"job.{job}.IMAGES": ",".join(names) for job, names in images.items()}}


_VERBS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "=": lambda field, value: field == value,
    "!=": lambda field, value: field != value,
    "begins_with": lambda field, value: field.startswith(value),
    "not_begins_with": lambda field, value: not field.startswith(value),
    "ends_with": lambda field, value: field.endswith(value),
    "not_ends_with": lambda field, value: not field.endswith(value),
    "contains": lambda field, value: value in field,
    "not_contains": lambda field, value: value not in field,
}


def may_run(policy: ExecutePolicy, render: Callable[[str], str]) -> bool:
    """Whether a job runs at all. *render* gives a text its final form (unknown references empty).

    Comparison is of texts and case-sensitive; an unknown verb never matches; no rules or an unknown type: run.
    """
    if not policy.rules or policy.type not in ("execute", "skip"):
        return True
    results = [verb in _VERBS and _VERBS[verb](render(field), render(value)) for field, verb, value in policy.rules]
    matched = any(results) if policy.match_rule == "any" else all(results)
    return matched == (policy.type == "execute")


# -- the two other syntaxes


def expand_inputs(doc: Any, lookup: Lookup) -> Any:
    """``$(inputs.X)`` of plugins, in every string of *doc*; unknown names stay."""

    def value(match: re.Match[str]) -> str:
        found = lookup(match[1])
        return match[0] if found is None else found

    return _walk(doc, "", lambda text, place: _INPUT.sub(value, text))


def expand_shell_names(text: str, env: Mapping[str, str]) -> str:
    """``$K``, ``${K}``, ``%K%`` and ``$env:K`` in fields of the configuration (paths, build arguments), not in scripts.

    Longest name first, so that ``$SERVICE_NAME`` is not taken for ``$SERVICE``; at most two passes, for nested values.
    Unknown names stay. Raises: NotStartable: the values are longer than :data:`MOST_PUT_IN` together.
    """
    names = "|".join(re.escape(name) for name in sorted(filter(None, env), key=len, reverse=True))
    if not names:
        return text
    pattern = re.compile(rf"\$\{{({names})\}}|\$env:({names})|\$({names})|%({names})%")
    lookup = bounded(env.get)
    for _ in range(2):
        text, count = pattern.subn(lambda match: lookup(next(filter(None, match.groups()))) or "", text)
        if not count:
            break
    return text
