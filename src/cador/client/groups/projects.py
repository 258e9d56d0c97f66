"""Projects and what belongs to them: services, environments, builds, tests, scans."""

import builtins
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from cador.client import shapes
from cador.client.methods import Call, Group, Mode
from cador.client.wire import Request, Steps, given, pages, segment

_PROJECT: Final = "/openapi/projects/project"
_ENVIRONMENT: Final = "/openapi/environments"

Body = Mapping[str, Any]
Line = TypeVar("Line")


class Projects(Group[Mode]):
    """Projects: what everything else belongs to."""

    @Call
    def list(self) -> Steps[builtins.list[shapes.ProjectLine]]:
        """The projects you may see, by key."""
        return (yield from pages(_PROJECT, {}, "projects"))

    @Call
    def get(self, project: str) -> Steps[shapes.Project]:
        """One project, by its key."""
        reply: shapes.Project = yield Request("GET", f"{_PROJECT}/detail", {"projectKey": project})
        return reply

    @Call
    def create(
        self, project: str, name: str = "", *, kind: str = "yaml", description: str = "", public: bool = False
    ) -> Steps[None]:
        """Create a project; you become its administrator. *name*: as shown, else the key. *public*: everybody may look
        at it."""
        body = {"project_key": project, "project_name": name or project, "project_type": kind}
        yield Request("POST", _PROJECT, body={**body, "description": description, "is_public": public})

    @Call
    def change(
        self, project: str, *, name: str | None = None, description: str | None = None, public: bool | None = None
    ) -> Steps[None]:
        """Change what is given; the rest stays."""
        body = given(project_name=name, description=description, is_public=public)
        yield Request("PUT", _PROJECT, {"projectKey": project}, body, repeatable=True)

    @Call
    def delete(self, project: str) -> Steps[None]:
        """Delete a project with all that belongs to it; what runs is cancelled."""
        yield Request("DELETE", _PROJECT, {"projectKey": project, "isDelete": False})

    @Call
    def variables(self, project: str) -> Steps[shapes.Variables]:
        """The variables that all environments of a project share."""
        reply: shapes.Variables = yield Request("GET", f"{_PROJECT}/globalVariable", {"projectKey": project})
        return reply

    @Call
    def set_variables(
        self, project: str, variables: Sequence[Body] | None = None, production: Sequence[Body] | None = None
    ) -> Steps[None]:
        """Replace the shared variables (``key``, ``value``); None leaves them. *production*: of the production set."""
        body = given(variables=variables, production_variables=production)
        yield Request("PUT", f"{_PROJECT}/globalVariable", {"projectKey": project}, body, repeatable=True)


class Services(Group[Mode]):
    """Services of a project. *production*: those of the production set."""

    @Call
    def list(self, project: str, *, production: bool = False) -> Steps[builtins.list[shapes.ServiceLine]]:
        """The services of a project with their modules, by name."""
        reply: builtins.list[shapes.ServiceLine] = yield Request(
            "GET", f"{_services(production)}/services", {"projectKey": project}
        )
        return reply

    @Call
    def get(self, project: str, name: str, *, production: bool = False) -> Steps[shapes.Service]:
        """One service with its manifest, modules and variables."""
        path = f"{_services(production)}/{segment(name)}"
        reply: shapes.Service = yield Request("GET", path, {"projectKey": project})
        return reply

    @Call
    def create(
        self, project: str, name: str, yaml: str, *, variables: Sequence[Body] = (), production: bool = False
    ) -> Steps[None]:
        """Create a service of a manifest. *variables*: ``key``, ``value``, ``type`` ... of its ``{{.key}}``."""
        body = {"service_name": name, "yaml": yaml, "variable_yaml": [*variables]}
        yield Request("POST", f"{_services(production)}/raw", {"projectKey": project}, body)

    @Call
    def replace(self, project: str, name: str, yaml: str, *, production: bool = False) -> Steps[None]:
        """Replace the manifest: a new revision."""
        path = f"{_services(production)}/{segment(name)}"
        yield Request("PUT", path, {"projectKey": project}, {"type": "k8s", "yaml": yaml}, repeatable=True)

    @Call
    def set_variables(
        self, project: str, name: str, variables: Sequence[Body], *, production: bool = False
    ) -> Steps[None]:
        """Replace the variables (``key``, ``value`` ...): a new revision."""
        path = f"{_services(production)}/{segment(name)}/variable"
        body = {"service_variable_kvs": [*variables]}
        yield Request("PUT", path, {"projectKey": project}, body, repeatable=True)

    @Call
    def delete(self, project: str, name: str, *, production: bool = False) -> Steps[None]:
        """Delete a service that no workflow and no build names."""
        yield Request("DELETE", f"{_services(production)}/{segment(name)}", {"projectKey": project})


