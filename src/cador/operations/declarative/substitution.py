"""``${NAME}`` in scalar values, after parsing. ``$$`` is a literal ``$``.

Off inside scripts and manifests (keys of ``VERBATIM``), which have their own ``$``, unless their mapping says
``interpolate: true``. Keys are never substituted.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from cador.domain.secrets import SECRET_KEYS
from cador.operations.declarative.from_secret import read_from_secret
from cador.operations.declarative.nodes import Misfit, Node

VERBATIM: Final = frozenset(
    {
        "yaml",
        "script",
        "dockerfile_text",
        "scripts",
        "sql",
        "build_script",
        "values_yaml",
        "prelaunch_script",
        "cmds",
        "args",
        "build_args",
    }
)
LITERALS_REFUSED: Final = SECRET_KEYS - {"secret", "token"}
"""Keys whose value must come from elsewhere, also where people name variables. ``secret`` is a flag in the short form;
``token`` is often a variable, and one of these keys everywhere else."""
_USER_KEYED: Final = frozenset({"env", "inputs", "parameters", "params", "variables"})
"""Maps whose keys are variables."""

# What stands for a variable that is not set ends before the next reference: else a text of references that nobody
# closes would be read to its end once for each.
_REFERENCE: Final = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*+)(?:(:?[-?])((?:[^}$]|\$(?!\{))*+))?\}|(\{))")
_WHOLE: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*+(?::?\?[^}]*+)?\}\Z")

Missing = Callable[[str, str, Node], str]
"""Called with the reference as written, the key it stands under and its node; returns what to put there, or raises."""
_SECRET_VALUES: Final = frozenset({"value", "default_value", "default"})


def substitute(
    node: Node,
    environment: Mapping[str, str],
    *,
    missing: Missing | None = None,
    plain_secrets: bool = True,
    unset_secret: str | None = None,
) -> Node:
    """A copy of *node* with references replaced.

    *plain_secrets* False: a literal under a key known as secret is refused. *unset_secret*: stands for a secret that is
    nothing but a reference to a variable that is not set.

    Raises: Misfit: a variable is not set and has no default; a malformed reference; a literal secret.
    """
    work = _Pass(environment, missing or _refuse, plain_secrets, unset_secret, _all_secret(node))
    return replace(work.walk(node, "", off=False, secret=False), fixed=True)


def escape(value: Any, key: str = "", *, off: bool = False) -> Any:
    """The inverse for plain data: each ``$`` where references are looked for becomes ``$$``."""
    if isinstance(value, dict):
        return {k: escape(v, k, off=off or k in VERBATIM) for k, v in value.items()}
    if isinstance(value, list):
        return [escape(v, key, off=off) for v in value]
    return value.replace("$", "$$") if isinstance(value, str) and not off else value


def is_reference(value: Any) -> bool:
    """Whether *value* is nothing but one ``${NAME}``."""
    return isinstance(value, str) and _WHOLE.match(value) is not None


def _refuse(written: str, key: str, node: Node) -> str:
    name = written[2:].rstrip("}").partition(":")[0].partition("?")[0]
    raise Misfit(f"variable {name} is not set", node.mark, place=key)


class _Pass:
    def __init__(
        self,
        environment: Mapping[str, str],
        missing: Missing,
        plain_secrets: bool,
        unset_secret: str | None,
        all_secret: frozenset[int],
    ) -> None:
        self._environment, self._missing, self._plain_secrets = environment, missing, plain_secrets
        self._unset_secret, self._all_secret = unset_secret, all_secret
        self._done: dict[tuple[int, str, bool, bool], Node] = {}

    def walk(self, node: Node, key: str, *, off: bool, secret: bool) -> Node:
        if isinstance(node.value, (dict, list)):
            if (taken := read_from_secret(node)) is not None:
                return taken
            # what an alias names is copied once for each way it is used, not for each place
            way = key if isinstance(node.value, list) or key in _USER_KEYED else ""
            seen = (id(node), way, off, secret)
            if seen not in self._done:
                self._done[seen] = self._branch(node, key, off=off, below=secret)
            return self._done[seen]
        secret = secret or key in LITERALS_REFUSED
        if secret and not self._plain_secrets:
            self._no_literal(node, key)
        if off or not isinstance(node.value, str) or "$" not in node.value:
            return node
        text = _REFERENCE.sub(lambda match: self._value(match, key, node, secret), node.value)
        return replace(node, value=text, text=text, filled=True)

    def _branch(self, node: Node, key: str, *, off: bool, below: bool) -> Node:
        """*below*: something around it says that all of it is secret."""
        everything = id(node) in self._all_secret
        if isinstance(node.value, list):
            return replace(node, value=[self.walk(child, key, off=off, secret=below) for child in node.value])
        children = dict(node.value)
        asked = children.pop("interpolate", None)
        wanted = asked is not None and asked.value is True
        if asked is not None and not isinstance(asked.value, bool):
            raise Misfit("'interpolate' is true or false", asked.mark)
        hides = _says_secret(children)
        hidden = () if key in _USER_KEYED else ("token",)
        return replace(
            node,
            value={
                name: self.walk(
                    child,
                    name,
                    off=(off or name in VERBATIM) and not wanted,
                    secret=everything or below or (hides and name in _SECRET_VALUES) or name in hidden,
                )
                for name, child in children.items()
            },
        )

    def _no_literal(self, node: Node, key: str) -> None:
        if isinstance(node.value, str) and node.value and "${" in node.value.replace("$$", ""):
            return
        if node.value not in (None, ""):
            raise Misfit(
                "a secret does not stand in the file: write ${NAME} and set NAME in the environment",
                node.mark,
                place=key,
            )

    def _value(self, match: re.Match[str], key: str, node: Node, secret: bool) -> str:
        if match[1]:
            return "$"
        if match[5]:
            raise Misfit(f"this is no reference: {node.value[match.start() :][:40]!r}", node.mark, place=key)
        name, operator, word = match[2], match[3] or "", match[4] or ""
        value = self._environment.get(name)
        if value is not None and (value or not operator.startswith(":")):
            return value
        if operator.endswith("-"):
            return word
        if operator.endswith("?") and word:
            raise Misfit(f"variable {name}: {word}", node.mark, place=key)
        if secret and self._unset_secret is not None and is_reference(node.value):
            return self._unset_secret
        return self._missing(match[0], key, node)


def _says_secret(children: Mapping[str, Node]) -> bool:
    return any(name in children and children[name].value is True for name in ("secret", "is_credential"))


def _all_secret(root: Node) -> frozenset[int]:
    """Mappings of a document that hold nothing but secrets, whatever their keys."""
    top = root.mapping or {}
    system, spec, kind = top.get("system"), top.get("spec"), top.get("kind")
    found = [top.get("secrets"), (system.mapping or {}).get("secrets") if system is not None else None]
    if kind is not None and kind.value == "Secret" and spec is not None:
        found.append((spec.mapping or {}).get("data"))
    metadata = top.get("metadata")
    name = (metadata.mapping or {}).get("name") if metadata is not None else None
    if kind is not None and kind.value == "Setting" and name is not None and name.value in SECRET_KEYS:
        found.append(spec)
    return frozenset(id(node) for node in found if node is not None)
