"""A small real mail server: greets, begins TLS, lets people log in, and remembers what it was told."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

USER, PASSWORD = "ci", "smtp-s3cret-of-tests"


@dataclass
class MailServer:
    """*tls*: context of the server; *implicit*: from the first byte, else after STARTTLS. *ways*: how to log in.
    *greeting*: its first line; empty: it says nothing. *endless*: its answers have no end."""

    tls: ssl.SSLContext | None = None
    implicit: bool = False
    ways: str = "PLAIN LOGIN"
    greeting: str = "220 mail.example.com ESMTP"
    refuses_sender: bool = False
    endless: bool = False
    port: int = 0
    lines: list[str] = field(default_factory=list)
    secure: bool = False

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.secure = self.implicit
        with contextlib.suppress(OSError, EOFError):
            if self.greeting:
                await self._say(writer, self.greeting)
            while line := (await reader.readline()).decode().rstrip("\r\n"):
                self.lines.append(line)
                word = line.partition(" ")[0].upper()
                if word == "QUIT":
                    await self._say(writer, "221 bye")
                    break
                await self._answer(word, line, reader, writer)
        writer.close()

    async def _answer(self, word: str, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if word == "EHLO" and self.endless:
            for _ in range(1_000):
                await self._say(writer, "250-more")
        elif word == "EHLO":
            can = ["250-mail.example.com", "250-SIZE 1000"]
            if self.tls is not None and not self.secure:
                can.append("250-STARTTLS")
            elif self.ways:
                can.append(f"250-AUTH {self.ways}")
            await self._say(writer, *can, "250 8BITMIME")
        elif word == "STARTTLS" and self.tls is not None:
            await self._say(writer, "220 go ahead")
            await writer.start_tls(self.tls)
            self.secure = True
        elif word == "AUTH":
            await self._log_in(line.split(), reader, writer)
        elif word == "MAIL":
            await self._say(writer, "553 not a sender of ours" if self.refuses_sender else "250 ok")
        else:
            await self._say(writer, "500 what?")

    async def _log_in(self, words: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if words[1] == "PLAIN":
            _, user, password = _decoded(words[2]).split("\0")
        else:
            await self._say(writer, "334 VXNlcm5hbWU6")
            user = _decoded((await reader.readline()).decode())
            await self._say(writer, "334 UGFzc3dvcmQ6")
            password = _decoded((await reader.readline()).decode())
        right = (user, password) == (USER, PASSWORD)
        # some servers say the password back
        await self._say(writer, "235 welcome" if right else f"535 no such pair: {password} {_encoded(password)}")

    async def _say(self, writer: asyncio.StreamWriter, *lines: str) -> None:
        writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await writer.drain()


def _decoded(text: str) -> str:
    return base64.b64decode(text.strip()).decode()


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@contextlib.asynccontextmanager
async def mail_server(server: MailServer) -> AsyncIterator[MailServer]:
    context = server.tls if server.implicit else None
    async with await asyncio.start_server(server.talk, "127.0.0.1", 0, ssl=context) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server
