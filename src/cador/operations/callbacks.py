"""The callback of a task: an address that is told once how each round of the task ended.

Source: API documents, "Callback".
"""

import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from cador.domain.errors import Invalid
from cador.domain.task import TASK_FINAL
from cador.operations.task_values import Callback
from cador.ports.deliveries import Receiver

KIND: Final = "callback"
LONGEST_URL: Final = 2048


def parse_callback(url: object, variables: Any = None) -> Callback:
    """A callback as a request names it: *url* may be percent-encoded as a whole, *variables* is any JSON.

    Raises: Invalid: no address that could be called.
    """
    if not isinstance(url, str) or not url.strip():
        raise Invalid("callback_url: required", place="callback.callback_url")
    decoded = unquote(url.strip())
    if len(decoded) > LONGEST_URL:
        raise Invalid(f"callback_url: longer than {LONGEST_URL} characters", place="callback.callback_url")
    try:
        parts = urlsplit(decoded)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(ord(character) < 0x20 or ord(character) == 0x7F for character in decoded):
        raise Invalid("callback_url: not an http or https address", place="callback.callback_url")
    return Callback(decoded, variables)


def callback_receiver(callback: Callback, seal: Callable[[str], str]) -> Receiver:
    """How a task keeps its callback: sealed, because addresses and what goes there often hold a secret."""
    document = json.dumps({"url": callback.url, "vars": callback.vars}, ensure_ascii=False, separators=(",", ":"))
    return Receiver(KIND, KIND, tuple(sorted(status.value for status in TASK_FINAL)), seal(document))
