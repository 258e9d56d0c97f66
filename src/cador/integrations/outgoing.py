"""The one way out over HTTP: limits on where, how long and how much."""

import asyncio
import base64
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

from cador.domain.errors import Invalid
from cador.integrations.addresses import BAD_PORTS, Address, Rules, literal, strange
from cador.ports.outgoing import (
    MAX_REPLY_BYTES,
    AnswerTooLarge,
    ChosenBy,
    NoAnswer,
    RefusedAddress,
    Reply,
    shown,
)

if TYPE_CHECKING:
    import httpcore2
    import httpx2

MOST_REDIRECTS: Final = 3
MOST_AT_ONCE: Final = 100
_PORTS: Final = {"http": 80, "https": 443}
_PIECE_BYTES: Final = 64 << 10

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, in the order in which to try them. Raises: OSError."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of *host* by the host's own resolver. Raises: OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingLimits:
    """``timeout_s``: of a whole call that names no time of its own. ``proxy``: URL of an HTTP proxy, empty for none.
    ``ca_file``: PEM file of authorities that are trusted beside the usual ones."""

    timeout_s: float = 10.0
    proxy: str = ""
    ca_file: str = ""


class HttpOutgoing:
    """Implements ``ports.outgoing.Outgoing``.

    Without a proxy the connection goes to an address that was judged a moment before. With one it is the proxy that
    looks names up; what is known here of them is judged here, the rest is the proxy's own business.
    """

    def __init__(
        self,
        rules: Rules,
        limits: OutgoingLimits = OutgoingLimits(),
        *,
        user_agent: str = "cador",
        resolve: Resolve = resolve,
    ) -> None:
        """Raises: Invalid: proxy or file of authorities cannot be used."""
        self._rules, self._limits, self._resolve = rules, limits, resolve
        self._user_agent = user_agent
        # Apart, so that no user's call finds a connection that an operator's has opened.
        self._pools: dict[ChosenBy, httpcore2.AsyncConnectionPool] = {}
        self._tls: ssl.SSLContext | None = None
        if limits.proxy:
            self._proxy()
        if limits.ca_file:
            self._context()

    async def aclose(self) -> None:
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        chosen_by: ChosenBy = "user",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
        within_s: float | None = None,
        max_bytes: int = MAX_REPLY_BYTES,
    ) -> Reply:
        """See the port."""
        import httpx2

        within_s = self._limits.timeout_s if within_s is None else within_s
        told = shown(url)
        try:
            request = httpx2.Request(
                method,
                url,
                params=httpx2.URL(url).params.merge(dict(params)) if params else None,
                headers=dict(headers or {}),
                json=json,
                data=dict(form) if form is not None else None,
                content=body,
            )
        except (httpx2.InvalidURL, ValueError, UnicodeError):
            raise RefusedAddress(f"{told} cannot be called: it is no URL") from None
        try:
            async with asyncio.timeout(within_s):
                return await self._follow(request, chosen_by, max_bytes)
        except TimeoutError:
            raise NoAnswer(f"{told} did not answer within {within_s:g} s") from None

    async def addresses(self, host: str, port: int, *, chosen_by: ChosenBy = "user") -> list[str]:
        """Where a connection to *host* may go, for protocols other than HTTP: to these addresses and to no name.

        Raises: RefusedAddress, NoAnswer: the host is not known.
        """
        told = f"{host}:{port}"
        if reason := strange(host) or self._rules.refuses_name(host):
            raise RefusedAddress(f"{told} is not called: {reason}")
        address = literal(host)
        try:
            known = [str(address)] if address is not None else await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise NoAnswer(f"{told}: the host is not known ({error})") from None
        try:
            return [str(one) for one in _permitted(self._rules, host, known, chosen_by)]
        except _Judged as refused:
            raise RefusedAddress(f"{told} is not called: {refused}") from None

    def tls(self) -> ssl.SSLContext:
        """For connections that trust whom calls over HTTP trust."""
        return self._context()

    async def _follow(self, request: "httpx2.Request", chosen_by: ChosenBy, max_bytes: int) -> Reply:
        for _ in range(MOST_REDIRECTS + 1):
            reply = await self._call(request, chosen_by, max_bytes)
            further = _redirected(request, reply)
            if further is None:
                return reply
            request = further
        raise NoAnswer(f"{reply.url} redirects more than {MOST_REDIRECTS} times")

    async def _call(self, request: "httpx2.Request", chosen_by: ChosenBy, max_bytes: int) -> Reply:
        import httpcore2

        told = shown(str(request.url))
        await self._judge(request.url, chosen_by, told)
        _complete(request, self._user_agent)
        call = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=cast("httpx2.AsyncByteStream", request.stream),
        )
        try:
            answer = await self._pool(chosen_by).handle_async_request(call)
            try:
                found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                body = await _read(answer, found, told, max_bytes) if request.method != "HEAD" else b""
            finally:
                await answer.aclose()
        except _Judged as refused:
            raise RefusedAddress(f"{told} is not called: {refused}") from None
        except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise NoAnswer(f"{told}: {_reason(error)}") from error
        except (httpcore2.ProxyError, httpcore2.UnsupportedProtocol, OSError) as error:
            raise NoAnswer(f"{told}: {_reason(error)}") from error
        return Reply(answer.status, told, found, body)

    async def _judge(self, url: "httpx2.URL", chosen_by: ChosenBy, told: str) -> None:
        """What can be said of a URL before anything is looked up. Raises: RefusedAddress."""
        host = url.raw_host.decode("ascii")
        port = url.port if url.port is not None else _PORTS.get(url.scheme, 0)
        if url.scheme not in _PORTS:
            raise RefusedAddress(f"{told} is not called: only http and https are")
        if reason := strange(host) or self._rules.refuses_name(host):
            raise RefusedAddress(f"{told} is not called: {reason}")
        if port in BAD_PORTS and chosen_by == "user":
            raise RefusedAddress(f"{told} is not called: port {port} is for other protocols")
        if self._limits.proxy:
            address = literal(host)
            try:
                known = [str(address)] if address is not None else await self._resolve(host, port)
            except OSError:
                known = []
            try:
                _permitted(self._rules, host, known, chosen_by)
            except _Judged as refused:
                raise RefusedAddress(f"{told} is not called: {refused}") from None

    def _pool(self, chosen_by: ChosenBy) -> "httpcore2.AsyncConnectionPool":
        pool = self._pools.get(chosen_by)
        if pool is None:
            import httpcore2

            backend = _backend(self._rules, self._resolve, chosen_by) if not self._limits.proxy else None
            pool = self._pools[chosen_by] = httpcore2.AsyncConnectionPool(
                ssl_context=self._context(),
                proxy=self._proxy(),
                max_connections=MOST_AT_ONCE,
                max_keepalive_connections=0 if chosen_by == "user" else 10,
                keepalive_expiry=15.0,
                network_backend=backend,
            )
        return pool

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            import httpx2

            context = httpx2.create_ssl_context(trust_env=False)
            if self._limits.ca_file:
                try:
                    context.load_verify_locations(self._limits.ca_file)
                except (OSError, ssl.SSLError) as error:
                    raise Invalid(f"outgoing.ca_file: {self._limits.ca_file} cannot be used: {error}") from None
            self._tls = context
        return self._tls

    def _proxy(self) -> "httpcore2.Proxy | None":
        if not self._limits.proxy:
            return None
        import httpcore2
        import httpx2

        try:
            url = httpx2.URL(self._limits.proxy)
            usable = url.scheme in _PORTS and bool(url.host)
        except (httpx2.InvalidURL, ValueError):
            usable = False
        if not usable:
            raise Invalid("outgoing.proxy: the value is not an http or https URL")
        port = url.port if url.port is not None else _PORTS[url.scheme]
        auth = (url.username.encode(), url.password.encode()) if url.userinfo else None
        place = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=port, target=b"/")
        return httpcore2.Proxy(place, auth=auth)


