"""From texts to documents: read, include, substitute, take files in, expand, check. Pure; files come by callbacks."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import yaml

from cador.domain.errors import Invalid
from cador.operations.declarative.documents import (
    Document,
    check_keys,
    check_models,
    check_references,
    in_order,
    read_long,
)
from cador.operations.declarative.expand import expand, is_short
from cador.operations.declarative.nodes import Misfit, Node, read_stream, resolve_plain
from cador.operations.declarative.substitution import Missing, substitute

ReadFile = Callable[[str, str], str]
"""``(beside, path)``: the text of *path*, relative to *beside*. Raises: OSError, UnicodeDecodeError, Invalid."""
MAX_FILES: Final = 1000
MAX_DEPTH: Final = 20
_FILES: Final = {"yamlFile": "yaml", "scriptFile": "script", "sqlFile": "sql"}
"""Keys that name a file -> keys its text stands under."""


@dataclass(frozen=True, slots=True)
class Source:
    """``name``: as messages call it; files are found relative to it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """``documents`` in the order of applying. With ``faults`` nothing of it may be applied."""

    documents: tuple[Document, ...]
    faults: tuple[Misfit, ...] = ()
    warnings: tuple[str, ...] = ()


def prepare(
    sources: Sequence[Source],
    *,
    environment: Mapping[str, str] | None = None,
    read_file: ReadFile | None = None,
    missing: Missing | None = None,
    plain_secrets: bool = True,
    unset_secret: str | None = None,
) -> Prepared:
    """Read *sources* into long documents. Every fault is collected, with its place.

    *environment*: what ``${NAME}`` may refer to; for *missing*, *plain_secrets* and *unset_secret* see ``substitute``.
    *read_file* None: keys that name files are faults.
    """
    work = _Work(environment or {}, read_file, missing, plain_secrets, unset_secret)
    for source in sources:
        work.take(source, ())
    documents = work.documents
    try:
        documents = in_order(documents)
    except Misfit as error:
        work.faults.append(error)
    faults = dict.fromkeys([*work.faults, *check_models(documents)])
    warnings = [] if faults else [warning for document in documents for warning in check_keys(document)]
    return Prepared(tuple(documents), tuple(faults), tuple(warnings))


def validate(prepared: Prepared) -> Prepared:
    """Also check references between the documents, see ``check_references``."""
    faults, warnings = check_references(prepared.documents)
    return replace(
        prepared, faults=(*prepared.faults, *faults), warnings=tuple(dict.fromkeys((*prepared.warnings, *warnings)))
    )


def to_wire(documents: Sequence[Document]) -> str:
    """Documents as they are sent: JSON."""
    return json.dumps([document.sent() for document in documents], ensure_ascii=False)


def to_yaml(documents: Sequence[Document]) -> str:
    """Documents as a YAML stream for people (``convert``)."""
    return dump_all([document.wire() for document in documents])


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, value: str) -> Any:
    style = None
    if "\n" in value and not any(line != line.rstrip() for line in value.split("\n")):
        style = "|"
    elif not isinstance(resolve_plain(value), str):
        style = "'"  # 09 and 1e3 are texts for the writer, numbers for readers of YAML 1.2
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump_all(values: Sequence[Any]) -> str:
    """Readable YAML: keys in their order, scripts as blocks, no aliases."""
    text: str = yaml.dump_all(
        values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False
    )
    return text


def comments(lines: Iterable[str]) -> str:
    """*lines* as comments of a YAML text. They may hold what strangers wrote: nothing in a line ends it."""
    return "".join(f"# {''.join(c if c.isprintable() else ' ' for c in line)}".rstrip() + "\n" for line in lines)


