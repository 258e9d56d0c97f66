"""Stores and transactions: what the inside asks of the tables, a module per subject.

What belongs to a part of its own has its store there: ``ports.admission``, ``ports.tickets`` and so on.
"""

from cador.ports.admission import Blocker, QueueFacts
from cador.ports.peers import ReplicaStore
from cador.ports.stores.audit import AuditCheck, AuditStore
from cador.ports.stores.commands import HERE, CommandRow, CommandStore
from cador.ports.stores.executions import ExecutionRow, ExecutionStore
from cador.ports.stores.people import PeopleStore, Token, User
from cador.ports.stores.resources import Resource, ResourceStore
from cador.ports.stores.tasks import (
    AttemptRow,
    EventRow,
    JobRow,
    NewApproval,
    NewJob,
    NewTask,
    TaskFilter,
    TaskRow,
    TaskStore,
)
from cador.ports.stores.transactions import Database, MetaStore, Tx, brief, is_brief
from cador.ports.stores.workflows import IMPLICIT, WorkflowRow, WorkflowStore

__all__ = [
    "HERE",
    "IMPLICIT",
    "AttemptRow",
    "AuditCheck",
    "AuditStore",
    "Blocker",
    "CommandRow",
    "CommandStore",
    "Database",
    "EventRow",
    "ExecutionRow",
    "ExecutionStore",
    "JobRow",
    "MetaStore",
    "NewApproval",
    "NewJob",
    "NewTask",
    "PeopleStore",
    "QueueFacts",
    "ReplicaStore",
    "Resource",
    "ResourceStore",
    "TaskFilter",
    "TaskRow",
    "TaskStore",
    "Token",
    "Tx",
    "User",
    "WorkflowRow",
    "WorkflowStore",
    "brief",
    "is_brief",
]
