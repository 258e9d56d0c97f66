"""Calls to the outside: real servers on this host, names and addresses of the test's choice."""

import asyncio
import contextlib
import gzip
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Invalid
from cador.integrations.addresses import Rules
from cador.integrations.outgoing import HttpOutgoing, OutgoingLimits
from cador.ports.outgoing import AnswerTooLarge, NoAnswer, NotJson, RefusedAddress, Reply, shown
from support.certificates import certificate_for
from support.http_peer import Asked, Peer, peer, reply

HERE = Rules.parse(["127.0.0.0/8"])
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def answer(asked: Asked, handler: BaseHTTPRequestHandler) -> None:
    path = asked.path.partition("?")[0]
    if path.startswith("/to/"):
        handler.send_response(int(path.split("/")[2]))
        handler.send_header("Location", path.split("/", 3)[3].replace("+", "/"))
        handler.send_header("Set-Cookie", "who=me")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
    elif path == "/big":
        reply(handler, 200, b"x" * 200_000)
    elif path == "/packed":
        body = gzip.compress(b"0" * 1_000_000)
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
    elif path == "/text":
        reply(handler, 418, b"teapot", "text/plain")
    else:
        reply(handler, 200, {"path": asked.path})


@pytest.fixture(scope="module")
def server() -> Iterator[Peer]:
    with peer(answer) as found:
        yield found


@contextlib.asynccontextmanager
async def calls(rules: Rules = HERE, limits: OutgoingLimits | None = None, **more: Any) -> AsyncIterator[HttpOutgoing]:
    made = HttpOutgoing(rules, limits or OutgoingLimits(timeout_s=10), user_agent="cador/test", **more)
    try:
        yield made
    finally:
        await made.aclose()


async def test_a_call_and_its_answer(server: Peer) -> None:
    server.asked.clear()
    async with calls() as call:
        found = await call(
            "POST", f"{server.url}/a?x=1", params={"y": "ä"}, headers={"X-One": "1"}, json={"n": [1, None, "ü"]}
        )
        form = await call("POST", f"{server.url}/form", form={"a": "b c"})
        odd = await call("GET", f"{server.url}/text")
    (asked, posted, _) = server.asked
    assert (found.ok, found.json(), found.headers["content-type"]) == (
        True, {"path": "/a?x=1&y=%C3%A4"}, "application/json"
    )  # fmt: skip
    assert (asked.method, asked.headers["x-one"], asked.headers["user-agent"]) == ("POST", "1", "cador/test")
    assert asked.headers["content-type"] == "application/json"
    assert asked.body.decode() == '{"n":[1,null,"ü"]}'
    assert (posted.body, posted.headers["content-type"]) == (b"a=b+c", "application/x-www-form-urlencoded")
    assert (form.status, odd.status, odd.ok, odd.text()) == (200, 418, False, "teapot")
    with pytest.raises(NotJson, match="418"):
        odd.json()


@pytest.mark.parametrize("body", [rb'{"a": "\ud83d"}', rb'{"a": NaN}', b"[" * 100_000, b"", b"\xff"])
def test_what_could_not_be_stored_is_no_json(body: bytes) -> None:
    assert Reply(200, "http://x", body=rb'{"a": "\ud83d\ude00"}').json() == {"a": "\N{GRINNING FACE}"}
    with pytest.raises(NotJson):
        Reply(200, "http://x", body=body).json()


