"""YAML text to a tree that remembers where each value stood.

Read is the core of YAML 1.2: ``true`` and ``false`` are the only booleans (a key ``on`` is the text ``on``), ``012`` is
no octal number and ``12:30`` no count of seconds. A mapping's keys are texts. Aliases share one node, so a document is
never larger in memory than it was written; how large it would be written out is limited, too.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

import yaml

from cador.domain.errors import Invalid

MAX_BYTES: Final = 10 * 1024 * 1024
MAX_DEPTH: Final = 100
MAX_NODES: Final = 300_000
"""Values and keys of a stream as written: reading that many takes seconds and some 200 MB."""
MAX_WEIGHT: Final = 2 * MAX_BYTES
"""Characters and nodes of a stream with all its aliases written out."""

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_INT: Final = re.compile(r"[-+]?[0-9]{1,4000}\Z")
_BASED: Final = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_TAG: Final = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text; line and column count from 1. Line 0: nowhere in particular."""

    line: int = 0
    column: int = 0
    file: str = ""

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.file else f"line {self.line}, column {self.column}"


NOWHERE: Final = Mark()


@dataclass(slots=True)
class Node:
    """A scalar, a mapping of nodes or a list of nodes. ``text``: a scalar as written. ``keys``: where each key stands.

    ``fixed``: of a document, its references are replaced; what looks like one now is meant as it stands. ``filled``: of
    a scalar, it held references. ``height``: how many levels are below it, those of aliases included.
    """

    value: Any
    mark: Mark
    text: str = ""
    keys: Mapping[str, Mark] = field(default_factory=dict)
    fixed: bool = False
    filled: bool = False
    height: int = 0

    @property
    def mapping(self) -> dict[str, "Node"] | None:
        return self.value if isinstance(self.value, dict) else None

    @property
    def items(self) -> "list[Node] | None":
        return self.value if isinstance(self.value, list) else None


class Misfit(Invalid):
    """Something in a declarative file is wrong. ``mark``: where; ``problem``: what, without the place."""

    def __init__(self, problem: str, mark: Mark, *, place: str = "") -> None:
        where = ": ".join(part for part in (str(mark), place) if part)
        super().__init__(f"{where}: {problem}" if where else problem, place=place)
        self.problem, self.mark = problem, mark


def unknown_key(key: str, known: Iterator[str] | list[str] | tuple[str, ...], mark: Mark, place: str) -> Misfit:
    """The error for *key*, naming the nearest of *known*."""
    near = get_close_matches(key, list(known), n=1, cutoff=0.6)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return Misfit(f"unknown key {key!r}{hint}", mark, place=place)


def read_stream(text: str, file: str = "") -> list[Node]:
    """The documents of a YAML (or JSON) stream; empty ones are left out.

    Raises: Misfit: not YAML, a key twice, too deep, too large, an alias inside what it names, a tag of another type.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise Misfit(f"the text is larger than {MAX_BYTES // 1024 // 1024} MiB", Mark(file=file))
    try:
        loader = yaml.CSafeLoader(text)
        try:
            documents = list(_Builder(loader, file).documents())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        mark = Mark(at.line + 1, at.column + 1, file) if at else Mark(file=file)
        raise Misfit(f"this is not YAML: {error.problem or error.context}", mark) from error
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise Misfit(f"this is not YAML: {str(error).splitlines()[0]}", Mark(file=file)) from error
    weigh = _Weight(file)
    if sum(map(weigh, documents)) > MAX_WEIGHT:
        raise Misfit("the text is too large with its aliases written out", Mark(file=file))
    return documents


def plain(node: Node) -> Any:
    """The value without its places."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def find_mark(node: Node | None, path: tuple[str | int, ...]) -> Mark:
    """Where the value (or else the nearest thing around it) under *path* stands."""
    if node is None:
        return Mark()
    mark = node.mark
    for part in path:
        if isinstance(node.value, dict) and isinstance(part, str) and part in node.value:
            mark = node.keys.get(part, mark)
            node = node.value[part]
        elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.mark
        else:
            break
    return mark


class _Weight:
    """Size of a node with all aliases written out; each node is counted once, whatever shares it."""

    def __init__(self, file: str) -> None:
        self._known: dict[int, int] = {}
        self._file = file

    def __call__(self, node: Node) -> int:
        known = self._known.get(id(node))
        if known is None:
            if isinstance(node.value, dict):
                known = 1 + sum(1 + len(key) + self(child) for key, child in node.value.items())
            elif isinstance(node.value, list):
                known = 1 + sum(map(self, node.value))
            else:
                known = 1 + len(node.text)
            self._known[id(node)] = known
        return known


