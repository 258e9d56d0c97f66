"""``cador user`` and ``cador token``."""

from typing import Annotated

from cyclopts import Parameter

from cador.cli.client import Client, connect
from cador.cli.login import read_secret
from cador.cli.options import Json, Yes, group
from cador.cli.output import Failure, moment, plain, result, result_json, say, table
from cador.cli.terminal import confirm
from cador.client import shapes

user = group(
    "user", "Users.\n\n  $ cador user list\n  $ cador user create alice --name Alice --email alice@example.com"
)
token = group("token", "API tokens. A token is shown once, when it is made.\n\n  $ cador token create ci")

_Account = Annotated[str, Parameter(help="Account, as at sign-in.")]


def find_uid(client: Client, account: str) -> str:
    """The id of the user with that account; empty: one's own. Raises: Failure."""
    if not account:
        return client.server.me()["uid"]
    found = client.users.find(account)
    if found is None:
        raise Failure(f"there is no user {account}; cador user list shows those there are")
    return found["uid"]


@user.command(name="list")
def list_users(*, json: Json = False) -> int:
    """All users.

    $ cador user list
    """
    rows = connect().users.list()
    if json:
        result_json(rows)
    else:
        table(
            ("account", "name", "uid", "last login"),
            ((one["account"], one["name"], one["uid"], moment(one["last_login_time"])) for one in rows),
        )
    return 0


@user.command
def show(account: _Account, /, *, json: Json = False) -> int:
    """One user.

    $ cador user show alice
    """
    client = connect()
    detail = client.users.get(find_uid(client, account))
    if json:
        result_json(detail)
    else:
        for key, value in detail.items():
            result(plain(f"{key}: {value}"))
    return 0


@user.command
def create(
    account: _Account,
    /,
    *,
    name: Annotated[str, Parameter(help="Name that is shown; else the account.")] = "",
    email: str = "",
    phone: str = "",
) -> int:
    """Create a user. The password is asked for, or read from stdin.

    $ cador user create alice --name Alice --email alice@example.com
    """
    password = read_secret(f"Password of {account}: ")
    connect().users.create(account, password, name=name, email=email, phone=phone)
    say(f"user {account} is created")
    return 0


@user.command
def delete(account: _Account, /, *, yes: Yes = False) -> int:
    """Delete a user with all tokens.

    $ cador user delete alice
    """
    client = connect()
    uid = find_uid(client, account)
    confirm(f"Delete user {account}?", yes)
    client.users.delete(uid)
    say(f"user {account} is deleted")
    return 0


_Of = Annotated[str, Parameter(name="--user", help="Account whose tokens are meant; else your own.")]
_Ident = Annotated[str, Parameter(help="Id of the token, from the list.")]
_COLUMNS = ("id", "kind", "name", "prefix", "scopes", "projects", "made", "ends", "last used")


def _token_line(one: shapes.Token) -> list[object]:
    times = map(moment, (one["create_time"], one["expire_time"], one["last_used_time"]))
    limits = [" ".join(one["scopes"]), " ".join(one["projects"])]
    return [one["id"], one["kind"], one["name"], one["prefix"], *limits, *times]


@token.command(name="list")
def list_tokens(
    *,
    user: _Of = "",
    all_users: Annotated[bool, Parameter(name="--all", negative="", help="Of all users.")] = False,
    prefix: Annotated[
        str, Parameter(help="With --all: how the text begins; a whole token found somewhere will do.")
    ] = "",
    json: Json = False,
) -> int:
    """Tokens and sessions: names, ages, never the tokens themselves.

    $ cador token list
    $ cador token list --all --prefix cador_Ab3x
    """
    client = connect()
    if not all_users and not prefix:
        own = client.tokens.list(find_uid(client, user))
        if json:
            result_json(own)
        else:
            table(_COLUMNS, map(_token_line, own))
        return 0
    rows = client.tokens.of_all(prefix=prefix)
    if json:
        result_json(rows)
    else:
        table(("account", *_COLUMNS), ([one["account"], *_token_line(one)] for one in rows))
    return 0


@token.command(name="create")
def create_token(
    name: Annotated[str, Parameter(help="What it is for.")],
    /,
    *,
    scope: Annotated[
        list[str] | None, Parameter(negative="", help="Action it is limited to (get_workflow, run_workflow ...).")
    ] = None,
    project: Annotated[
        list[str] | None, Parameter(name="--project", negative="", help="Project it is limited to; again for more.")
    ] = None,
    days: Annotated[int, Parameter(help="How long it is good for; 0 for ever.")] = 0,
    user: _Of = "",
    json: Json = False,
) -> int:
    """Make a token. It is printed once and cannot be shown again.

    $ cador token create ci --scope run_workflow --scope get_workflow --project shop --days 90
    """
    client = connect()
    uid = find_uid(client, user)
    _told(client.tokens.create(uid, name, scopes=scope or (), projects=project or (), expires_in_days=days), json)
    return 0


def _told(reply: shapes.NewToken, json: bool) -> None:
    if json:
        result_json(reply)
    else:
        result(reply["token"])


@token.command(name="rotate")
def rotate_token(ident: _Ident, /, *, user: _Of = "", json: Json = False) -> int:
    """Give a token another text, printed once: the old one is refused from now on.

    $ cador token rotate 3
    """
    client = connect()
    _told(client.tokens.rotate(find_uid(client, user), ident), json)
    return 0


@token.command(name="delete")
def delete_token(ident: _Ident, /, *, user: _Of = "") -> int:
    """Delete a token: whoever uses it is refused from now on.

    $ cador token delete 3
    """
    client = connect()
    client.tokens.delete(find_uid(client, user), ident)
    say(f"token {ident} is deleted")
    return 0
