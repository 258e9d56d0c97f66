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
    deliveries()


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
