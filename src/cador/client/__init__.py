"""A client of cador's API for Python programs: :class:`Client`, and :class:`AsyncClient` for asyncio.

::

    from cador.client import Client

    with Client("https://ci.example.com", token) as cador:
        started = cador.tasks.start("shop-release", "shop", inputs=[{"job_name": "build"}])
        task = cador.tasks.wait("shop-release", started["task_id"])
        print(task["status"])

Replies are the JSON objects of the API, typed as ``TypedDict``. Importing this loads no HTTP library; the asynchronous
client loads ``httpx2`` when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from cador.client.errors import ApiError, ClientError, OddReply, TimedOut, Unreachable
from cador.client.sync import Client
from cador.client.wire import Event

if TYPE_CHECKING:
    from cador.client.asynchronous import AsyncClient

__all__ = ["ApiError", "AsyncClient", "Client", "ClientError", "Event", "OddReply", "TimedOut", "Unreachable"]


def __getattr__(name: str) -> Any:
    if name == "AsyncClient":
        from cador.client.asynchronous import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
