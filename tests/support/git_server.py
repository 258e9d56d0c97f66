"""Real git servers on 127.0.0.1: over HTTP (git's own backend behind basic auth) and over SSH (OpenSSH)."""

import base64
import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ann Author",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "Cor Committer",
    "GIT_COMMITTER_EMAIL": "cor@example.com",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}


def git(where: Path, *words: str, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", *words], cwd=where, env=_ENV, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


class BareRepository:
    """A bare repository, written by git's plumbing: no work tree, no clone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        git(path, "init", "-q", "--bare", "-b", "main")

    def commit(
        self,
        files: dict[str, str],
        message: str = "change",
        *,
        ref: str = "refs/heads/main",
        parent: str = "",
        submodules: dict[str, str] | None = None,
    ) -> str:
        """Commit *files* (path to content, the whole tree) on top of *parent* and point *ref* at it."""
        index = {**_ENV, "GIT_INDEX_FILE": str(self.path / f"index-{time.monotonic_ns()}")}
        entries = "".join(
            f"100644 {git(self.path, 'hash-object', '-w', '--stdin', stdin=content.encode())}\t{name}\n"
            for name, content in files.items()
        )
        entries += "".join(f"160000 {commit}\t{name}\n" for name, commit in (submodules or {}).items())
        subprocess.run(
            ["git", "update-index", "--add", "--index-info"],
            cwd=self.path, env=index, input=entries.encode(), check=True,
        )  # fmt: skip
        tree = subprocess.run(
            ["git", "write-tree"], cwd=self.path, env=index, capture_output=True, check=True
        ).stdout.decode().strip()  # fmt: skip
        parents = ["-p", parent] if parent else []
        commit = git(self.path, "commit-tree", tree, *parents, stdin=message.encode())
        git(self.path, "update-ref", ref, commit)
        return commit

    def configure(self, name: str, value: str) -> None:
        git(self.path, "config", name, value)


@dataclass
class GitServer:
    """``address``: of the code host, with port and a path; every request must carry *user* and *token*.

    ``old``: it knows the first protocol only. ``fetches``: what is fetched waits for this, when there is one.
    """

    root: Path
    user: str = "oauth2"
    token: str = "tok&n/with:odd chars"
    prefix: str = "/code/host"
    requests: list[str] = field(default_factory=list)
    address: str = ""
    old: bool = False
    fetches: threading.Event | None = None

    def repository(self, name: str) -> BareRepository:
        return BareRepository(self.root / f"{name}.git")

    @contextlib.contextmanager
    def serving(self) -> Iterator["GitServer"]:
        server = _Server(("127.0.0.1", 0), _Handler)
        server.git = self
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        self.address = f"http://127.0.0.1:{server.server_address[1]}{self.prefix}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    git: GitServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        self.server.git.requests.append(self.path)

    def _serve(self) -> None:
        served = self.server.git
        right = base64.b64encode(f"{served.user}:{served.token}".encode()).decode()
        body = self._body()
        if self.headers.get("Authorization") != f"Basic {right}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="code"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        if not path.startswith(served.prefix):
            self.send_error(404)
            return
        if served.fetches is not None and b"command=fetch" in body:
            served.fetches.wait(60)
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            check=False,
            env={
                **_ENV,
                "GIT_PROJECT_ROOT": str(served.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": unquote(path.removeprefix(served.prefix)),
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": "" if served.old else self.headers.get("Git-Protocol", ""),
            },
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


@dataclass
class SshServer:
    """``address``: ``ssh://user@127.0.0.1:port/root``; ``key``: the private key that opens it."""

    address: str
    key: str
    host_key: str
    """Line for known_hosts."""
    wrong_host_key: str
    """The same with another key."""


@contextlib.contextmanager
def ssh_serving(root: Path, work: Path) -> Iterator[SshServer]:
    """An sshd of our own, as the present user. Raises: FileNotFoundError: there is no sshd on this machine."""
    if not Path(SSHD).exists():
        raise FileNotFoundError(SSHD)
    work.mkdir(parents=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / name)], check=True)
    (work / "authorized").write_text((work / "user.pub").read_text())
    (work / "config").write_text(
        f"HostKey {work}/host\nAuthorizedKeysFile {work}/authorized\n"
        "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nPidFile none\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    user = subprocess.run(["id", "-un"], capture_output=True, check=True, text=True).stdout.strip()
    host, other = (" ".join((work / f"{n}.pub").read_text().split()[:2]) for n in ("host", "user"))
    with _one_sshd_for_each_connection([SSHD, "-i", "-e", "-f", str(work / "config")], work / "log") as port:
        where = f"[127.0.0.1]:{port}"
        yield SshServer(
            f"ssh://{user}@127.0.0.1:{port}{root}",
            (work / "user").read_text(),
            f"{where} {host}\n",
            f"{where} {other}\n",
        )


@contextlib.contextmanager
def _one_sshd_for_each_connection(command: list[str], log: Path) -> Iterator[int]:
    """The port. It is ours from the beginning: an sshd that listens itself would have to be told one that is free."""
    running: list[subprocess.Popen[bytes]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as told:

        def accept() -> None:
            with contextlib.suppress(OSError):  # the end
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        running.append(subprocess.Popen(command, stdin=connection, stdout=connection, stderr=told))

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for server in running:
                server.terminate()
                server.wait()
