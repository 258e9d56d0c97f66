"""The sections of code scans and what belongs to them: ``scans``, and ``sonar`` and ``storage`` of the system."""

from typing import Any, Final

from cador.operations.declarative import shapes
from cador.operations.declarative.pieces import (
    ADVANCED,
    PARAMETERS,
    REPOSITORIES,
    TOOLS,
    advanced_settings,
    parameters,
    repositories,
    tools,
)
from cador.operations.declarative.reader import Reader
from cador.operations.declarative.sections import Section, fields
from cador.operations.declarative.shapes import Shape

DEFAULT_IMAGE: Final = "ubuntu 22.04"
_TEXTS: Final = {
    "description": "description",
    "sonar": "sonar_system",
    "properties": "sonar_parameter",
    "before": "prelaunch_script",
    "script": "script",
}
_FLAGS: Final = {"scanner": "enable_scanner", "quality_gate": "enable_quality_gate"}
_SCAN: Final[Shape] = {
    "description": shapes.text(),
    "type": shapes.choice("other", "sonarQube"),
    "image": shapes.text("Label of a base image."),
    "tools": TOOLS,
    "repos": REPOSITORIES,
    "parameters": PARAMETERS,
    "script": shapes.text("Of type other."),
    **shapes.file_keys(["scriptFile"]),
    "interpolate": shapes.flag("Replace ${NAME} in the texts of this mapping, too."),
    "sonar": shapes.text("Name of a SonarQube server."),
    "properties": shapes.text("What sonar-project.properties says."),
    "before": shapes.text("A script that runs before the scanner."),
    "scanner": shapes.flag("The server runs sonar-scanner; false: the script does."),
    "quality_gate": shapes.flag("A scan that does not pass the quality gate fails."),
    "artifacts": shapes.texts("Packed and kept."),
    "concurrency": shapes.number("Runs of the scan by itself at a time; 0 or -1: any number."),
    **ADVANCED,
}


def _scan(name: str, entry: Reader) -> dict[str, Any]:
    entry.only(*_SCAN)
    spec: dict[str, Any] = {
        "scanner_type": entry.text("type", "other"),
        "image_name": entry.text("image", DEFAULT_IMAGE),
    }
    spec |= {field: entry.text(key) for key, field in _TEXTS.items() if key in entry}
    spec |= {field: entry.flag(key) for key, field in _FLAGS.items() if key in entry}
    if "tools" in entry:
        spec["addons"] = tools(entry)
    if "repos" in entry:
        spec["repo_info"] = repositories(entry)
    if "parameters" in entry:
        spec["parameters"] = parameters(entry)
    if "artifacts" in entry:
        spec["artifact_paths"] = entry.texts("artifacts")
    advanced = advanced_settings(entry)
    if "concurrency" in entry:
        advanced = {**(advanced or {"cluster_name": "local"}), "concurrency_limit": entry.number("concurrency", 0)}
    if advanced is not None:
        spec["advanced_settings"] = advanced
    return spec


SCANS: Final = Section("scans", "Scan", _scan, _SCAN)
SONAR: Final = fields("sonar", "Sonar", renamed={"address": "server_address"})
STORAGE: Final = fields("storage", "Storage", renamed={"default": "is_default"})