class Environments(Group[Mode]):
    """Environments of a project. *production*: those of the production set."""

    @Call
    def list(self, project: str, *, production: bool = False) -> Steps[builtins.list[shapes.EnvironmentLine]]:
        """The environments of a project, by key."""
        reply: builtins.list[shapes.EnvironmentLine] = yield Request(
            "GET", _environments(production), {"projectKey": project}
        )
        return reply

    @Call
    def get(self, project: str, env: str, *, production: bool = False) -> Steps[shapes.Environment]:
        """One environment with its services and variables."""
        path = f"{_environments(production)}/{segment(env)}"
        reply: shapes.Environment = yield Request("GET", path, {"projectKey": project})
        return reply

    @Call
    def create(self, project: str, env: str, body: Body, *, production: bool = False) -> Steps[None]:
        """Create an environment. *body*: ``namespace``, ``cluster_name`` or ``cluster_id``, ``registry_id``,
        ``services`` ..."""
        yield Request(
            "POST", _environments(production), {"projectKey": project}, {**body, "project_key": project, "env_key": env}
        )

    @Call
    def change(
        self,
        project: str,
        env: str,
        *,
        registry: str | None = None,
        name: str | None = None,
        production: bool = False,
    ) -> Steps[None]:
        """Give it another registry (its id) or another name that is shown; what is not given stays."""
        body = given(registry_id=registry, env_name=name)
        path = f"{_environments(production)}/{segment(env)}"
        yield Request("PUT", path, {"projectKey": project}, body, repeatable=True)

    @Call
    def add_services(
        self, project: str, env: str, services: Sequence[Body], *, production: bool = False
    ) -> Steps[builtins.list[shapes.EnvironmentState]]:
        """Put services in, as they are now: ``service_name``, ``variable_kvs``."""
        body = {"env_key": env, "service_list": [*services]}
        reply: builtins.list[shapes.EnvironmentState] = yield Request(
            "POST", f"{_environments(production)}/service/yaml", {"projectKey": project}, body
        )
        return reply

    @Call
    def remove_services(
        self, project: str, env: str, services: Sequence[str], *, production: bool = False
    ) -> Steps[None]:
        """Take services out."""
        body = {"env_key": env, "service_names": [*services]}
        yield Request("DELETE", f"{_environments(production)}/service/yaml", {"projectKey": project}, body)

    @Call
    def update_services(
        self, project: str, env: str, services: Sequence[Body], *, production: bool = False
    ) -> Steps[None]:
        """Bring services to their newest revision: ``service_name``, and ``variable_kvs`` with new values."""
        path = f"{_environments(production)}/{segment(env)}/services"
        yield Request("PUT", path, {"projectKey": project}, {"service_list": [*services]}, repeatable=True)

    @Call
    def set_variables(
        self, project: str, env: str, variables: Sequence[Body], *, production: bool = False
    ) -> Steps[None]:
        """Replace the variables of the environment (``key``, ``value``, ``related_services``)."""
        path = f"{_environments(production)}/{segment(env)}/variable"
        yield Request("PUT", path, {"projectKey": project}, {"global_variables": [*variables]}, repeatable=True)

    @Call
    def delete(self, project: str, env: str, *, production: bool = False) -> Steps[None]:
        """Delete an environment that no workflow deploys to."""
        yield Request("DELETE", f"{_environments(production)}/{segment(env)}", {"projectKey": project})


