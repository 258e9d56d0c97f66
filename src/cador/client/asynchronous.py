"""The asynchronous client, on httpx2."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import httpx2

from cador.client.errors import Unreachable
from cador.client.groups import Groups
from cador.client.methods import Async
from cador.client.wire import (
    ATTEMPTS,
    CALL_S,
    RETRY_S,
    STREAM_S,
    USER_AGENT,
    Event,
    EventLines,
    Head,
    Pause,
    Request,
    Source,
    Steps,
    answer,
)

T = TypeVar("T")


class AsyncClient(Groups[Async]):
    """Talks to one server from one event loop; the same calls as :class:`cador.client.Client`, awaited.

    *url*, *token*, *language*, *timeout_s*, *context*, *user_agent*: as there. *transport*: in place of the network,
    for tests.

    Raises: ValueError: *url* is not an http(s) address, *token* is not one word.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        language: str = "en",
        timeout_s: float = CALL_S,
        context: ssl.SSLContext | None = None,
        user_agent: str = USER_AGENT,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        head = Head.of(url, token, language, user_agent)
        super().__init__(self)
        self.url = url
        self._base = f"{head.address.scheme}://{head.address.netloc}"
        self._prefix, self._timeout_s = head.address.path, timeout_s
        self._http = httpx2.AsyncClient(
            headers=dict(head.headers),
            timeout=timeout_s,
            verify=True if context is None else context,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def run(self, steps: Steps[T]) -> T:
        """Carry out a call. Raises: ApiError, Unreachable, and what the call raises."""
        bring: Any = None
        failed: Exception | None = None
        while True:
            try:
                step = steps.throw(failed) if failed is not None else steps.send(bring)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            bring = failed = None
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                continue
            try:
                bring = await self.send(step)
            except Exception as error:
                failed = error

    async def send(self, request: Request) -> Any:
        """One request; what may be repeated is, when no reply comes. Returns the parsed JSON, or the text of another
        type. Raises: ApiError, OddReply, Unreachable."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._open(request, self._timeout_s) as response:
                    return answer(request, response.status_code, await response.aread(), _kind(response))
            except Unreachable as error:
                if not request.again_after(error, attempt):
                    raise
                await asyncio.sleep(RETRY_S * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    async def follow(self, source: Source) -> AsyncIterator[Event]:
        """Events until the last one; a broken connection is made again. Raises: ApiError, Unreachable."""
        while not source.ended:
            lost: Exception | None = None
            try:
                async for event in self.events(source.request()):
                    source.saw(event)
                    yield event
                    if source.ended:
                        return
            except Unreachable as error:
                lost = error
            await asyncio.sleep(source.lost(lost))

    async def events(self, request: Request) -> AsyncIterator[Event]:
        """Events of one connection, until it ends. Raises: ApiError, Unreachable."""
        async with self._begun(request, STREAM_S) as response:
            events = EventLines()
            rest = b""
            async for piece in response.aiter_bytes():
                *lines, rest = (rest + piece).split(b"\n")
                for raw in lines:
                    if (event := events.feed(raw.decode("utf-8", "replace").removesuffix("\r"))) is not None:
                        yield event

    @asynccontextmanager
    async def download(
        self, path: str, query: Mapping[str, Any] | None = None, *, accept: str = ""
    ) -> AsyncIterator[httpx2.Response]:
        """The body of a reply, to be read in pieces. Raises: ApiError, Unreachable."""
        headers = {"Accept": accept} if accept else {}
        async with self._begun(Request("GET", path, query or {}, headers=headers), self._timeout_s) as response:
            yield response

    @asynccontextmanager
    async def _begun(self, request: Request, timeout_s: float) -> AsyncIterator[httpx2.Response]:
        async with self._open(request, timeout_s) as response:
            if response.status_code >= 300:
                answer(request, response.status_code, await response.aread(), _kind(response))
            yield response

    @asynccontextmanager
    async def _open(self, request: Request, timeout_s: float) -> AsyncIterator[httpx2.Response]:
        data, headers = request.content()
        target = self._base + request.target(self._prefix)
        try:
            async with self._http.stream(
                request.method, target, content=data, headers=headers, timeout=timeout_s
            ) as response:
                yield response
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise Unreachable(str(error) or type(error).__name__, error, sent=False) from error
        except httpx2.TransportError as error:
            silent = isinstance(error, httpx2.TimeoutException)
            raise Unreachable(str(error) or type(error).__name__, error, silent=silent) from error


def _kind(response: httpx2.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()
