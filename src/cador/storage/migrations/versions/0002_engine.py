"""What the engine grew: fair shares, manual stages, archived tasks, stamps."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LISTS = (
    ("create_at", "id"),
    ("project", "create_at", "id"),
    ("workflow_key", "create_at", "id"),
    ("creator", "create_at", "id"),
    ("status", "create_at", "id"),
    ("project", "status", "create_at", "id"),
    ("workflow_key", "status", "create_at", "id"),
)


def later(table: str, name: str, kind: sa.types.TypeEngine[Any], default: str) -> None:
    op.add_column(table, sa.Column(name, kind, nullable=False, server_default=sa.text(default)))


def partial(name: str, columns: tuple[str, ...], sqlite: str, postgresql: str) -> None:
    op.create_index(
        name, "workflow_task", list(columns), sqlite_where=sa.text(sqlite), postgresql_where=sa.text(postgresql)
    )


def upgrade() -> None:
    later("workflow_task", "stamp", sa.BigInteger(), "0")
    later("workflow_task", "archived", sa.Boolean(create_constraint=False), "FALSE")
    later("workflow_task", "auto_cancel", sa.Text(), "''")
    later("workflow_task", "timeout_s", sa.Double(), "0")
    op.add_column("workflow_task", sa.Column("archived_at", sa.Double(), nullable=True))
    later("workflow_task", "edits", sa.Integer(), "0")
    later("job_task", "conditional", sa.Boolean(create_constraint=False), "FALSE")
    later("stage_task", "manual", sa.Text(), "''")
    later("stage_task", "executed_by", sa.Text(), "''")
    later("job_attempt", "home", sa.Text(), "''")
    later("replica", "home", sa.Text(), "''")
    later("command", "place", sa.Text(), "''")
    for name in ("max_running_tasks", "max_per_project", "max_per_user"):
        op.add_column("admission", sa.Column(name, sa.Integer(), nullable=True))
    later("admission", "vtime", sa.Double(), "0")
    op.create_table(
        "share",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("vtime", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("project", name="pk_share"),
        comment="How much each project has been given: whose virtual time is least is next",
    )
    op.create_table(
        "remains",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True, nullable=False),
        sa.Column("home", sa.Text(), nullable=False),
        sa.Column("workflow_key", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_remains"),
        comment="Logs and artifacts of archived and removed tasks still to be deleted, in the data folder home",
    )
    op.create_index("ix_remains_home_id", "remains", ["home", "id"])
    for columns in LISTS:
        name = "ix_workflow_task_" + "_".join(columns)
        op.drop_index(name, "workflow_task")
        partial(name, columns, "deleted = 0 AND archived = 0", "NOT deleted AND NOT archived")
    op.drop_index("ix_workflow_task_lives", "workflow_task")
    lives = "status IN ('waiting', 'running', 'cancelling', 'expiring', 'pause')"
    partial("ix_workflow_task_lives", ("workflow_key", "status", "number"), lives, lives)
    worded = f"{lives} AND auto_cancel != ''"
    partial("ix_workflow_task_words", ("workflow_key", "auto_cancel"), worded, worded)
    partial("ix_workflow_task_gone", ("workflow_key", "id"), "deleted IS 1", "deleted IS TRUE")
    partial("ix_workflow_task_archived", ("archived_at", "id"), "archived IS 1", "archived IS TRUE")
    waits = "waits_at IS NOT NULL"
    partial("ix_workflow_task_waits_of", ("project", "waits_at", "id"), waits, waits)
    groups = ("project", "slot", "workflow_key", "creator_id", "waits_at", "id")
    partial("ix_workflow_task_waits_group", groups, waits, waits)
    if op.get_bind().dialect.name == "postgresql":
        op.create_table_comment("admission", ADMISSION)
        op.create_table_comment("workflow_task", TASK)
        op.create_table_comment("stage_task", STAGE)
        op.create_table_comment("job_task", JOB)
        op.create_table_comment("job_attempt", ATTEMPT)
        op.create_table_comment("command", COMMAND)


COMMAND = "place: of a start that came back: where it may have begun; else empty"
ADMISSION = "One row: who holds it may let tasks become running. Limits that are NULL are those of the settings"
TASK = (
    "asks: number of its approvals. waits_at: create_at of a task that wants to start or go on, else NULL. "
    "stamp: another one with every change of the task, its stages, jobs or approvals; never used twice for one task. "
    "archived: out of the lists, found by number; archived_at: since when. "
    "auto_cancel: a newer task of the workflow with the same word cancels it. timeout_s: of the whole task, 0: none. "
    "edits: how often its snapshot was changed"
)
JOB = "conditional: of an approval, its execute policy is asked before people are"
STAGE = (
    "manual: JSON of who may execute it and whether its inputs may be changed; empty: it starts by itself. "
    "executed_by: name of who executed it"
)
ATTEMPT = "home: data folder that holds its log and artifacts; empty where there is only one"