class _Builder:
    """Builds nodes from parse events, without recursion: depth is checked before it can hurt."""

    def __init__(self, loader: Any, file: str) -> None:
        self._loader = loader
        self._file = file
        self._anchors: dict[str, Node] = {}
        self._open: list[tuple[Node, str]] = []
        self._key: list[tuple[str, Mark, bool] | None] = []
        self._merges: dict[int, list[Node]] = {}
        self._count = self._merged = 0

    def documents(self) -> Iterator[Node]:
        while self._loader.check_event():
            event = self._loader.get_event()
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                root = self._document()
                if root.value is not None:
                    yield root

    def _mark(self, event: Any) -> Mark:
        return Mark(event.start_mark.line + 1, event.start_mark.column + 1, self._file)

    def _document(self) -> Node:
        root: Node | None = None
        while True:
            event = self._loader.get_event()
            self._count += 1
            if self._count > MAX_NODES:
                raise Misfit(f"more than {MAX_NODES} values", self._mark(event))
            if isinstance(event, yaml.DocumentEndEvent):
                return root or Node(None, Mark(file=self._file))
            done: Node | None
            anchor = event.anchor if isinstance(event, (yaml.NodeEvent)) else None
            if isinstance(event, yaml.AliasEvent):
                done, anchor = self._alias(event), None
                text_key = done.text if not isinstance(done.value, (dict, list)) else None
            elif isinstance(event, yaml.ScalarEvent):
                done = self._scalar(event)
                text_key = event.value
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._begin(event)
                continue
            else:
                done, anchor = self._end()
                text_key = None
            if anchor:
                self._anchors[anchor] = done
            if not self._open:
                root = done
            else:
                merge = isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]
                self._place(done, text_key, self._mark(event), merge=merge)

    def _alias(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            inside = any(anchor == event.anchor for _, anchor in self._open)
            problem = f"alias *{event.anchor} is used inside itself" if inside else f"unknown alias *{event.anchor}"
            raise Misfit(problem, self._mark(event))
        return node

    def _begin(self, event: Any) -> None:
        mark = self._mark(event)
        if event.tag and event.tag not in (_TAG + "map", _TAG + "seq", "!"):
            raise Misfit(f"tag {event.tag} is not allowed here", mark)
        if len(self._open) >= MAX_DEPTH:
            raise Misfit(f"nested deeper than {MAX_DEPTH} levels", mark)
        if self._open and self._key[-1] is None and isinstance(self._open[-1][0].value, dict):
            raise Misfit("a key must be a text", mark)
        mapping = isinstance(event, yaml.MappingStartEvent)
        self._open.append((Node({} if mapping else [], mark, keys={}), event.anchor or ""))
        self._key.append(None)

    def _end(self) -> tuple[Node, str]:
        node, anchor = self._open.pop()
        self._key.pop()
        for other in self._merges.pop(id(node), []):
            self._merge(node, other)
        return node, anchor

    def _merge(self, node: Node, other: Node) -> None:
        """``<<``: keys of *other* that *node* does not give itself."""
        assert isinstance(node.keys, dict)  # noqa: S101 - made in _begin
        sources = other.value if isinstance(other.value, list) else [other]
        for source in {id(source): source for source in sources}.values():
            if not isinstance(source.value, dict):
                raise Misfit("'<<' takes a mapping or a list of mappings", other.mark)
            self._merged += len(source.value)
            if self._merged > MAX_NODES:
                raise Misfit(f"'<<' takes more than {MAX_NODES} values", other.mark)
            node.height = max(node.height, source.height)
            for key, child in source.value.items():
                if key not in node.value:
                    node.value[key] = child
                    node.keys[key] = source.keys.get(key, child.mark)

    def _place(self, done: Node, text_key: str | None, mark: Mark, *, merge: bool) -> None:
        """Put a finished node into what is open: as list element, as key, or as value."""
        parent = self._open[-1][0]
        if len(self._open) + done.height > MAX_DEPTH:
            raise Misfit(f"nested deeper than {MAX_DEPTH} levels", mark)
        parent.height = max(parent.height, done.height + 1)
        if isinstance(parent.value, list):
            parent.value.append(done)
            return
        waiting = self._key[-1]
        if waiting is None:
            if text_key is None:
                raise Misfit("a key must be a text", mark)
            if text_key in parent.value:
                raise Misfit(f"key {text_key!r} stands here twice", mark)
            self._key[-1] = (text_key, mark, merge)
            return
        key, key_mark, is_merge = waiting
        self._key[-1] = None
        if is_merge:
            self._merges.setdefault(id(parent), []).append(done)
            return
        parent.value[key] = done
        assert isinstance(parent.keys, dict)  # noqa: S101 - made in _begin
        parent.keys[key] = key_mark

    def _scalar(self, event: Any) -> Node:
        mark, text = self._mark(event), event.value
        tag = event.tag or ""
        if tag and tag != "!" and (not tag.startswith(_TAG) or tag[len(_TAG) :] not in _SCALAR_TAGS):
            raise Misfit(f"tag {tag} is not allowed here", mark)
        if tag == _TAG + "str" or tag == "!" or (not tag and not event.implicit[0]):
            return Node(text, mark, text)
        value = resolve_plain(text)
        if tag and not isinstance(value, _SCALAR_TAGS[tag[len(_TAG) :]]):
            raise Misfit(f"{text!r} does not fit its tag {tag}", mark)
        return Node(value, mark, text)


_SCALAR_TAGS: Final[Mapping[str, Any]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "null": type(None),
}


def resolve_plain(text: str) -> Any:
    """A plain scalar by the core schema of YAML 1.2."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INT.match(text):
        return int(text) if len(text) < 20 else text
    if _BASED.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text)
    return text