class _Scripts(Group[Mode], Generic[Mode, Line]):
    """What builds, tests and scans have in common: their routes are alike."""

    _path: str
    _rows: str

    @Call
    def list(self, project: str) -> Steps[builtins.list[Line]]:
        """All of a project, by name."""
        return (yield from pages(self._path, {"projectKey": project}, self._rows))

    @Call
    def get(self, project: str, name: str) -> Steps[dict[str, Any]]:
        """One of them, credentials masked."""
        reply: dict[str, Any] = yield Request("GET", self._one(name), {"projectKey": project})
        return reply

    @Call
    def create(self, project: str, body: Body) -> Steps[None]:
        """Create one. *body*: as ``/openapi.json`` describes it; ``name`` says what it is called."""
        yield Request("POST", self._path, {"projectKey": project}, {**body, "project_key": project})

    @Call
    def replace(self, project: str, body: Body) -> Steps[None]:
        """Replace the one that ``name`` of *body* names. A credential sent as ``********`` keeps its value."""
        yield Request("PUT", self._path, {"projectKey": project}, {**body, "project_key": project}, repeatable=True)

    @Call
    def delete(self, project: str, name: str) -> Steps[None]:
        """Delete one that no workflow uses."""
        yield self._gone(project, name)

    def _one(self, name: str) -> str:
        return f"{self._path}/{segment(name)}"

    def _gone(self, project: str, name: str) -> Request:
        return Request("DELETE", self._one(name), {"projectKey": project})


class Builds(_Scripts[Mode, shapes.BuildLine]):
    """How modules are built."""

    _path, _rows = "/openapi/build", "builds"

    def _one(self, name: str) -> str:
        return f"{self._path}/{segment(name)}/detail"

    def _gone(self, project: str, name: str) -> Request:
        return Request("DELETE", self._path, {"projectKey": project, "name": name})


class Tests(_Scripts[Mode, shapes.TestLine]):
    """Tests, with runs by themselves."""

    __test__ = False
    _path, _rows = "/openapi/quality/testing", "testings"

    @Call
    def run(
        self, project: str, name: str, *, repos: Sequence[Body] = (), inputs: Sequence[Body] = ()
    ) -> Steps[shapes.StartedRun]:
        """Run a test by itself. *repos*: ``codehost_name``, ``repo_namespace``, ``repo_name``, ``branch`` of those that
        are to be others than configured. *inputs*: ``key``, ``value``."""
        body = {"project_key": project, "test_name": name, "repo_info": [*repos], "inputs": [*inputs]}
        reply: shapes.StartedRun = yield Request("POST", f"{self._path}/task", {"projectKey": project}, body)
        return reply

    @Call
    def result(self, project: str, name: str, number: int) -> Steps[dict[str, Any]]:
        """One run with its report."""
        path = f"{self._path}/{segment(name)}/task/{number}"
        reply: dict[str, Any] = yield Request("GET", path, {"projectKey": project})
        return reply


class Scans(_Scripts[Mode, shapes.ScanLine]):
    """Code scans, with runs by themselves."""

    _path, _rows = "/openapi/quality/codescan", "scans"

    @Call
    def run(
        self, project: str, name: str, *, repos: Sequence[Body] = (), inputs: Sequence[Body] = ()
    ) -> Steps[shapes.StartedRun]:
        """Run a scan by itself; *repos* and *inputs* as with tests."""
        path = f"{self._path}/{segment(name)}/task"
        body = {"scan_repos": [*repos], "scan_kvs": [*inputs]}
        reply: shapes.StartedRun = yield Request("POST", path, {"projectKey": project}, body)
        return reply

    @Call
    def result(self, project: str, name: str, number: int) -> Steps[dict[str, Any]]:
        """One run."""
        path = f"{self._path}/{segment(name)}/task/{number}"
        reply: dict[str, Any] = yield Request("GET", path, {"projectKey": project})
        return reply


def _services(production: bool) -> str:
    return "/openapi/service/yaml/production" if production else "/openapi/service/yaml"


def _environments(production: bool) -> str:
    return f"{_ENVIRONMENT}/production" if production else _ENVIRONMENT
