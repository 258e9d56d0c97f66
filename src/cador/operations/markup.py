"""HTML that cannot be broken out of: everything is text and escaped, but what was made here.

``tag("p", "a < b", class_="note")`` is ``<p class="note">a &lt; b</p>``. Children may be text, numbers, other markup,
lists of these, or None for nothing.
"""

import html
import re
from collections.abc import Iterable
from typing import Any, Final

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What has no place in a page, and what no encoder takes."""
_TERMINAL: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")
"""Colours and other orders to a terminal."""
_VOID: Final = frozenset({"meta", "br", "hr", "rect", "line", "path", "circle", "polygon"})


class Markup(str):
    """Made by :func:`tag` or :func:`joined`: stands as it is."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """*text* as text of a page, also within an attribute; characters that a page must not have are shown as U+FFFD."""
    return Markup(html.escape(_CONTROLS.sub("\ufffd", text), quote=True))


def without_colours(text: str) -> str:
    """*text* without what it says to a terminal."""
    return _TERMINAL.sub("", text)


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """An element. ``class_`` is ``class``, other underscores are hyphens; an attribute that is None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def joined(children: Iterable[Any]) -> Markup:
    """Children one after the other."""
    return Markup("".join(map(_child, children)))


def _child(child: Any) -> str:
    if isinstance(child, Markup):
        return child
    if child is None:
        return ""
    if isinstance(child, str):
        return escaped(child)
    if isinstance(child, Iterable):
        return joined(child)
    return escaped(str(child))


def short(text: str, most: int) -> str:
    """*text*, cut with an ellipsis to *most* characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def size_of(markup: str) -> int:
    """Bytes it takes in a page."""
    return len(markup.encode("utf-8", "replace"))
