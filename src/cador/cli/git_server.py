"""A git server on this machine for the demo and for local runs: real repositories over real git HTTP, read-only.

Each repository is one snapshot commit of a folder. Whoever asks must know the token.
"""

import base64
import hmac
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType
from typing import IO, Final
from urllib.parse import unquote, urlsplit

from cador.cli.output import Failure

_AUTHOR: Final = ("-c", "user.name=cador", "-c", "user.email=cador@localhost")
_GIT_S: Final = 120


def git(*words: str, cwd: Path | None = None, data: bytes | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run git and return what it printed. Raises: Failure with git's own words."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *words], cwd=cwd, input=data or b"", env={**clean, **(env or {})}, capture_output=True,
            timeout=_GIT_S, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Failure("git is not installed; install it with your package manager (apt-get install git)") from error
    if done.returncode:
        raise Failure(f"git {words[0]}: {done.stderr.decode('utf-8', 'replace').strip()}")
    return done.stdout.decode("utf-8", "replace")


def snapshot(folder: Path, repository: Path, message: str, branches: tuple[str, ...] = ("main",)) -> str:
    """Make the bare *repository* with one commit of everything in *folder* that git would not ignore.

    Uncommitted changes are in it; *folder* and a ``.git`` in it are not touched. Returns the commit id.
    Raises: Failure.
    """
    git("init", "-q", "--bare", f"--initial-branch={branches[0]}", str(repository))
    git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=repository)
    env = {"GIT_DIR": str(repository), "GIT_WORK_TREE": str(folder)}
    git("add", "-A", "--", ".", cwd=folder, env=env)
    if tracked := _tracked(folder):
        # What is tracked although .gitignore names it belongs to the project, too.
        git("add", "-f", "--pathspec-from-file=-", "--pathspec-file-nul", cwd=folder, data=tracked, env=env)
    git(*_AUTHOR, "commit", "-q", "--allow-empty", "--no-verify", "-m", message, cwd=folder, env=env)
    commit = git("rev-parse", "HEAD", cwd=repository).strip()
    for branch in branches[1:]:
        git("update-ref", f"refs/heads/{branch}", commit, cwd=repository)
    return commit


def _tracked(folder: Path) -> bytes:
    if not (folder / ".git").exists():
        return b""
    names = git("-c", "core.quotepath=off", "ls-files", "-z", "--cached", cwd=folder).split("\0")
    kept = [name for name in names if name and os.path.lexists(folder / name)]
    return "".join(f":(literal){name}\0" for name in kept).encode()


class GitServer:
    """Serves bare repositories below *root* (``namespace/name.git``) on 127.0.0.1 while the context is open."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.token = secrets.token_urlsafe(24)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.root, self._server.token = root, self.token
        self._server.backend = Path(git("--exec-path").strip()) / "git-http-backend"
        if not os.access(self._server.backend, os.X_OK):
            self._server.server_close()
            raise Failure(f"{self._server.backend} is missing: this git cannot serve repositories over HTTP")
        self._thread = threading.Thread(target=self._server.serve_forever, name="git server", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "GitServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    root: Path
    token: str
    backend: Path


class _Handler(BaseHTTPRequestHandler):
    """Hands requests to ``git http-backend`` by CGI."""

    server: _Server
    protocol_version = "HTTP/1.0"
    timeout = 60

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = _unchunk(self.rfile)
        else:
            body = self.rfile.read(length)
        self._serve(body)

    def _serve(self, body: bytes) -> None:
        if not self._known():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        url = urlsplit(self.path)
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": unquote(url.path),
            "QUERY_STRING": url.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_NOSYSTEM": "1",
            "REMOTE_ADDR": "127.0.0.1",
        }
        with subprocess.Popen(
            [self.server.backend], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            writer = threading.Thread(target=_feed, args=(process.stdin, body), daemon=True)
            writer.start()
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            try:
                self._reply(process.stdout)
            except (BrokenPipeError, ConnectionResetError, TimeoutError):
                process.kill()  # the client went away
            writer.join()

    def _reply(self, output: IO[bytes]) -> None:
        status, headers = 200, list[tuple[str, str]]()
        while line := output.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower() == "status":
                status = int(value.split()[0])
            else:
                headers.append((name, value.strip()))
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        self.end_headers()
        shutil.copyfileobj(output, self.wfile)

    def _known(self) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            password = given.strip()
        else:
            try:
                password = base64.b64decode(given).decode().partition(":")[2]
            except ValueError:
                return False
        return hmac.compare_digest(password.encode(), self.server.token.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: git tells its client what is wrong."""


def _feed(pipe: IO[bytes] | None, body: bytes) -> None:
    if pipe is not None:
        try:
            with pipe:
                pipe.write(body)
        except BrokenPipeError:
            pass  # git had heard enough


def _unchunk(stream: BufferedIOBase) -> bytes:
    parts = []
    while size := int(stream.readline().split(b";")[0], 16):
        parts.append(stream.read(size))
        stream.readline()
    stream.readline()
    return b"".join(parts)