async def test_user_and_password_of_a_url_go_along_and_are_never_shown(server: Peer) -> None:
    server.asked.clear()
    address = server.url.replace("://", "://me:p%40ss@") + "/with/a/long/secret-path"
    async with calls() as call:
        found = await call("GET", address)
        with pytest.raises(NoAnswer) as caught:
            await call("GET", "http://me:p%40ss@127.0.0.1:9/secret-path", chosen_by="operator")
    assert server.asked[0].headers["authorization"] == "Basic bWU6cEBzcw=="
    for told in (found.url, str(caught.value), shown(address)):
        assert "ss@" not in told
        assert "secret" not in told
        assert "127.0.0.1" in told


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/", "file:///etc/passwd", "gopher://127.0.0.1/", "http://", "http:///x", "//example.com",
        "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://[fe80::1%25lo]/",
        "http://127.0.0.1:22/", "http://example.com:6379/", "http://exa mple.com/", "http://%00.example/", "not a url",
        "http://1.2.3.4.5/", "http://127。0。0。2130706433/",
    ],
)  # fmt: skip
async def test_what_is_no_address_is_not_called(url: str) -> None:
    async with calls() as call:
        with pytest.raises(RefusedAddress):
            await call("GET", url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "１２７.0.0.1",
        "127。0。0。1",
        "0.0.0.0",
    ],
)
async def test_this_host_is_not_called_by_any_of_its_names(host: str, server: Peer) -> None:
    server.asked.clear()
    async with calls(Rules.parse()) as call:
        with pytest.raises(RefusedAddress):
            await call("GET", f"http://{host}:{server.url.rpartition(':')[2]}/")
    assert not server.asked


async def test_the_address_that_was_judged_is_the_one_that_is_called(server: Peer) -> None:
    """A name whose meaning changes between two questions: there is one question."""
    server.asked.clear()
    asked: list[str] = []

    async def turning(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) > 1 else ["192.0.2.1"]

    port = server.url.rpartition(":")[2]
    async with calls(Rules.parse(["192.0.2.0/24"]), OutgoingLimits(timeout_s=0.3), resolve=turning) as call:
        with pytest.raises(NoAnswer):
            await call("GET", f"http://turning.example:{port}/")
        assert asked == ["turning.example"]
        with pytest.raises(RefusedAddress, match=r"127\.0\.0\.1 is not a public address"):
            await call("GET", f"http://turning.example:{port}/")
    assert not server.asked


async def test_of_several_addresses_only_those_that_pass_are_tried(server: Peer) -> None:
    server.asked.clear()

    async def several(host: str, port: int) -> Sequence[str]:
        return ["::1", "10.0.0.1", "127.0.0.1"]

    async with calls(resolve=several) as call:
        found = await call("GET", f"http://several.example:{server.url.rpartition(':')[2]}/x")
    assert found.ok
    assert server.asked[0].headers["host"].startswith("several.example:")


async def test_a_name_nobody_knows_is_no_answer() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    async with calls(resolve=unknown) as call:
        with pytest.raises(NoAnswer, match="not known"):
            await call("GET", "http://nowhere.example/")


async def test_a_connection_of_an_operator_is_not_lent_to_users(server: Peer) -> None:
    async with calls(Rules.parse()) as call:
        assert (await call("GET", server.url, chosen_by="operator")).ok
        with pytest.raises(RefusedAddress):
            await call("GET", server.url)


async def test_redirects_stay_on_their_host(server: Peer) -> None:
    server.asked.clear()
    other = server.url.replace("127.0.0.1", "127.0.0.2").replace("/", "+")
    async with calls() as call:
        followed = await call("GET", f"{server.url}/to/302/+there", headers={"X-Token": "t"})
        kept = await call("POST", f"{server.url}/to/307/+there", json=[1])
        not_repeated = await call("POST", f"{server.url}/to/302/+there", json=[1])
        with pytest.raises(NoAnswer, match="another place"):
            await call("GET", f"{server.url}/to/302/{other}+x")
        with pytest.raises(NoAnswer, match="another place"):
            await call("GET", f"{server.url}/to/302/http:++169.254.169.254+latest")
        with pytest.raises(NoAnswer, match="another place"):
            await call("GET", f"{server.url}/to/302/file:+++etc+passwd")
    assert followed.json() == kept.json() == {"path": "/there"}
    assert not_repeated.status == 302
    first, second, _, fourth = server.asked[:4]
    assert (first.path, second.path, second.headers["x-token"]) == ("/to/302/+there", "/there", "t")
    assert (fourth.method, fourth.body) == ("POST", b"[1]")
    assert all("cookie" not in asked.headers for asked in server.asked)


