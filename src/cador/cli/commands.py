"""All commands: their names, what the overview says about them, and where they are. Imported at every start: light."""

from collections.abc import Mapping
from typing import Final

RUNNING: Final = "Run"
DEFINING: Final = "Define"
PEOPLE: Final = "People"
SERVER: Final = "Server"

COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "demo": (RUNNING, "Show the whole thing: server, repositories, a workflow from build to release.", "demo:demo"),
    "run": (RUNNING, "Start a workflow task; -f follows it, --local needs no server.", "run:run"),
    "task": (RUNNING, "Look at, stop, repeat and approve workflow tasks.", "tasks:app"),
    "apply": (DEFINING, "Create or update everything a YAML file describes.", "apply:apply"),
    "diff": (DEFINING, "Tell what apply would change.", "apply:diff"),
    "validate": (DEFINING, "Check a YAML file without changing anything.", "apply:validate"),
    "convert": (DEFINING, "Print the long form of a YAML file.", "apply:convert"),
    "export": (DEFINING, "Print a project as YAML.", "apply:export"),
    "import": (DEFINING, "Take over what a Zadig server holds.", "import_zadig:app"),
    "delete": (DEFINING, "Delete what a YAML file describes.", "apply:delete"),
    "workflow": (DEFINING, "Workflow definitions.", "workflows:app"),
    "view": (DEFINING, "Named selections of workflows.", "views:view"),
    "ticket": (DEFINING, "Approvals given in another system.", "tickets:ticket"),
    "project": (DEFINING, "Projects.", "resources:project"),
    "service": (DEFINING, "Services and their modules.", "resources:service"),
    "build": (DEFINING, "Build configurations.", "resources:build"),
    "testing": (DEFINING, "Test configurations.", "resources:testing"),
    "scan": (DEFINING, "Code scans.", "resources:scan"),
    "codehost": (DEFINING, "Git servers.", "resources:codehost"),
    "cluster": (DEFINING, "Clusters that jobs and services run on.", "resources:cluster"),
    "database": (DEFINING, "Databases of sql jobs.", "resources:database"),
    "env": (DEFINING, "Environments.", "resources:env"),
    "registry": (DEFINING, "Image registries.", "resources:registry"),
    "login": (PEOPLE, "Remember a server and a token.", "login:login"),
    "context": (PEOPLE, "Remembered servers.", "login:context"),
    "user": (PEOPLE, "Users.", "people:user"),
    "group": (PEOPLE, "User groups.", "groups:group"),
    "role": (PEOPLE, "Roles and who has them.", "roles:role"),
    "token": (PEOPLE, "API tokens.", "people:token"),
    "audit": (SERVER, "Who changed what.", "audit:audit"),
    "serve": (SERVER, "Run the server.", "serve:serve"),
    "migrate": (SERVER, "Bring the database to this version.", "serve:migrate"),
    "backup": (SERVER, "Write everything a server keeps into one file, while it works.", "backup:app"),
    "restore": (SERVER, "Put a backup into an empty data folder.", "backup:restore"),
    "selftest": (SERVER, "Prove on this machine that nothing is lost and nothing happens twice.", "selftest:selftest"),
    "settings": (SERVER, "Show and change what is set while servers work.", "live_settings:settings"),
    "doctor": (SERVER, "Check this machine and say what to do.", "doctor:doctor"),
    "completion": (SERVER, "Print the completion script of a shell.", "serve:completion"),
    "version": (SERVER, "Versions of this program and of the server.", "serve:version"),
}
"""Name -> (group, summary, place below ``cador.cli``)."""


def overview() -> str:
    """What ``cador --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = ["Usage: cador COMMAND [OPTIONS]", "", "cador runs CI/CD workflows on your own machines.", ""]
    for group in (RUNNING, DEFINING, PEOPLE, SERVER):
        lines.append(f"{group}:")
        lines += [f"  {name:<{width}}  {text}" for name, (of, text, _) in COMMANDS.items() if of == group]
        lines.append("")
    lines += [
        "Try it:            cador demo",
        "Start a server:    cador serve",
        "Run a workflow:    cador run my-workflow -f",
        "More of a command: cador COMMAND --help",
        "",
        "Exit status: 0 done, 1 failed or refused, 2 wrong usage, 3 server not reached, 4 not allowed,",
        "130 interrupted.",
    ]
    return "\n".join(lines)