def _complete(request: "httpx2.Request", user_agent: str) -> None:
    """Headers that every call has. The body is asked for as it is: what is packed may unpack to any size."""
    headers = request.headers
    headers["Accept-Encoding"] = "identity"
    headers.setdefault("User-Agent", user_agent)
    headers.setdefault("Accept", "*/*")
    if request.url.userinfo and "Authorization" not in headers:
        pair = f"{unquote(request.url.username)}:{unquote(request.url.password)}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()


def _redirected(request: "httpx2.Request", reply: Reply) -> "httpx2.Request | None":
    """The next request, if *reply* sends there and it is the same host: what goes along is meant for that one.

    Raises: NoAnswer: it leads elsewhere.
    """
    import httpx2

    if reply.status not in (301, 302, 303, 307, 308) or "location" not in reply.headers:
        return None
    reading = request.method in ("GET", "HEAD")
    if not reading and reply.status not in (307, 308):
        return None
    try:
        url = request.url.join(reply.headers["location"])
    except (httpx2.InvalidURL, ValueError):
        raise NoAnswer(f"{reply.url} redirects to something that is no URL") from None
    same = (url.scheme, url.host, url.port) == (request.url.scheme, request.url.host, request.url.port)
    safer = (request.url.scheme, url.scheme) == ("http", "https") and url.port is None and request.url.port is None
    if not same and not (safer and url.host == request.url.host):
        raise NoAnswer(f"{reply.url} redirects to another place ({shown(str(url))}), which is not followed")
    if request.url.userinfo and not url.userinfo:
        url = url.copy_with(userinfo=request.url.userinfo)
    return httpx2.Request(request.method, url, headers=request.headers, stream=request.stream)