async def test_a_circle_of_redirects_ends(server: Peer) -> None:
    async with calls() as call:
        with pytest.raises(NoAnswer, match="more than 3 times"):
            await call("GET", f"{server.url}/to/302/")


async def test_answers_are_bounded(server: Peer) -> None:
    async with calls() as call:
        with pytest.raises(AnswerTooLarge, match="more than 1000 bytes"):
            await call("GET", f"{server.url}/big", max_bytes=1000)
        assert len((await call("GET", f"{server.url}/big", max_bytes=200_000)).body) == 200_000
        with pytest.raises(NoAnswer, match="packed"):
            await call("GET", f"{server.url}/packed")


async def _listening(talk: Any) -> asyncio.Server:
    return await asyncio.start_server(talk, "127.0.0.1", 0)


def _url(listening: asyncio.Server) -> str:
    return f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1", b"HTTP/1.1 200 OK\r\nA: "])
async def test_a_server_that_keeps_silent_is_given_up(first: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        with contextlib.suppress(ConnectionError):
            while await reader.read(1000):
                pass
        writer.close()

    listening = await _listening(talk)
    async with listening, calls() as call:
        with pytest.raises(NoAnswer, match=r"within 0\.2 s"):
            await call("GET", _url(listening), within_s=0.2)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1", b""])
async def test_what_is_not_http_is_no_answer(said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    listening = await _listening(talk)
    async with listening, calls() as call:
        with pytest.raises(NoAnswer):
            await call("GET", _url(listening))


async def test_proxies_of_the_environment_are_not_used(server: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with calls() as call:
        assert (await call("GET", server.url)).ok


async def test_a_proxy_of_the_settings_is_used_and_what_is_known_is_judged(server: Peer) -> None:
    server.asked.clear()

    async def names(host: str, port: int) -> Sequence[str]:
        if host == "inside.example":
            return ["10.0.0.1"]
        raise OSError("only the proxy knows")

    limits = OutgoingLimits(proxy=server.url.replace("://", "://joe:pw@"))
    async with calls(Rules.parse(), limits, resolve=names) as call:
        assert (await call("GET", "http://outside.example/x")).ok
        for url in ("http://inside.example/", "http://127.0.0.1/", "http://[::1]/"):
            with pytest.raises(RefusedAddress):
                await call("GET", url)
    (asked,) = server.asked
    assert asked.path == "http://outside.example/x"
    assert asked.headers["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize("proxy", ["socks5://x:1", "nonsense", "http://"])
def test_a_proxy_that_is_none_is_refused(proxy: str) -> None:
    with pytest.raises(Invalid, match=r"outgoing\.proxy"):
        HttpOutgoing(HERE, OutgoingLimits(proxy=proxy))


async def test_certificates_are_verified_against_the_name(tmp_path: Path) -> None:
    certificate, key = certificate_for("ci.example", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def here(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async def ask(call: HttpOutgoing, host: str) -> Reply:
        return await call("GET", f"https://{host}:{port}/")

    async with await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with calls(resolve=here) as call:
            with pytest.raises(NoAnswer, match=r"(?i)certificate"):
                await ask(call, "ci.example")
        async with calls(limits=OutgoingLimits(ca_file=str(certificate)), resolve=here) as call:
            assert (await ask(call, "ci.example")).text() == "ok"
            with pytest.raises(NoAnswer, match=r"(?i)certificate"):
                await ask(call, "other.example")
    with pytest.raises(Invalid, match=r"outgoing\.ca_file"):
        HttpOutgoing(HERE, OutgoingLimits(ca_file=str(tmp_path / "gone.pem")))
