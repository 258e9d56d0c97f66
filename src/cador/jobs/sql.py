"""Job type ``sql``: statements against a registered database, one after the other, the first error ends the job.

Source: API documents, "Execute the Workflow", "SQL Task". A plan is ``{id, name, type, sql}``: of the database, and the
text. Facts of an execution: ``{results: [{sql, elapsed_time, rows_affected, status}]}``.
"""

from collections.abc import Mapping
from typing import Any, Final

from cador.domain.errors import Invalid, NotStartable
from cador.domain.workflow import Job
from cador.jobs.base import Doc, Run, Scope
from cador.jobs.server import ServerType, seen_by
from cador.jobs.values import Input, parse, text
from cador.ports.stores import Resource

Object = dict[str, Any]


class SqlInput(Input):
    database_name: str = ""
    sql: str = ""


class Sql(ServerType):
    """One job task. It is not repeatable: nobody knows which statement a dead server was at."""

    name = "sql"
    repeatable = False

    def updated(self, job: Job, parameters: Doc, scope: Scope) -> Object:
        given = parse(SqlInput, parameters)
        spec = dict(job.spec)
        if given.database_name:
            database = scope.catalogue.find("database", given.database_name)
            if spec.get("source") != "fixed":
                if database is None or not seen_by(database, scope.catalogue.project):
                    raise Invalid(_not_found(given.database_name))
                spec["id"] = database.uid
            elif text(spec.get("id")) not in (given.database_name, database.uid if database is not None else ""):
                scope.warn(f"job {job.name}: the database is fixed and {given.database_name} cannot be given, ignored")
        if given.sql:
            spec["sql"] = given.sql
        return spec

    def plan(self, job: Job, scope: Scope) -> Object:
        sql = text(job.spec.get("sql"))
        if not sql.strip():
            raise NotStartable("SQL is empty")
        ident = text(job.spec.get("id"))
        database = scope.catalogue.by_id("database", ident) or scope.catalogue.find("database", ident)
        if database is None or not seen_by(database, scope.catalogue.project):
            raise NotStartable(_not_found(ident))
        return {
            "id": database.uid,
            "name": database.name,
            "type": text(database.document.get("type")),
            "sql": sql,
        }

    def arguments(self, plan: Doc, run: Run) -> Object:
        database = run.resource("database", plan["id"])
        if database is None or not seen_by(database, run.project):
            raise Invalid(_not_found(plan["name"]))
        return {**access(database, run), "sql": plan["sql"]}

    def view(self, plan: Doc, outputs: Mapping[str, str], result: Doc, final: bool) -> Object:
        return {
            "id": plan["id"],
            "type": plan["type"],
            "sql": plan["sql"],
            "results": list(result.get("results") or ()),
        }


def access(database: Resource, run: Run) -> Object:
    """What a connection needs, the password opened."""
    document = database.document
    return {
        "name": database.name,
        "type": text(document.get("type")),
        "host": text(document.get("host")),
        "port": int(text(document.get("port"))),
        "username": text(document.get("username")),
        "password": run.open(text(document.get("password"))),
        "database": text(document.get("database")),
    }


def _not_found(which: str) -> str:
    return f"failed to find database instance {which}"


SQL: Final = Sql()
