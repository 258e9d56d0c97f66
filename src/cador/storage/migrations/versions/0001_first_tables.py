"""The tables of the first release."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "admission",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_admission_one_row")),
        sa.PrimaryKeyConstraint("id", name="pk_admission"),
        comment="One row: who holds it may let tasks become running",
    )
    op.create_table(
        "audit",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_one_row")),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
        comment="The hash of the newest entry: entries are chained one after the other, and a cut tail shows",
    )
    op.create_table(
        "catalogue_version",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_catalogue_version_one_row")),
        sa.PrimaryKeyConstraint("id", name="pk_catalogue_version"),
    )
    op.create_table(
        "command",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("task_id", Id, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_command"),
        sa.UniqueConstraint("key", name="uq_command_key"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_command_admit",
        "command",
        ["id"],
        unique=False,
        sqlite_where=sa.text("kind = 'admit'"),
        postgresql_where=sa.text("kind = 'admit'"),
    )
    op.create_index(
        "ix_command_free_other",
        "command",
        ["due_at", "id"],
        unique=False,
        sqlite_where=sa.text("owner = '' AND kind != 'start'"),
        postgresql_where=sa.text("owner = '' AND kind != 'start'"),
    )
    op.create_index(
        "ix_command_free_start",
        "command",
        ["due_at", "id"],
        unique=False,
        sqlite_where=sa.text("owner = '' AND kind = 'start'"),
        postgresql_where=sa.text("owner = '' AND kind = 'start'"),
    )
    op.create_table(
        "execution",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("task_id", Id, nullable=False),
        sa.Column("job_id", Id, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("recovery", sa.Integer(), nullable=False),
        sa.Column("executor", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_execution"),
    )
    op.create_index("ix_execution_job_id", "execution", ["job_id"], unique=False)
    op.create_index("ix_execution_owner", "execution", ["owner"], unique=False)
    op.create_index("ix_execution_place", "execution", ["place"], unique=False)
    op.create_table(
        "meta",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_meta"),
    )
    op.create_table(
        "replica",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replica"),
    )
    op.create_table(
        "resource",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("create_at", sa.Double(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.Column("update_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_resource"),
        sa.UniqueConstraint("kind", "project", "name", name="uq_resource_kind_project_name"),
        sa.UniqueConstraint("uid", name="uq_resource_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_resource_project", "resource", ["project"], unique=False)
    op.create_table(
        "user",
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("identity_type", sa.Text(), nullable=False),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("create_at", sa.Double(), nullable=False),
        sa.Column("last_login_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("uid", name="pk_user"),
        sa.UniqueConstraint("account", name="uq_user_account"),
    )
    op.create_table(
        "workflow",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("concurrency_limit", sa.Integer(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("create_at", sa.Double(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.Column("update_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workflow"),
        sa.UniqueConstraint("key", name="uq_workflow_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_workflow_project_display_name", "workflow", ["project", "display_name"], unique=False)
    op.create_table(
        "workflow_counter",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.Column("tasks", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_workflow_counter"),
        comment="Outlives its workflow: numbers are never used twice. tasks: those that are not deleted.",
    )
    op.create_table(
        "workflow_task",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("workflow_key", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("parallel_limit", sa.Integer(), nullable=False),
        sa.Column("asks", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("revoker", sa.Text(), nullable=False),
        sa.Column("revoker_id", sa.Text(), nullable=False),
        sa.Column("creator", sa.Text(), nullable=False),
        sa.Column("creator_id", sa.Text(), nullable=False),
        sa.Column("creator_account", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("create_at", sa.Double(), nullable=False),
        sa.Column("start_at", sa.Double(), nullable=True),
        sa.Column("end_at", sa.Double(), nullable=True),
        sa.Column("retry_num", sa.Integer(), nullable=False),
        sa.Column("retry_wanted", sa.Text(), nullable=False),
        sa.Column("waits_at", sa.Double(), nullable=True),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_workflow_task"),
        sa.UniqueConstraint("creator_id", "idempotency_key", name="uq_workflow_task_creator_id_idempotency_key"),
        sa.UniqueConstraint("workflow_key", "number", name="uq_workflow_task_workflow_key_number"),
        comment="asks: number of its approvals. waits_at: create_at of a task that wants to start or go on, else NULL",
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_workflow_task_create_at_id",
        "workflow_task",
        ["create_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted = 0"),
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_index(
        "ix_workflow_task_creator_create_at_id",
        "workflow_task",
        ["creator", "create_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted = 0"),
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_index(
        "ix_workflow_task_holds",
        "workflow_task",
        ["id"],
        unique=False,
        sqlite_where=sa.text("slot = 'held'"),
        postgresql_where=sa.text("slot = 'held'"),
    )
    op.create_index(
        "ix_workflow_task_lives",
        "workflow_task",
        ["workflow_key", "status", "number"],
        unique=False,
        sqlite_where=sa.text("status IN ('waiting', 'running', 'cancelling')"),
        postgresql_where=sa.text("status IN ('waiting', 'running', 'cancelling')"),
    )
    op.create_index(
        "ix_workflow_task_project_create_at_id",
        "workflow_task",
        ["project", "create_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted = 0"),
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_index(
        "ix_workflow_task_project_status_create_at_id",
        "workflow_task",
        ["project", "status", "create_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted = 0"),
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_index(
        "ix_workflow_task_status_create_at_id",
        "workflow_task",
        ["status", "create_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted = 0"),
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_index(
        "ix_workflow_task_waits",
        "workflow_task",
        ["waits_at", "id"],
        unique=False,
        sqlite_where=sa.text("waits_at IS NOT NULL"),
        postgresql_where=sa.text("waits_at IS NOT NULL"),
    )
    op.create_index(
        "ix_workflow_task_workflow_key_create_at_id",
        "workflow_task",
        ["workflow_key", "create_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted = 0"),
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_index(
        "ix_workflow_task_workflow_key_status_create_at_id",
        "workflow_task",
        ["workflow_key", "status", "create_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted = 0"),
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_table(
        "event",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("task_id", Id, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["workflow_task.id"], name="fk_event_task_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
    )
    op.create_index("ix_event_task_id_id", "event", ["task_id", "id"], unique=False)
    op.create_table(
        "job_task",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("task_id", Id, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("recovery", sa.Integer(), nullable=False),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        sa.Column("stopping", sa.Text(), nullable=False),
        sa.Column("start_at", sa.Double(), nullable=True),
        sa.Column("end_at", sa.Double(), nullable=True),
        sa.Column("deadline_at", sa.Double(), nullable=True),
        sa.Column("timeout_s", sa.Double(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("maximum_retry", sa.Integer(), nullable=False),
        sa.Column("repeatable", sa.Boolean(), nullable=False),
        sa.Column("failed_as", sa.Text(), nullable=False),
        sa.Column("approval_users", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["workflow_task.id"], name="fk_job_task_task_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_job_task"),
        sa.UniqueConstraint("task_id", "position", name="uq_job_task_task_id_position"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "role_binding",
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["uid"], ["user.uid"], name="fk_role_binding_uid", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("uid", "project", "role", name="pk_role_binding"),
    )
    op.create_index("ix_role_binding_project", "role_binding", ["project"], unique=False)
    op.create_table(
        "stage_task",
        sa.Column("task_id", Id, nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("parallel", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("start_at", sa.Double(), nullable=True),
        sa.Column("end_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["workflow_task.id"], name="fk_stage_task_task_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "idx", name="pk_stage_task"),
    )
    op.create_table(
        "task_snapshot",
        sa.Column("task_id", Id, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["workflow_task.id"], name="fk_task_snapshot_task_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", name="pk_task_snapshot"),
    )
    op.create_table(
        "token",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("create_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["uid"], ["user.uid"], name="fk_token_uid", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_token"),
        sa.UniqueConstraint("hash", name="uq_token_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_token_uid", "token", ["uid"], unique=False)
    op.create_table(
        "approval",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("task_id", Id, nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("job_id", Id, nullable=True),
        sa.Column("needed", sa.Integer(), nullable=False),
        sa.Column("approvers", sa.Text(), nullable=False),
        sa.Column("timeout_s", sa.Double(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("start_at", sa.Double(), nullable=True),
        sa.Column("end_at", sa.Double(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job_task.id"], name="fk_approval_job_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["task_id"], ["workflow_task.id"], name="fk_approval_task_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_approval"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_approval_job_id", "approval", ["job_id"], unique=False)
    op.create_index(
        "ix_approval_open",
        "approval",
        ["task_id"],
        unique=False,
        sqlite_where=sa.text("status = 'waiting'"),
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index("ix_approval_task_id", "approval", ["task_id"], unique=False)
    op.create_table(
        "job_attempt",
        sa.Column("job_id", Id, autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("start_at", sa.Double(), nullable=True),
        sa.Column("end_at", sa.Double(), nullable=True),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job_task.id"], name="fk_job_attempt_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "attempt", name="pk_job_attempt"),
    )
    op.create_table(
        "job_body",
        sa.Column("job_id", Id, autoincrement=False, nullable=False),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job_task.id"], name="fk_job_body_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_body"),
        comment="What deciding never reads, so that loading a task costs the same whatever its jobs contain",
    )
    op.create_table(
        "vote",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("approval_id", Id, nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("approve", sa.Boolean(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["approval_id"], ["approval.id"], name="fk_vote_approval_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_vote"),
        sa.UniqueConstraint("approval_id", "round", "user_id", name="uq_vote_approval_id_round_user_id"),
    )

    # Tables of one row: it is locked and changed, never added or removed.
    op.execute("INSERT INTO admission (id) VALUES (1)")
    op.execute("INSERT INTO catalogue_version (id, version) VALUES (1, 0)")
    op.execute("INSERT INTO audit_head (id, hash) VALUES (1, '')")
