"""Kind ``database``: where ``sql`` jobs run their statements."""

from typing import ClassVar, Final

from pydantic import Field, model_validator

from cador.domain.errors import Invalid
from cador.operations.models.body import NAME_LENGTH, Body, check_free_name, check_line, require
from cador.operations.models.integrations import check_host, check_port

DATABASE_TYPES: Final = ("mysql", "mariadb", "postgresql")
MOST_PROJECTS: Final = 1_000


class DatabaseBody(Body):
    """``projects``: who may use it; none, ``*`` or ``<all_projects>``: all. ``port``: a number or its text.
    ``database`` (ours): the one that a connection begins in; MySQL begins in none else, PostgreSQL in ``postgres``."""

    secrets: ClassVar[tuple[str, ...]] = ("password",)

    name: str = ""
    type: str = ""
    projects: list[str] = Field(default_factory=list)
    host: str = ""
    port: str | int = ""
    username: str = ""
    password: str = Field("", repr=False)
    database: str = ""

    @model_validator(mode="after")
    def _rules(self) -> "DatabaseBody":
        require(self.name, "name cannot be empty")
        check_free_name(self.name, "name")
        if self.type not in DATABASE_TYPES:
            raise Invalid(f"type must be one of {', '.join(DATABASE_TYPES)}", place="type")
        check_host(self.host, "host")
        text = str(self.port).strip()
        if not text.isascii() or not text.isdecimal() or len(text) > 5:
            raise Invalid("port must be between 1 and 65535", place="port")
        check_port(int(text))
        self.port = str(int(text))
        require(self.username, "username cannot be empty")
        check_line(self.username, "username", NAME_LENGTH)
        check_line(self.database, "database", NAME_LENGTH)
        if len(self.projects) > MOST_PROJECTS:
            raise Invalid(f"projects are more than {MOST_PROJECTS}", place="projects")
        for project in self.projects:
            check_line(project, "projects", NAME_LENGTH)
        return self
