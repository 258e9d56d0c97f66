"""The calls of both clients, by what they are about. See :mod:`cador.client.methods` for how they become calls."""

from typing import Generic

from cador.client.groups.people import Roles, Tokens, UserGroups, Users
from cador.client.groups.projects import Builds, Environments, Projects, Scans, Services, Tests
from cador.client.groups.system import (
    Audit,
    Clusters,
    CodeHosts,
    Configuration,
    Databases,
    Registries,
    Resources,
    Secrets,
    Server,
)
from cador.client.groups.workflows import Logs, Tasks, Tickets, Views, Workflows
from cador.client.methods import Mode, Runner


class Groups(Generic[Mode]):
    """All groups of a client."""

    def __init__(self, runner: Runner) -> None:
        self.workflows: Workflows[Mode] = Workflows(runner)
        self.tasks: Tasks[Mode] = Tasks(runner)
        self.logs: Logs[Mode] = Logs(runner)
        self.views: Views[Mode] = Views(runner)
        self.tickets: Tickets[Mode] = Tickets(runner)
        self.projects: Projects[Mode] = Projects(runner)
        self.services: Services[Mode] = Services(runner)
        self.environments: Environments[Mode] = Environments(runner)
        self.builds: Builds[Mode] = Builds(runner)
        self.tests: Tests[Mode] = Tests(runner)
        self.scans: Scans[Mode] = Scans(runner)
        self.users: Users[Mode] = Users(runner)
        self.groups: UserGroups[Mode] = UserGroups(runner)
        self.roles: Roles[Mode] = Roles(runner)
        self.tokens: Tokens[Mode] = Tokens(runner)
        self.codehosts: CodeHosts[Mode] = CodeHosts(runner)
        self.registries: Registries[Mode] = Registries(runner)
        self.clusters: Clusters[Mode] = Clusters(runner)
        self.databases: Databases[Mode] = Databases(runner)
        self.configuration: Configuration[Mode] = Configuration(runner)
        self.secrets: Secrets[Mode] = Secrets(runner)
        self.audit: Audit[Mode] = Audit(runner)
        self.server: Server[Mode] = Server(runner)
        self.resources: Resources[Mode] = Resources(runner)
