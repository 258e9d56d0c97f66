"""What the whole documented API asks of the tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def later(table: str, name: str, kind: sa.types.TypeEngine[Any], default: str) -> None:
    op.add_column(table, sa.Column(name, kind, nullable=False, server_default=sa.text(default)))


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def of_task() -> sa.Column[int]:
    return sa.Column("task_id", ID, nullable=False)


def upgrade() -> None:
    people()
    deliveries()
    commits()
    lists()
    tickets()


def deliveries() -> None:
    """Who outside hears of a task, and what they have not heard yet."""
    op.create_table(
        "receiver",
        of_task(),
        text("name"),
        text("kind"),
        text("hears"),
        text("document"),
        sa.ForeignKeyConstraint(["task_id"], ["workflow_task.id"], op.f("fk_receiver_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "name", name=op.f("pk_receiver")),
        comment="Who outside hears of a task. hears: of which news, separated by commas. document: sealed",
    )
    op.create_table(
        "delivery",
        of_task(),
        text("receiver"),
        text("what"),
        sa.Column("round", sa.Integer(), autoincrement=False, nullable=False),
        text("body"),
        sa.ForeignKeyConstraint(["task_id"], ["workflow_task.id"], op.f("fk_delivery_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "receiver", "what", "round", name=op.f("pk_delivery")),
        comment="News that a receiver has not heard yet: a command of kind deliver carries it there",
    )


def people() -> None:
    """Kinds and limits of tokens, failed logins counted by all servers together, and lists of the audit record."""
    later("token", "kind", sa.Text(), "'api'")
    later("token", "projects", sa.Text(), "'[]'")
    # Sessions of people who logged in by password were told apart by their name alone.
    op.execute("UPDATE token SET kind = 'session' WHERE name = 'login' AND expires_at IS NOT NULL")
    op.create_table(
        "login_failure",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_login_failure"),
        comment="Failed logins by account, address and both: counted here, so that all servers count together",
    )
    op.create_index("ix_login_failure_since", "login_failure", ["since"])
    op.create_table(
        "login_place",
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("uid", "address", name="pk_login_place"),
        sa.ForeignKeyConstraint(["uid"], ["user.uid"], name="fk_login_place_uid", ondelete="CASCADE"),
        comment="Where somebody has logged in from: failures of others from elsewhere do not lock them out there",
    )
    op.create_table(
        "spent_code",
        text("digest"),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_spent_code")),
        comment="Codes and states of OpenID logins that were used: good once. until: when they would have ended anyway",
    )
    op.create_index(op.f("ix_spent_code_until"), "spent_code", ["until"])
    for name in ("actor", "project", "action"):
        op.create_index(f"ix_audit_{name}_id", "audit", [name, "id"])


def commits() -> None:
    """Tasks are found by the commits they work on."""
    op.create_table(
        "task_commit",
        sa.Column("commit_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        text("project"),
        of_task(),
        sa.ForeignKeyConstraint(["task_id"], ["workflow_task.id"], op.f("fk_task_commit_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("commit_id", "project", "task_id", name=op.f("pk_task_commit")),
        comment="Commits of the repositories its jobs work on. project: of the task",
    )
    op.create_index(op.f("ix_task_commit_task_id_commit_id"), "task_commit", ["task_id", "commit_id"])


def lists() -> None:
    """The newest tasks that one person has started in one project, or of one workflow."""
    for scope in ("project", "workflow_key"):
        op.create_index(
            f"ix_workflow_task_{scope}_creator_create_at_id",
            "workflow_task",
            [scope, "creator", "create_at", "id"],
            sqlite_where=sa.text("deleted = 0 AND archived = 0"),
            postgresql_where=sa.text("NOT deleted AND NOT archived"),
        )


def tickets() -> None:
    """Approvals made elsewhere."""
    op.create_table(
        "ticket",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        text("uid"),
        text("project"),
        text("approval_id"),
        sa.Column("valid", sa.Boolean(create_constraint=False), nullable=False),
        text("envs"),
        text("services"),
        text("users"),
        sa.Column("start_at", sa.BigInteger(), nullable=False),
        sa.Column("end_at", sa.BigInteger(), nullable=False),
        sa.Column("create_at", sa.Double(), nullable=False),
        text("used_by_workflow"),
        sa.Column("used_by_number", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket")),
        sa.UniqueConstraint("uid", name=op.f("uq_ticket_uid")),
        sa.UniqueConstraint("approval_id", name=op.f("uq_ticket_approval_id")),
        comment="Approvals made elsewhere: each lets one task of its project in",
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_ticket_project_id"), "ticket", ["project", "id"])
    unused = sa.text("used_by_workflow = ''")
    op.create_index("ix_ticket_unused", "ticket", ["project", "id"], sqlite_where=unused, postgresql_where=unused)
