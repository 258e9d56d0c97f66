"""``cador task report``: everything about a task in one file."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cador.cli.client import connect, segment
from cador.cli.options import Project, Task
from cador.cli.output import FAILED, Failure, result
from cador.cli.task_names import find_task


def report(
    task: Task,
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(name=["--output", "-o"], allow_leading_hyphen=True, help="File or folder to write to; - is stdout."),
    ] = None,
    project: Project = "",
) -> int:
    """Write everything about a task to one HTML file that opens without a server.

    $ cador task report release/12
    $ cador task report release/latest -o reports/
    """
    client = connect()
    workflow, number = find_task(client, task, project)
    target = output or Path(f"{workflow}-{number}.html")
    if target.is_dir():
        target /= f"{workflow}-{number}.html"
    with client.download(f"/api/v1/tasks/{segment(workflow)}/{number}/report") as response:
        page = response.read()
    if str(output) == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(page)
        sys.stdout.buffer.flush()
        return 0
    part = target.with_name(target.name + ".part")
    try:
        part.write_bytes(page)
        os.replace(part, target)
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}", FAILED) from error
    finally:
        part.unlink(missing_ok=True)
    result(str(target))
    return 0
