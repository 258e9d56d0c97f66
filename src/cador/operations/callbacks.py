"""The callback of a task: an address that is told once how each round of the task ended.

Source: API documents, "Callback".
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

from cador.domain.errors import CadorError, Invalid
from cador.domain.task import TASK_FINAL, TaskStatus
from cador.operations.built_images import images_of
from cador.operations.task_values import Callback
from cador.ports.deliveries import Delivery, Receiver, Said
from cador.ports.outgoing import AnswerTooLarge, Outgoing, OutgoingError, shown
from cador.ports.sealing import Sealer
from cador.ports.stores import Tx

KIND: Final = "callback"
ENDS: Final = tuple(sorted(status.value for status in TASK_FINAL))
LONGEST_URL: Final = 2048
LARGEST_VARS: Final = 64 << 10
"""Bytes of ``callback_vars``, as JSON."""
PAUSES_S: Final = (10.0, 60.0, 300.0, 1800.0, 7200.0)
"""Before the second to the sixth try."""
WITHIN_S: Final = 10.0
AT_ONCE: Final = 64
PER_HOST: Final = 4
"""A host that is slow to answer does not keep the others waiting."""


def parse_callback(url: object, variables: Any = None) -> Callback:
    """A callback as a request names it: *url* may be percent-encoded as a whole, *variables* is any JSON.

    Raises: Invalid: no address that could be called; variables that are too large.
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
    if variables is not None and len(_text(variables).encode()) > LARGEST_VARS:
        raise Invalid(f"callback_vars: larger than {LARGEST_VARS} bytes", place="callback.callback_vars")
    return Callback(decoded, variables)


def callback_receiver(callback: Callback, seal: Callable[[str], str]) -> Receiver:
    """How a task keeps its callback: sealed, because addresses and what goes there often hold a secret."""
    document = _text({"url": callback.url, "vars": callback.vars})
    return Receiver(KIND, KIND, ENDS, seal(document))


class CallbackCourier:
    """Implements ``ports.deliveries.Courier``."""

    hears = ENDS
    pauses = PAUSES_S

    def __init__(self, call: Outgoing, sealer: Sealer) -> None:
        self._call, self._sealer = call, sealer
        self._room = asyncio.Semaphore(AT_ONCE)
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def compose(self, tx: Tx, task_id: int, what: str) -> str:
        row = tx.tasks.row(task_id)
        images = images_of(tx.tasks.jobs(task_id))
        return _text(
            {
                "status": TaskStatus.FAILED if what == TaskStatus.REJECT else what,
                "task_id": row.number,
                "workflow_name": row.workflow_key,
                "error": row.error,
                "images": [
                    {"image": one.image, "service_name": one.service, "registry_repo": one.registry} for one in images
                ],
            }
        )

    async def say(self, receiver: Receiver, delivery: Delivery, key: str) -> Said:
        facts = json.loads(delivery.body)
        try:
            document = json.loads(self._sealer.open(receiver.document))
        except CadorError as error:
            return Said(False, "", reason=str(error), final=True)
        url = document["url"]
        place = shown(url)
        body = _text({**facts, "vars": document["vars"]}).encode()
        headers = {"Content-Type": "application/json; charset=utf-8", "X-Delivery-Id": key}
        async with self._turn(url):
            try:
                reply = await self._call("POST", url, headers=headers, body=body, within_s=WITHIN_S)
                status = reply.status
            except AnswerTooLarge as error:
                status = error.status  # nothing else of an answer is of any interest
            except OutgoingError as error:
                return Said(False, place, reason=str(error), final=error.final)
        ok = 200 <= status < 300
        return Said(ok, place, status, "" if ok else f"it answered {status}")

    @contextlib.asynccontextmanager
    async def _turn(self, url: str) -> AsyncIterator[None]:
        host = self._hosts.setdefault(urlsplit(url).hostname or "", asyncio.Semaphore(PER_HOST))
        async with host, self._room:
            yield


def _text(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
