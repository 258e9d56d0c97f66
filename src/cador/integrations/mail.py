"""Whether a mail server takes mail from here: greeting, TLS, login, sender. No mail is sent."""

import asyncio
import base64
import contextlib
import os
import ssl
from collections.abc import Mapping
from typing import Any, Final

from cador.domain.masking import Masker
from cador.integrations.outgoing import HttpOutgoing

WITHIN_S: Final = 10.0
"""For all of it."""
CLOSE_S: Final = 1.0
_LINE_BYTES: Final = 4_096
_MOST_LINES: Final = 100
_SHOWN: Final = 300


class Refused(Exception):
    """The server said no, or nothing that can be understood; ``str()`` is what it said, without credentials."""


async def check_mail(outgoing: HttpOutgoing, access: Mapping[str, Any]) -> None:
    """*access*: ``host``, ``port``, ``username``, ``password``, ``isTLS`` (from the first byte), ``address`` (of the
    sender, may be empty). Raises: Refused, OutgoingError."""
    host, port = access["host"], access["port"]
    where = f"mail server {host}:{port}"
    try:
        async with asyncio.timeout(WITHIN_S):
            reader, writer = await _connected(outgoing, host, port, tls=access["isTLS"])
            try:
                await _Dialogue(reader, writer).all(outgoing, access)
            finally:
                await _closed(writer)
    except TimeoutError:
        raise Refused(f"{where} did not answer within {WITHIN_S:.0f} seconds") from None
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise Refused(f"{where}: {_reason(error)[:_SHOWN]}") from error
    except Refused as error:
        told = Masker([access["password"]]).mask_text(str(error))
        raise Refused(f"{where} {told}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)  # asyncio says the address again
    return str(error) or type(error).__name__


async def _connected(
    outgoing: HttpOutgoing, host: str, port: int, *, tls: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the first address of the host that answers. Raises: OSError, OutgoingError."""
    context, name = (outgoing.tls(), host.strip("[]")) if tls else (None, None)
    last: OSError = OSError("the host has no address")
    for address in await outgoing.addresses(host, port, chosen_by="operator"):
        try:
            return await asyncio.open_connection(address, port, limit=_LINE_BYTES, ssl=context, server_hostname=name)
        except OSError as error:
            last = error
    raise last


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await writer.wait_closed()


class _Dialogue:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def all(self, outgoing: HttpOutgoing, access: Mapping[str, Any]) -> None:
        """Raises: Refused; OSError, EOFError, LimitOverrunError: the connection."""
        await self._heard("does not greet", 220)
        features = await self._hello()
        if not access["isTLS"] and "STARTTLS" in features:
            await self._say("STARTTLS", "does not begin TLS", 220)
            await self._writer.start_tls(outgoing.tls(), server_hostname=access["host"].strip("[]"))
            features = await self._hello()
        if access["username"]:
            await self._log_in(features.get("AUTH", "").split(), access["username"], access["password"])
        if access["address"]:
            await self._say(f"MAIL FROM:<{access['address']}>", f"does not take mail of {access['address']}", 250)
        with contextlib.suppress(Refused, OSError, EOFError):  # all that was to be known is known
            await self._say("QUIT", "does not end", 221)

    async def _hello(self) -> dict[str, str]:
        """What the server can do: words by their first."""
        lines = await self._say("EHLO cador", "does not say what it can do", 250)
        pairs = (line.partition(" ") for line in lines[1:])
        return {word.upper(): rest.upper() for word, _, rest in pairs}

    async def _log_in(self, ways: list[str], username: str, password: str) -> None:
        what = f"does not log {username} in"
        if "PLAIN" in ways:
            await self._say("AUTH PLAIN " + _encoded(f"\0{username}\0{password}"), what, 235)
        elif "LOGIN" in ways:
            await self._say("AUTH LOGIN", what, 334)
            await self._say(_encoded(username), what, 334)
            await self._say(_encoded(password), what, 235)
        else:
            offered = f"offers only {', '.join(ways)}" if ways else "offers no logins here, perhaps it does over TLS"
            raise Refused(f"{what}: it {offered}")

    async def _say(self, line: str, what: str, expected: int) -> list[str]:
        self._writer.write(line.encode() + b"\r\n")
        await self._writer.drain()
        return await self._heard(what, expected)

    async def _heard(self, what: str, expected: int) -> list[str]:
        """Lines of the answer without its number. Raises: Refused: it is another one."""
        lines: list[str] = []
        for _ in range(_MOST_LINES):
            raw = await self._reader.readuntil(b"\n")
            line = raw.decode("utf-8", "replace").strip()
            lines.append(line[4:])
            if line[3:4] != "-":
                break
        else:
            raise Refused(f"{what}: its answer has no end")
        if line[:3] != str(expected):
            text = " ".join(" ".join(lines).split())
            raise Refused(f"{what}: it answered {line[:3]} {text}"[:_SHOWN])
        return lines


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
