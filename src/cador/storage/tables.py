"""The tables. What is written here is what the migrations build; a test compares the two on both databases.

Times are Unix seconds, JSON is text, large JSON is compressed (``dialect.Packer``). An ``owner`` of ``""`` is nobody.
Every list of the stores has an index of its order here: nothing scans history.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
    not_,
    text,
    true,
)
from sqlalchemy.types import TypeEngine

REVISION: Final = "0003"
"""The newest migration: what the tables below look like."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")
"""64 bits everywhere; SQLite hands out row ids only to a column it calls INTEGER."""


Bytewise = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that is searched by what it begins with: its order must not depend on a language."""


def word(text: str) -> ColumnElement[str]:
    """*text* as a literal: conditions of partial indexes fit only what is written the same way in a statement."""
    return literal_column(f"'{text}'", Text)


def _id(*, never_again: bool = False) -> Column[int]:
    """*never_again*: the id of a deleted row is not given to a new one, because somebody may still hold it."""
    return Column("id", Id, primary_key=True, autoincrement=True)


def _of_task(*, primary_key: bool = False) -> Column[int]:
    return Column(
        "task_id", Id, ForeignKey("workflow_task.id", ondelete="CASCADE"), primary_key=primary_key, nullable=False
    )


def _of_job() -> Column[int]:
    return Column(
        "job_id",
        Id,
        ForeignKey("job_task.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
        autoincrement=False,
    )


def _text(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=False, primary_key=primary_key)


def _int(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _later(name: str, kind: TypeEngine[Any], default: str) -> "Column[Any]":
    """A column that came after the first release: the database fills it in when an older server writes the row."""
    return Column(name, kind, nullable=False, server_default=text(default))


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean(create_constraint=False), nullable=False)


def _at(name: str) -> Column[float]:
    return Column(name, Double, nullable=False)


def _when(name: str) -> Column[float | None]:
    """A time not reached yet is NULL."""
    return Column(name, Double, nullable=True)


def _partial(name: str, *columns: "Column[int] | Column[float] | Column[str]", where: object) -> Index:
    """The condition is named for SQLite alone: naming PostgreSQL here would load all its drivers into every embedded
    server; :func:`for_postgresql` does it for those who need it."""
    return Index(name, *columns, sqlite_where=where)


def for_postgresql() -> None:
    """Give the partial indexes their condition on PostgreSQL, too. May be called again."""
    for table in metadata.tables.values():
        for index in table.indexes:
            where = index.dialect_options["sqlite"]["where"]
            if where is not None:
                index.dialect_options["postgresql"]["where"] = where


# -- workflows

workflow = Table(
    "workflow",
    metadata,
    _id(never_again=True),
    _text("key"),
    _text("project"),
    _text("display_name"),
    _text("type"),
    _int("concurrency_limit"),
    _flag("disabled"),
    _text("definition"),
    _int("revision"),
    _text("created_by"),
    _at("create_at"),
    _text("updated_by"),
    _at("update_at"),
    UniqueConstraint("key"),
    Index(None, "project", "display_name"),
    sqlite_autoincrement=True,
)

workflow_counter = Table(
    "workflow_counter",
    metadata,
    _text("key", primary_key=True),
    _int("last"),
    _int("tasks"),
    comment="Outlives its workflow: numbers are never used twice. tasks: those that are not deleted.",
)

# -- tasks

workflow_task = Table(
    "workflow_task",
    metadata,
    _id(never_again=True),
    _text("workflow_key"),
    _text("project"),
    _int("number"),
    _text("display_name"),
    _text("type"),
    _text("status"),
    _text("slot"),
    _int("parallel_limit"),
    _int("asks"),
    _text("error"),
    _text("revoker"),
    _text("revoker_id"),
    _text("creator"),
    _text("creator_id"),
    _text("creator_account"),
    _text("trigger"),
    _at("create_at"),
    _when("start_at"),
    _when("end_at"),
    _int("retry_num"),
    _text("retry_wanted"),
    _when("waits_at"),
    _text("remark"),
    _flag("deleted"),
    Column("idempotency_key", Text, nullable=True),
    _later("stamp", BigInteger(), "0"),
    _later("archived", Boolean(create_constraint=False), "FALSE"),
    _later("auto_cancel", Text(), "''"),
    _later("timeout_s", Double(), "0"),
    _later("edits", Integer(), "0"),
    _when("archived_at"),
    UniqueConstraint("workflow_key", "number"),
    UniqueConstraint("creator_id", "idempotency_key"),
    sqlite_autoincrement=True,
    comment="asks: number of its approvals. waits_at: create_at of a task that wants to start or go on, else NULL. "
    "stamp: another one with every change of the task, its stages, jobs or approvals; never used twice for one task. "
    "archived: out of the lists, found by number; archived_at: since when. "
    "auto_cancel: a newer task of the workflow with the same word cancels it. timeout_s: of the whole task, 0: none. "
    "edits: how often its snapshot was changed",
)

_t = workflow_task.c
TASK_WAITS: Final = _t.waits_at.is_not(None)
TASK_LIVES: Final = _t.status.in_(
    [word("waiting"), word("running"), word("cancelling"), word("expiring"), word("pause")]
)
TASK_COUNTS: Final = and_(_t.status.in_([word("running"), word("cancelling"), word("expiring")]), TASK_LIVES)
"""Against the limit of its workflow. Says twice what it means: that it lives makes the index of the living fit. What
comes first is what SQLite searches by: else it would walk through all that wait."""
TASK_HOLDS: Final = _t.slot == word("held")
TASK_SHOWN: Final = not_(_t.deleted)
"""Found by number."""
TASK_LISTED: Final = and_(not_(_t.deleted), not_(_t.archived))
TASK_GONE: Final = _t.deleted.is_(true())
TASK_ARCHIVED: Final = _t.archived.is_(true())
TASK_WORDED: Final = and_(TASK_LIVES, _t.auto_cancel != word(""))
"""May be cancelled by a newer one."""

for _order in (
    (_t.create_at, _t.id),
    (_t.project, _t.create_at, _t.id),
    (_t.workflow_key, _t.create_at, _t.id),
    (_t.creator, _t.create_at, _t.id),
    (_t.status, _t.create_at, _t.id),
    (_t.project, _t.status, _t.create_at, _t.id),
    (_t.project, _t.creator, _t.create_at, _t.id),
    (_t.workflow_key, _t.creator, _t.create_at, _t.id),
    (_t.workflow_key, _t.status, _t.create_at, _t.id),
):
    _partial("ix_workflow_task_" + "_".join(column.name for column in _order), *_order, where=TASK_LISTED)
_partial("ix_workflow_task_waits", _t.waits_at, _t.id, where=TASK_WAITS)
_partial("ix_workflow_task_waits_of", _t.project, _t.waits_at, _t.id, where=TASK_WAITS)
_partial(
    "ix_workflow_task_waits_group", _t.project, _t.slot, _t.workflow_key, _t.creator_id, _t.waits_at, _t.id,
    where=TASK_WAITS,
)  # fmt: skip
_partial("ix_workflow_task_lives", _t.workflow_key, _t.status, _t.number, where=TASK_LIVES)
_partial("ix_workflow_task_holds", _t.id, where=TASK_HOLDS)
_partial("ix_workflow_task_words", _t.workflow_key, _t.auto_cancel, where=TASK_WORDED)
_partial("ix_workflow_task_gone", _t.workflow_key, _t.id, where=TASK_GONE)
_partial("ix_workflow_task_archived", _t.archived_at, _t.id, where=TASK_ARCHIVED)

task_snapshot = Table(
    "task_snapshot", metadata, _of_task(primary_key=True), Column("body", LargeBinary, nullable=False)
)

task_commit = Table(
    "task_commit",
    metadata,
    Column("commit_id", Bytewise, primary_key=True, nullable=False),
    _text("project", primary_key=True),
    _of_task(primary_key=True),
    Index(None, "task_id", "commit_id"),
    comment="Commits of the repositories its jobs work on. project: of the task",
)

stage_task = Table(
    "stage_task",
    metadata,
    _of_task(primary_key=True),
    Column("idx", Integer, primary_key=True, nullable=False, autoincrement=False),
    _text("name"),
    _flag("parallel"),
    _text("status"),
    _text("error"),
    _when("start_at"),
    _when("end_at"),
    _later("manual", Text(), "''"),
    _later("executed_by", Text(), "''"),
    comment="manual: JSON of who may execute it and whether its inputs may be changed; empty: it starts by itself. "
    "executed_by: name of who executed it",
)

job_task = Table(
    "job_task",
    metadata,
    _id(never_again=True),
    _of_task(),
    _int("position"),
    _int("stage"),
    _text("name"),
    _text("job"),
    _text("key"),
    _text("display_name"),
    _text("type"),
    _text("kind"),
    _text("status"),
    _text("error"),
    _int("attempt"),
    _int("recovery"),
    _int("retry_count"),
    _text("stopping"),
    _when("start_at"),
    _when("end_at"),
    _when("deadline_at"),
    Column("timeout_s", Double, nullable=False),
    _text("policy"),
    _int("maximum_retry"),
    _flag("repeatable"),
    _text("failed_as"),
    _text("approval_users"),
    _later("conditional", Boolean(create_constraint=False), "FALSE"),
    UniqueConstraint("task_id", "position"),
    sqlite_autoincrement=True,
    comment="conditional: of an approval, its execute policy is asked before people are",
)

job_body = Table(
    "job_body",
    metadata,
    _of_job(),
    _text("outputs"),
    _text("result"),
    Column("plan", LargeBinary, nullable=False),
    comment="What deciding never reads, so that loading a task costs the same whatever its jobs contain",
)

job_attempt = Table(
    "job_attempt",
    metadata,
    _of_job(),
    Column("attempt", Integer, primary_key=True, nullable=False, autoincrement=False),
    _text("status"),
    _text("error"),
    _when("start_at"),
    _when("end_at"),
    _text("steps"),
    _later("home", Text(), "''"),
    comment="home: data folder that holds its log and artifacts; empty where there is only one",
)

approval = Table(
    "approval",
    metadata,
    _id(never_again=True),
    _of_task(),
    _int("stage"),
    Column("job_id", Id, ForeignKey("job_task.id", ondelete="CASCADE"), nullable=True),
    _int("needed"),
    _text("approvers"),
    Column("timeout_s", Double, nullable=False),
    _text("status"),
    _int("round"),
    _when("start_at"),
    _when("end_at"),
    _text("description"),
    _text("type"),
    Index(None, "task_id"),
    Index(None, "job_id"),
    sqlite_autoincrement=True,
)
APPROVAL_OPEN: Final = approval.c.status == word("waiting")
_partial("ix_approval_open", approval.c.task_id, where=APPROVAL_OPEN)

vote = Table(
    "vote",
    metadata,
    _id(),
    Column("approval_id", Id, ForeignKey("approval.id", ondelete="CASCADE"), nullable=False),
    _int("round"),
    _text("user_id"),
    _text("user_name"),
    _flag("approve"),
    _text("comment"),
    _at("at"),
    UniqueConstraint("approval_id", "round", "user_id"),
)

event = Table(
    "event",
    metadata,
    _id(),
    _of_task(),
    _at("at"),
    _text("kind"),
    _text("data"),
    Index(None, "task_id", "id"),
)

# -- telling the outside

receiver = Table(
    "receiver",
    metadata,
    _of_task(primary_key=True),
    _text("name", primary_key=True),
    _text("kind"),
    _text("hears"),
    _text("document"),
    comment="Who outside hears of a task. hears: of which news, separated by commas. document: sealed",
)

delivery = Table(
    "delivery",
    metadata,
    _of_task(primary_key=True),
    _text("receiver", primary_key=True),
    _text("what", primary_key=True),
    Column("round", Integer, primary_key=True, nullable=False, autoincrement=False),
    _text("body"),
    comment="News that a receiver has not heard yet: a command of kind deliver carries it there",
)

# -- commands and executions

command = Table(
    "command",
    metadata,
    _id(never_again=True),
    _text("key"),
    _text("kind"),
    Column("task_id", Id, nullable=False),
    _text("payload"),
    _at("due_at"),
    _text("owner"),
    _int("tries"),
    _later("place", Text(), "''"),
    UniqueConstraint("key"),
    sqlite_autoincrement=True,
    comment="place: of a start that came back: where it may have begun; else empty",
)

_c = command.c
COMMAND_FREE_START: Final = and_(_c.owner == word(""), _c.kind == word("start"))
COMMAND_FREE_OTHER: Final = and_(_c.owner == word(""), _c.kind != word("start"))
COMMAND_ADMIT: Final = _c.kind == word("admit")
_partial("ix_command_free_start", _c.due_at, _c.id, where=COMMAND_FREE_START)
_partial("ix_command_free_other", _c.due_at, _c.id, where=COMMAND_FREE_OTHER)
_partial("ix_command_admit", _c.id, where=COMMAND_ADMIT)

execution = Table(
    "execution",
    metadata,
    _text("key", primary_key=True),
    Column("task_id", Id, nullable=False),
    Column("job_id", Id, nullable=False),
    _int("attempt"),
    _int("recovery"),
    _text("executor"),
    _text("place"),
    _text("ref"),
    _text("owner"),
    _at("created_at"),
    Index(None, "job_id"),
    Index(None, "owner"),
    Index(None, "place"),
)

admission = Table(
    "admission",
    metadata,
    Column("id", Integer, primary_key=True, nullable=False, autoincrement=False),
    Column("max_running_tasks", Integer, nullable=True),
    Column("max_per_project", Integer, nullable=True),
    Column("max_per_user", Integer, nullable=True),
    _later("vtime", Double(), "0"),
    CheckConstraint("id = 1", name="one_row"),
    comment="One row: who holds it may let tasks become running. Limits that are NULL are those of the settings",
)

share = Table(
    "share",
    metadata,
    _text("project", primary_key=True),
    _at("vtime"),
    comment="How much each project has been given: whose virtual time is least is next",
)

replica = Table(
    "replica",
    metadata,
    _text("id", primary_key=True),
    _text("place"),
    _text("address"),
    _at("started_at"),
    _at("seen_at"),
    _later("home", Text(), "''"),
)

remains = Table(
    "remains",
    metadata,
    _id(),
    _text("home"),
    _text("workflow_key"),
    _int("number"),
    _at("at"),
    Index(None, "home", "id"),
    comment="Logs and artifacts of archived and removed tasks still to be deleted, in the data folder home",
)

# -- resources

resource = Table(
    "resource",
    metadata,
    _id(never_again=True),
    _text("uid"),
    _text("kind"),
    _text("project"),
    _text("name"),
    _text("document"),
    _int("revision"),
    _text("created_by"),
    _at("create_at"),
    _text("updated_by"),
    _at("update_at"),
    UniqueConstraint("uid"),
    UniqueConstraint("kind", "project", "name"),
    Index(None, "project"),
    sqlite_autoincrement=True,
)

catalogue_version = Table(
    "catalogue_version",
    metadata,
    Column("id", Integer, primary_key=True, nullable=False, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

# -- people

user = Table(
    "user",
    metadata,
    _text("uid", primary_key=True),
    _text("account"),
    _text("name"),
    _text("email"),
    _text("phone"),
    _text("identity_type"),
    _flag("admin"),
    _text("password_hash"),
    _at("create_at"),
    _when("last_login_at"),
    UniqueConstraint("account"),
)


def _of_user(*, primary_key: bool = False) -> Column[str]:
    return Column("uid", Text, ForeignKey("user.uid", ondelete="CASCADE"), primary_key=primary_key, nullable=False)


token = Table(
    "token",
    metadata,
    _id(never_again=True),
    _of_user(),
    _text("name"),
    _text("hash"),
    _text("prefix"),
    _at("create_at"),
    _when("expires_at"),
    _when("last_used_at"),
    _text("scopes"),
    _later("kind", Text(), "'api'"),
    _later("projects", Text(), "'[]'"),
    UniqueConstraint("hash"),
    Index(None, "uid"),
    sqlite_autoincrement=True,
)

role_binding = Table(
    "role_binding",
    metadata,
    _of_user(primary_key=True),
    _text("project", primary_key=True),
    _text("role", primary_key=True),
    Index(None, "project"),
)

login_failure = Table(
    "login_failure",
    metadata,
    _text("name", primary_key=True),
    _int("failures"),
    _at("since"),
    Index(None, "since"),
    comment="Failed logins by account, address and both: counted here, so that all servers count together",
)

login_place = Table(
    "login_place",
    metadata,
    _of_user(primary_key=True),
    _text("address", primary_key=True),
    _at("at"),
    comment="Where somebody has logged in from: failures of others from elsewhere do not lock them out there",
)

spent_code = Table(
    "spent_code",
    metadata,
    _text("digest", primary_key=True),
    _at("until"),
    Index(None, "until"),
    comment="Codes and states of OpenID logins that were used: good once. until: when they would have ended anyway",
)

ticket = Table(
    "ticket",
    metadata,
    _id(never_again=True),
    Column("uid", Text, nullable=False, unique=True),
    _text("project"),
    Column("approval_id", Text, nullable=False, unique=True),
    _flag("valid"),
    _text("envs"),
    _text("services"),
    _text("users"),
    Column("start_at", BigInteger, nullable=False),
    Column("end_at", BigInteger, nullable=False),
    _at("create_at"),
    _text("used_by_workflow"),
    Column("used_by_number", Integer, nullable=True),
    Index(None, "project", "id"),
    sqlite_autoincrement=True,
    comment="Approvals made elsewhere: each lets one task of its project in",
)
TICKET_UNUSED: Final = ticket.c.used_by_workflow == word("")
_partial("ix_ticket_unused", ticket.c.project, ticket.c.id, where=TICKET_UNUSED)

# -- audit, meta

audit = Table(
    "audit",
    metadata,
    _id(never_again=True),
    _at("at"),
    _text("actor"),
    _text("action"),
    _text("project"),
    _text("target"),
    _text("detail"),
    _text("hash"),
    Index(None, "actor", "id"),
    Index(None, "project", "id"),
    Index(None, "action", "id"),
    sqlite_autoincrement=True,
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, nullable=False, autoincrement=False),
    _text("hash"),
    CheckConstraint("id = 1", name="one_row"),
    comment="The hash of the newest entry: entries are chained one after the other, and a cut tail shows",
)

meta = Table("meta", metadata, _text("name", primary_key=True), _text("value"))

FIRST_ROWS: Final = (
    (admission, {"id": 1}),
    (catalogue_version, {"id": 1, "version": 0}),
    (audit_head, {"id": 1, "hash": ""}),
)
"""Tables of one row, which is locked and changed, never added or removed."""
