"""Step ``tools``: install tool packages. A package that the server has no recipe for is named and skipped."""

from shlex import quote

from cador.jobs.base import Doc
from cador.jobs.steps.base import StepParts
from cador.jobs.values import objects, text
from cador.ports.executor import FolderStep


def compile_tools(name: str, spec: Doc) -> StepParts:
    lines = []
    for tool in objects(spec.get("installs")):
        title = " ".join(part for part in (text(tool.get("name")), text(tool.get("version"))) if part)
        if title:
            message = f"tool {title} is not in the tool catalogue: skipped, the script uses what the machine has"
            lines.append(f"printf '%s\\n' {quote(message)}")
    if not lines:
        return StepParts()
    return StepParts((FolderStep(name, "tools", "\n".join([*lines, ""]), interpreter=("/bin/sh",)),))
