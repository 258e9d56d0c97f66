"""``cador settings``: what administrators change while servers work."""

from typing import Annotated

from cyclopts import Parameter

from cador.cli.client import connect
from cador.cli.options import Json, group
from cador.cli.output import USAGE, Failure, result_json, table
from cador.client import shapes

settings = group(
    "settings",
    """Settings that are changed while servers work.

      $ cador settings show
      $ cador settings set engine.max_running_tasks 8""",
)


@settings.command
def show(*, json: Json = False) -> int:
    """Settings that can be changed, what counts now, and what the configuration says.

    $ cador settings show
    """
    return _print(connect().server.settings(), json=json)


@settings.command(name="set")
def set_setting(
    name: Annotated[str, Parameter(help="Name, as in the configuration.")],
    value: Annotated[str, Parameter(help="A whole number, or default: what the configuration says.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Change a setting on all servers at once. A lowered limit stops nothing.

    $ cador settings set engine.max_running_per_project 4
    $ cador settings set engine.max_running_per_project default
    """
    if value != "default" and not (value.isascii() and value.isdigit()):
        raise Failure(f"{value} is neither a whole number nor default", USAGE)
    number = None if value == "default" else int(value)
    return _print(connect().server.change_settings({name: number}), json=json)


def _print(settings: list[shapes.Setting], *, json: bool) -> int:
    if json:
        result_json({"settings": settings})
        return 0
    rows = ((s["name"], s["value"], s["configured"], "yes" if s["live"] else "no") for s in settings)
    table(("setting", "value", "configured", "changed"), rows)
    return 0
