"""Builders of what stores take, with every field filled in."""

from typing import Any

from cador.ports.stores import NewApproval, NewJob, NewTask, Tx, WorkflowRow


def workflow_row(key: str = "w", *, project: str = "p", limit: int = -1, **fields: Any) -> WorkflowRow:
    values: dict[str, Any] = {
        "display_name": key.upper(),
        "type": "custom",
        "disabled": False,
        "definition": '{"stages": []}',
        "revision": 1,
        "created_by": "ann",
        "create_at": 1.0,
        "updated_by": "ann",
        "update_at": 1.0,
    } | fields
    return WorkflowRow(key=key, project=project, concurrency_limit=limit, **values)


def new_job(name: str = "build", stage: int = 0, **fields: Any) -> NewJob:
    values: dict[str, Any] = {
        "job": name,
        "key": f"key.{name}",
        "display_name": f"shown {name}",
        "type": "freestyle",
        "kind": "sandbox",
        "timeout_s": 60.0,
        "plan": {"script": f"echo {name}"},
    } | fields
    return NewJob(stage=stage, name=name, **values)


def new_task(
    key: str = "w",
    number: int = 1,
    *,
    jobs: tuple[NewJob, ...] = (new_job("a"), new_job("b")),
    stages: tuple[tuple[str, bool], ...] = (("build", True),),
    approvals: tuple[NewApproval, ...] = (),
    **fields: Any,
) -> NewTask:
    values: dict[str, Any] = {
        "project": "p",
        "display_name": key.upper(),
        "type": "custom",
        "creator": "ann",
        "creator_id": "u1",
        "creator_account": "ann@corp",
        "trigger": "manual",
        "create_at": 100.0,
        "parallel_limit": 5,
        "snapshot": {"definition": {"stages": [1, 2]}},
    } | fields
    return NewTask(workflow_key=key, number=number, stages=stages, jobs=jobs, approvals=approvals, **values)


def start(tx: Tx, key: str = "w", **fields: Any) -> int:
    """Store the next task of workflow *key*; returns its id."""
    return tx.tasks.add(new_task(key, tx.workflows.next_number(key), **fields))
