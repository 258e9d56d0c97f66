"""``cador login`` and ``cador context``: remembered servers."""

import getpass
import sys
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

from cador.cli.client import Client
from cador.cli.contexts import Contexts, Place, contexts_file, read_contexts, write_contexts
from cador.cli.options import Json, group
from cador.cli.output import FAILED, USAGE, Failure, result_json, say, table

context = group(
    "context",
    """Remembered servers.

      $ cador context list
      $ cador context use production""",
)


def login(
    url: Annotated[str, Parameter(help="Address of the server, e.g. https://ci.example.com.")],
    /,
    *,
    token: Annotated[
        str, Parameter(allow_leading_hyphen=True, help="API token; - reads it from stdin. Without it you are asked.")
    ] = "",
    account: Annotated[str, Parameter(help="Sign in with account and password instead.")] = "",
    oidc: Annotated[
        bool, Parameter(negative="", help="Sign in by the OpenID provider of the server, in a browser.")
    ] = False,
    name: Annotated[str, Parameter(help="Name of the context; else the server's host name.")] = "",
) -> int:
    """Remember a server and a token, and use them from now on.

    $ cador login https://ci.example.com
    $ cador login http://127.0.0.1:8700 --token - < admin-token
    $ cador login https://ci.example.com --oidc
    """
    url = (url if "://" in url else f"https://{url}").rstrip("/")
    if bool(token) + bool(account) + oidc > 1:
        raise Failure("--token, --account and --oidc exclude each other", USAGE)
    if oidc:
        from cador.cli.browser_login import token_by_browser  # a server and a browser, only for those who want them

        token = token_by_browser(url)
    elif account:
        password = read_secret("Password: ")
        token = Client(Place(url, "", "cador login")).server.login(account, password)
    elif token in ("", "-"):
        token = read_secret("Token: ")
    if not token or any(character.isspace() for character in token):
        raise Failure("that is no token: it is one word", USAGE)
    me = Client(Place(url, token, "cador login")).server.me()
    name = name or urlsplit(url).netloc
    path = contexts_file()
    known = read_contexts(path).known
    write_contexts(path, Contexts(name, {**known, name: (url, token)}))
    say(f"logged in to {url} as {me.get('name') or me.get('account')}; context {name}")
    return 0


def read_secret(prompt: str) -> str:
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().strip()


@context.command(name="list")
def list_(*, json: Json = False) -> int:
    """All remembered servers; the current one has a star.

    $ cador context list
    """
    contexts = read_contexts(contexts_file())
    if json:
        result_json(
            [
                {"name": name, "url": url, "current": name == contexts.current}
                for name, (url, _) in contexts.known.items()
            ]
        )
        return 0
    table(
        ("", "name", "url"),
        (("*" if name == contexts.current else "", name, url) for name, (url, _) in contexts.known.items()),
    )
    return 0


@context.command
def use(
    name: Annotated[
        str, Parameter(allow_leading_hyphen=True, help="Name of the context; - for none: the server of this machine.")
    ],
    /,
) -> int:
    """Talk to this server from now on.

    $ cador context use production
    """
    path, contexts = contexts_file(), _known("" if name == "-" else name)
    write_contexts(path, Contexts("" if name == "-" else name, contexts.known))
    return 0


@context.command
def delete(name: Annotated[str, Parameter(help="Name of the context.")], /) -> int:
    """Forget a server and its token. The token stays good: cador token delete ends it.

    $ cador context delete production
    """
    path, contexts = contexts_file(), _known(name)
    known = {other: place for other, place in contexts.known.items() if other != name}
    write_contexts(path, Contexts("" if contexts.current == name else contexts.current, known))
    say(f"context {name} is forgotten")
    return 0


def _known(name: str) -> Contexts:
    """All contexts. Raises: Failure: *name* is none of them."""
    contexts = read_contexts(contexts_file())
    if name and name not in contexts.known:
        raise Failure(f"there is no context {name} (known: {', '.join(contexts.known) or 'none'})", FAILED)
    return contexts
