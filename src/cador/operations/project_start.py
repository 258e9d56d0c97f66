"""A project with its first services and environments in one step: all of it, or nothing."""

from cador.domain.errors import Conflict
from cador.operations import environments, projects, resources, services
from cador.operations.actor import Actor
from cador.operations.context import Context
from cador.operations.models.body import read_body
from cador.operations.models.environment import EnvironmentBody
from cador.operations.models.project import FirstEnvironment, ProjectInit
from cador.operations.models.service import ServiceBody
from cador.operations.resources import Doc, Hand
from cador.ports.stores import Tx


class CannotStart(Conflict):
    """An environment cannot be made as asked."""


async def create(ctx: Context, actor: Actor, body: Doc) -> None:
    """Raises: Invalid, AlreadyExists, CannotStart."""
    asked = read_body(ProjectInit, body)
    bodies = [read_body(ServiceBody, service.body()) for service in asked.service_list]

    def write(tx: Tx, hand: Hand) -> None:
        key = asked.project_key
        projects.store(tx, hand, asked.project(), new=True)
        for service in bodies:
            services.store(tx, hand, services.TEST, key, service.document(), new=True)
        names = [service.service_name for service in bodies]
        for environment in asked.env_list:
            _add(tx, hand, key, environment, names)

    await resources.change(ctx, actor, write)


def _add(tx: Tx, hand: Hand, project: str, asked: FirstEnvironment, names: list[str]) -> None:
    if tx.resources.find("cluster", "", asked.cluster_name) is None:
        raise CannotStart(f"failed to find a cluster with name: {asked.cluster_name} to create env: {asked.env_key}")
    body = read_body(
        EnvironmentBody,
        {**asked.model_dump(), "project_key": project, "services": [{"service_name": name} for name in names]},
    )
    environments.store(tx, hand, environments.TEST, project, body, new=True, bare=True)
