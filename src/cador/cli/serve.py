"""``cador serve``, ``migrate``, ``version`` and ``completion``."""

import contextlib
import gc
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cador import __version__
from cador.cli.options import Json
from cador.cli.output import Failure, result, result_json

_Data = Annotated[Path | None, Parameter(help="Data folder; else CADOR_DATA, else $XDG_DATA_HOME/cador.")]
_Config = Annotated[Path | None, Parameter(help="Settings file; else cador.toml in the data folder.")]
_Database = Annotated[str | None, Parameter(help="Database URL; else the SQLite file of the data folder.")]


@contextlib.contextmanager
def _without_rich() -> Iterator[None]:
    """structlog loads rich where it is installed, for coloured tracebacks: 10 MB and a quarter of a second for
    something a server never prints."""
    hidden = "rich" not in sys.modules
    if hidden:
        sys.modules["rich"] = None  # type: ignore[assignment]  # how Python says: not to be had
    try:
        yield
    finally:
        if hidden:
            del sys.modules["rich"]


def serve(
    *,
    data: _Data = None,
    listen: Annotated[str | None, Parameter(help="Address and port, 127.0.0.1:8700; port 0 takes a free one.")] = None,
    database: _Database = None,
    config: _Config = None,
) -> int:
    """Run the server.

    SIGTERM or Ctrl-C stops it within seconds and leaves running jobs alone: the next start takes them over.

    $ cador serve --listen 127.0.0.1:8700
    """
    # Nothing that is loaded now is ever garbage; the server turns collection on when it is ready.
    gc.disable()
    with _without_rich():
        from cador import bootstrap
    from cador.settings import load

    settings = load({"data": data, "listen": listen, "database": database}, config=config)
    return bootstrap.serve(settings)


def migrate(*, data: _Data = None, database: _Database = None, config: _Config = None) -> int:
    """Bring the database to this version; serve does it by itself.

    $ cador migrate --database postgresql://cador@db/cador
    """
    from cador import bootstrap
    from cador.settings import load

    return bootstrap.migrate(load({"data": data, "database": database}, config=config))


def version(*, json: Json = False) -> int:
    """Version of this program, and of the server it talks to.

    $ cador version
    """
    from cador.cli.client import connect

    facts = {"cador": __version__, "python": platform.python_version(), "server": "", "url": ""}
    try:
        client = connect()
        facts["server"], facts["url"] = client.server.version(), client.place.url
    except Failure as failure:
        facts["server"] = f"not reached: {failure.message}"
    if json:
        result_json(facts)
    else:
        result(f"cador {facts['cador']} (Python {facts['python']})")
        result(f"server {facts['server']}" + (f" at {facts['url']}" if facts["url"] else ""))
    return 0


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Which shell.")]) -> int:
    """Print the completion script of a shell.

    $ cador completion bash > ~/.local/share/bash-completion/completions/cador
    $ cador completion zsh > ~/.zfunc/_cador
    $ cador completion fish > ~/.config/fish/completions/cador.fish
    """
    from cador.cli.app import build

    print(build().generate_completion(prog_name="cador", shell=shell))
    return 0
