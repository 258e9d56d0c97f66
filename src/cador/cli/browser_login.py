"""Logging in by a browser: it signs in at the provider of the server and comes back to this command.

The command waits on a port of the loopback address. Where the browser runs on another machine, what it shows in its
address bar at the end is pasted here instead. Either way the code is of use to this command alone: it knows the word
that its challenge was made of.
"""

import base64
import hashlib
import html
import os
import secrets
import selectors
import socket
import sys
import time
import webbrowser
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from cador.cli.client import Client
from cador.cli.contexts import Place
from cador.cli.output import FAILED, Failure, say

WAIT_S: Final = 600.0
LONGEST_LINE: Final = 8192
_PAGE: Final = "<!doctype html><meta charset=utf-8><title>cador</title><p>{}</p>"


class _Back(BaseHTTPRequestHandler):
    timeout = 5.0
    server: "_Waiting"

    def do_GET(self) -> None:
        code = _code_of(self.path)
        known = urlsplit(self.path).path == "/" and bool(code)
        text = "You are logged in; this page can be closed." if known else "Nothing is here."
        page = _PAGE.format(html.escape(text)).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(page)
        if known:
            self.server.code = code

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the address holds the code."""


class _Waiting(HTTPServer):
    code = ""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that came to nothing is nobody's business."""


def _code_of(text: str) -> str:
    """The code in a URL, or in the path of one."""
    found = parse_qs(urlsplit(text.strip()).query).get("code", ())
    return found[0] if found else ""


def token_by_browser(url: str) -> str:
    """Let somebody log in to the server *url*. Raises: Failure."""
    client = Client(Place(url, "", "cador login"))
    verifier = secrets.token_urlsafe(32)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    with _Waiting(("127.0.0.1", 0), _Back) as waiting:
        query = urlencode({"cli_port": waiting.server_address[1], "cli_challenge": challenge})
        address = f"{url}/api/v1/auth/oidc/login?{query}"
        say(f"Log in with a browser:\n\n  {address}\n")
        say("If it runs on another machine, paste here what its address bar shows in the end.")
        with suppress(webbrowser.Error):
            webbrowser.open(address)
        code = _wait(waiting)
    login = client.call("POST", "/api/v1/auth/oidc/token", None, {"code": code, "verifier": verifier})
    return str(login["token"])


def _wait(waiting: _Waiting) -> str:
    """The code, from the browser or from a line of stdin. Raises: Failure: nobody came."""
    deadline = time.monotonic() + WAIT_S
    typed = b""
    with selectors.DefaultSelector() as selector:
        selector.register(waiting, selectors.EVENT_READ)
        with suppress(ValueError, OSError):  # no stdin, or a file, which is no place to wait at
            selector.register(sys.stdin, selectors.EVENT_READ)
        while (left_s := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                if key.fileobj is waiting:
                    with suppress(socket.timeout, OSError):
                        waiting.handle_request()
                    code = waiting.code
                else:
                    # Not by readline: what it reads ahead nobody would be woken for.
                    piece = os.read(sys.stdin.fileno(), LONGEST_LINE)
                    if not piece:
                        selector.unregister(sys.stdin)
                    *lines, typed = (typed + (piece or b"\n")).split(b"\n")
                    typed = typed[-LONGEST_LINE:]
                    texts = [line.decode("utf-8", "replace").strip() for line in lines]
                    code = next(filter(None, map(_code_of, texts)), "")
                    if not code and any(texts):
                        say("That holds no code: paste the whole address, http://127.0.0.1:.../?code=...")
                if code:
                    return code
    raise Failure("nobody logged in", FAILED)