async def _read(answer: "httpcore2.Response", headers: Mapping[str, str], told: str, max_bytes: int) -> bytes:
    if headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise NoAnswer(f"{told} answers packed ({headers['content-encoding']}), which was not asked for")
    body = bytearray()
    async for piece in answer.aiter_stream():
        body += piece
        if len(body) > max_bytes:
            raise AnswerTooLarge(f"{told} answers with more than {max_bytes} bytes", answer.status)
    return bytes(body)


def _reason(error: Exception) -> str:
    kind = type(error).__name__
    words = {"ConnectTimeout": "no connection in time", "ConnectError": "no connection", "ReadError": "cut off"}
    text = str(error).strip()
    return f"{words.get(kind, kind)}: {text}" if text else words.get(kind, kind)


class _Judged(Exception):
    """An address that is not called; why."""


def _permitted(rules: Rules, host: str, known: Iterable[str], chosen_by: ChosenBy) -> list[Address]:
    """Those of the addresses of *host* that may be called. Raises: _Judged: it has some, and none of them may."""
    found: list[Address] = []
    reason = ""
    for text in known:
        address = ip_address(text)
        if why := rules.refuses(host, address, chosen_by):
            reason = reason or why
        else:
            found.append(address)
    if reason and not found:
        raise _Judged(reason)
    return found


def _backend(rules: Rules, resolve: Resolve, chosen_by: ChosenBy) -> "httpcore2.AsyncNetworkBackend":
    """Connects to addresses that were judged, and to no name."""
    import httpcore2

    class Guarded(httpcore2.AsyncNetworkBackend):
        def __init__(self) -> None:
            self._inner = httpcore2.AnyIOBackend()

        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> httpcore2.AsyncNetworkStream:
            address = literal(host)
            try:
                known = [str(address)] if address is not None else await resolve(host, port)
            except (OSError, UnicodeError) as error:
                raise httpcore2.ConnectError(f"the host is not known ({error})") from error
            last: Exception = httpcore2.ConnectError("the host has no address")
            for one in _permitted(rules, host, known, chosen_by):
                try:
                    return await self._inner.connect_tcp(str(one), port, timeout, local_address, socket_options)
                except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                    last = error
            raise last

        async def connect_unix_socket(
            self,
            path: str,
            timeout: float | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> httpcore2.AsyncNetworkStream:
            raise httpcore2.ConnectError("calls go to hosts, not to sockets of this machine")

        async def sleep(self, seconds: float) -> None:
            await self._inner.sleep(seconds)

    return Guarded()
