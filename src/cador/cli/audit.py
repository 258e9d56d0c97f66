"""``cador audit``: who changed what, and whether the record is as it was written."""

import json as jsons
from typing import Annotated, Any

from cyclopts import Parameter

from cador.cli.client import connect
from cador.cli.options import Json, group
from cador.cli.output import FAILED, USAGE, Failure, plain, result, result_json, say, table
from cador.client import shapes

audit = group(
    "audit",
    """The audit record: every change with who made it, as a chain in which each entry covers the one before.

      $ cador audit list --account alice
      $ cador audit verify""",
)


@audit.command(name="list")
def list_entries(
    *,
    account: Annotated[str, Parameter(help="Of this account alone.")] = "",
    project: Annotated[str, Parameter(name=["--project", "-p"], help="Of this project alone.")] = "",
    action: Annotated[str, Parameter(help="Of this action alone, as edit_workflow.")] = "",
    limit: Annotated[int, Parameter(help="How many, newest first; 0 for all.")] = 50,
    json: Json = False,
) -> int:
    """Who changed what, newest first.

    $ cador audit list --project shop --limit 20
    """
    rows = connect().audit.list(account=account, project=project, action=action, limit=limit)
    if json:
        result_json(rows)
    else:
        table(
            ("id", "at", "account", "action", "project", "target", "detail"),
            (_line(one) for one in rows),
        )  # fmt: skip
    return 0


def _line(one: shapes.AuditEntry) -> tuple[object, ...]:
    who = one["id"], one["at"], one["account"], one["action"], one["project"], one["target"]
    return *who, _brief(one["detail"])


def _brief(detail: dict[str, Any]) -> str:
    text = plain(jsons.dumps(detail, ensure_ascii=False)) if detail else ""
    return text if len(text) <= 80 else f"{text[:77]}..."


@audit.command
def verify(
    *,
    known: Annotated[
        str, Parameter(help="ID:HASH as an earlier verify printed it: shows a record that was written anew as a whole.")
    ] = "",
    json: Json = False,
) -> int:
    """Check that no entry was changed, removed, moved or cut off. Prints the newest entry for --known.

    $ cador audit verify
    $ cador audit verify --known 4711:9f86d081884c7d65
    """
    ident, colon, digest = known.partition(":")
    if known and (not colon or not ident.isdecimal() or not digest):
        raise Failure("--known is ID:HASH, as cador audit verify prints it", USAGE)
    found = connect().audit.verify(int(ident or 0), digest)
    if json:
        result_json(found)
    elif found["ok"]:
        say(f"{found['entries']} entries, all as they were written")
        result(f"{found['last_id']}:{found['last_hash']}")
    else:
        say(f"cador: {found['broken']} ({found['entries']} entries before it are as they were written)")
    return 0 if found["ok"] else FAILED
