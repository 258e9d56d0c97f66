"""Which server to talk to: ``CADOR_URL`` and ``CADOR_TOKEN``, else the current context, else the server of this
machine's data folder. Contexts are kept in ``$XDG_CONFIG_HOME/cador/contexts.toml``, mode 0600.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cador.cli.output import UNREACHABLE, USAGE, Failure


@dataclass(frozen=True, slots=True)
class Place:
    """A server and how to be known there. ``source`` says where this was read, for messages."""

    url: str
    token: str
    source: str

    def __repr__(self) -> str:
        return f"Place(url={self.url!r}, token='***', source={self.source!r})"


def contexts_file(environ: Mapping[str, str] = os.environ) -> Path:
    home = environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path("~/.config").expanduser()) / "cador" / "contexts.toml"


@dataclass(frozen=True, slots=True)
class Contexts:
    """``known``: name -> (url, token)."""

    current: str
    known: Mapping[str, tuple[str, str]]


def read_contexts(path: Path) -> Contexts:
    """Raises: Failure when the file is damaged; a missing one is empty."""
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Contexts("", {})
    except UnicodeDecodeError as error:
        raise Failure(f"{path} is damaged (it is not UTF-8 text); mend it or delete it and log in again") from error
    try:
        table = tomllib.loads(text)
        known = {name: (str(one["url"]), str(one["token"])) for name, one in table.get("contexts", {}).items()}
        return Contexts(str(table.get("current", "")), known)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{path} is damaged ({error}); mend it or delete it and log in again") from error


def write_contexts(path: Path, contexts: Contexts) -> None:
    """Replaces the file as a whole; nobody else may read it at any moment."""
    lines = [f"current = {_quoted(contexts.current)}"]
    for name, (url, token) in contexts.known.items():
        lines += ["", f"[contexts.{_quoted(name)}]", f"url = {_quoted(url)}", f"token = {_quoted(token)}"]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    fresh.replace(path)


def _quoted(text: str) -> str:
    import json

    # A JSON string is a TOML basic string but for DEL, which TOML wants escaped (and surrogate pairs, not made here).
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def find_place(environ: Mapping[str, str] = os.environ) -> Place:
    """The server to talk to. Raises: Failure with what to do when there is none."""
    if url := environ.get("CADOR_URL"):
        token = environ.get("CADOR_TOKEN") or _token_for(url, environ)
        return Place(url.rstrip("/"), token, "CADOR_URL")
    contexts = read_contexts(contexts_file(environ))
    name = environ.get("CADOR_CONTEXT") or contexts.current
    if name:
        if name not in contexts.known:
            known = ", ".join(contexts.known) or "none"
            raise Failure(f"there is no context {name} (known: {known}); use cador login URL", USAGE)
        url, token = contexts.known[name]
        return Place(url, environ.get("CADOR_TOKEN") or token, f"context {name}")
    return local_place(environ)


def local_place(environ: Mapping[str, str] = os.environ) -> Place:
    """The server that runs on this machine's data folder. Raises: Failure."""
    import json

    from cador.settings import data_folder

    folder = data_folder(environ)
    try:
        url = str(json.loads((folder / "server.json").read_text(encoding="utf-8"))["url"])
    except FileNotFoundError as error:
        raise Failure(
            f"no server is known: none runs on {folder} (start one with cador serve), and none was named"
            " (cador login URL, or CADOR_URL and CADOR_TOKEN)",
            UNREACHABLE,
        ) from error
    except PermissionError as error:
        raise Failure(f"{error.filename} belongs to another user; set CADOR_URL and CADOR_TOKEN") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"{folder / 'server.json'} is damaged; restart the server") from error
    return Place(url.rstrip("/"), environ.get("CADOR_TOKEN") or _admin_token(folder / "admin-token"), str(folder))


def _admin_token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise Failure(f"{path} is not there (the server was given its token); set CADOR_TOKEN") from error
    except PermissionError as error:
        raise Failure(f"{path} belongs to another user; set CADOR_TOKEN") from error


def _token_for(url: str, environ: Mapping[str, str]) -> str:
    """The remembered token of exactly this address; never one of another server."""
    for known, token in read_contexts(contexts_file(environ)).known.values():
        if known.rstrip("/") == url.rstrip("/"):
            return token
    return ""
