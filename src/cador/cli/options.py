"""Options that many commands share."""

from typing import Annotated

from cyclopts import App, Parameter

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print the server's answer as JSON.")]
Project = Annotated[str, Parameter(name=["--project", "-p"], help="Key of the project.")]
Task = Annotated[str, Parameter(help="WORKFLOW/NUMBER, or WORKFLOW/latest.")]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")]


def _positive(_: object, value: int) -> None:
    if value < 1:
        raise ValueError("must be 1 or more")


Limit = Annotated[int, Parameter(validator=_positive, help="How many, the newest first.")]


def group(name: str, text: str) -> App:
    """A command with sub-commands."""
    return App(name=name, help=text, version_flags=(), help_format="plaintext", result_action="return_value")