class _Work:
    def __init__(
        self,
        environment: Mapping[str, str],
        read_file: ReadFile | None,
        missing: Missing | None,
        plain_secrets: bool,
        unset_secret: str | None,
    ) -> None:
        self._environment, self._read_file = environment, read_file
        self._missing, self._plain_secrets, self._unset_secret = missing, plain_secrets, unset_secret
        self._files = 0
        self.documents: list[Document] = []
        self.faults: list[Misfit] = []

    def take(self, source: Source, above: tuple[str, ...]) -> None:
        try:
            nodes = read_stream(source.text, source.name)
        except Misfit as error:
            self.faults.append(error)
            return
        for node in nodes:
            for root in node.items if node.items is not None else [node]:
                try:
                    self._document(root, source, above)
                except Misfit as error:
                    self.faults.append(error)

    def _document(self, node: Node, source: Source, above: tuple[str, ...]) -> None:
        if node.mapping is None:
            raise Misfit("a document must be a mapping", node.mark)
        node = substitute(
            node,
            self._environment,
            missing=self._missing,
            plain_secrets=self._plain_secrets,
            unset_secret=self._unset_secret,
        )
        # after substitution: what stands in a file of its own is taken as it is
        node = self._with_files(node, source.name, {})
        if not is_short(node):
            self.documents.append(read_long(node))
            return
        node = self._with_includes(node, source, above)
        documents, faults = expand(node)
        self.documents += documents
        self.faults += faults

    def _with_includes(self, node: Node, source: Source, above: tuple[str, ...]) -> Node:
        children = dict(node.mapping or {})
        include = children.pop("include", None)
        if include is None:
            return node
        for path in include.items if include.items is not None else [include]:
            text = self._read(path, source.name, "include")
            folder = source.name.rpartition("/")[0]
            name = f"{folder}/{path.text}" if folder and not path.text.startswith("/") else path.text
            if name == source.name or name in above or len(above) >= MAX_DEPTH:
                raise Misfit(f"{path.text} includes itself", path.mark)
            self.take(Source(name, text), (*above, source.name))
        return replace(node, value=children)

    def _read(self, path: Node, beside: str, what: str) -> str:
        if self._read_file is None:
            raise Misfit(f"{what} is read by the command line: send the text itself", path.mark)
        if not isinstance(path.value, str):
            raise Misfit("must be a path", path.mark, place=what)
        self._files += 1
        if self._files > MAX_FILES:
            raise Misfit(f"more than {MAX_FILES} files", path.mark)
        try:
            return self._read_file(beside, path.value)
        except (OSError, UnicodeDecodeError, Invalid) as error:
            raise Misfit(f"cannot read {path.value}: {error}", path.mark, place=what) from error

    def _with_files(self, node: Node, beside: str, done: dict[int, Node]) -> Node:
        """The texts that ``yamlFile`` and its like name, in place. What an alias names is done once."""
        if id(node) not in done:
            done[id(node)] = self._filled(node, beside, done)
        return done[id(node)]

    def _filled(self, node: Node, beside: str, done: dict[int, Node]) -> Node:
        if node.items is not None:
            return replace(node, value=[self._with_files(child, beside, done) for child in node.items])
        if node.mapping is None:
            return node
        children: dict[str, Node] = {}
        keys = dict(node.keys)
        kind = node.mapping.get("kind")
        for key, child in node.mapping.items():
            target = _FILES.get(key)
            if target is None:
                children[key] = self._with_files(child, beside, done)
                continue
            if target in node.mapping:
                raise Misfit(f"{key!r} and {target!r} exclude each other", keys.get(key, child.mark))
            text = self._read(child, beside, key)
            children[target] = Node(text, child.mark, text)
            keys[target] = keys.get(key, child.mark)
        if kind is not None and kind.value == "Build" and "spec" in children:
            children["spec"] = _renamed(children["spec"], "script", "build_script")
        return replace(node, value=children, keys=keys)


def _renamed(node: Node, old: str, new: str) -> Node:
    """A build's script has another name in its long form; ``scriptFile`` fills it there."""
    if node.mapping is None or old not in node.mapping or new in node.mapping:
        return node
    keys = {new if key == old else key: mark for key, mark in node.keys.items()}
    return replace(node, value={new if key == old else key: child for key, child in node.mapping.items()}, keys=keys)
