"""Figures of lists: the newest 50 of a million tasks under every filter, over HTTP or, where no route has it, below."""

import asyncio
import time
from collections.abc import Iterator

from cador.ports.stores import TaskFilter
from cador.storage.database import open_database
from figures import Bench, Row, quantiles
from serving import PROJECT, Client, Server

SMALL, RARE = "small", "Rare"
BAR_MS = 20
COMMIT_TASKS = 20
"""How many tasks work on one commit."""


def shape(table: str) -> dict[str, str]:
    """What tells the copies of a task apart, so that each filter finds few among many: columns, in SQL, of ``s.n``."""
    if table == "workflow_task":
        small = "s.n % 5000 = 7"
        return {
            "project": f"CASE WHEN {small} THEN '{SMALL}' ELSE t.project END",
            "workflow_key": f"CASE WHEN {small} THEN '{SMALL}' ELSE t.workflow_key END",
            "creator": f"CASE WHEN s.n % 20000 = 3 THEN '{RARE}' ELSE t.creator END",
            "status": "CASE WHEN s.n % 100 = 0 THEN 'failed' WHEN s.n % 10000 = 1 THEN 'timeout' ELSE t.status END",
        }
    return {}


def commits(kind: str, begin: int, end: int, task: int) -> str:
    """One commit for each of the copies *begin* to *end*."""
    number = f"((s.n / {COMMIT_TASKS}) * 2654435761) % 4294967296"
    digits = f"lpad(to_hex({number}), 8, '0')" if kind != "sqlite" else f"printf('%08x', {number})"
    counting = f"s(n) AS (SELECT CAST({begin + 1} AS bigint) UNION ALL SELECT n + 1 FROM s WHERE n < {end})"
    project = f"CASE WHEN s.n % 5000 = 7 THEN '{SMALL}' ELSE '{PROJECT}' END"
    return (
        f"INSERT INTO task_commit (commit_id, project, task_id) "
        f"WITH RECURSIVE {counting} SELECT {digits} || '{'0' * 32}', {project}, {task} + n FROM s"
    )


def commit_of(number: int) -> str:
    return f"{number // COMMIT_TASKS * 2654435761 % 4294967296:08x}" + "0" * 32


def filtered(bench: Bench, server: Server, database: str, count: int) -> Iterator[Row]:
    """*server*: has *count* tasks in *database* that differ as :func:`shape` says."""
    rounds = bench.some(200, 30)
    me = server.client.call("GET", "/api/v1/me")["uid"]
    wish = {"name": "few", "projects": [SMALL]}
    few = Client(server.port, server.client.call("POST", f"/openapi/users/{me}/tokens", wish)["token"])
    tasks, whole = "/openapi/workflows/custom/old/tasks?projectKey=bench&pageSize=50", commit_of(count // 2)
    of_commit = "/api/directory/workflowTask?commitId="
    wanted = (
        ("of a workflow", server.client, tasks),
        ("the same, page 200", server.client, f"{tasks}&pageNum=200"),
        ("small project, a limited caller", few,
         f"/openapi/workflows/custom/{SMALL}/tasks?projectKey={SMALL}&pageSize=50"),
        ("commit, 40 digits", server.client, of_commit + whole),
        *((f"commit, {length} digits", server.client, of_commit + whole[:length]) for length in (8, 3, 2, 1)),
        *((f"commit, {length or 40} digits, limited caller", few, of_commit + (whole[:length] or whole))
          for length in (0, 8, 3, 2, 1)),
    )  # fmt: skip
    for name, client, path in wanted:
        yield _row(name, [_took(client, path) for _ in range(rounds)])
    few.close()
    yield from asyncio.run(_below(database or f"sqlite:///{server.data / 'cador.db'}", rounds))


FILTERS: dict[str, TaskFilter] = {
    "all": TaskFilter(),
    "project": TaskFilter(project=SMALL),
    "status": TaskFilter(statuses=("timeout",)),
    "two statuses": TaskFilter(statuses=("failed", "timeout")),
    "status of none": TaskFilter(statuses=("reject",)),
    "creator": TaskFilter(creator=RARE),
    "project, status": TaskFilter(project=PROJECT, statuses=("timeout",)),
    "project, status of none": TaskFilter(project=PROJECT, statuses=("reject",)),
    "workflow, status": TaskFilter(workflow_key="old", statuses=("timeout",)),
    "workflow, creator": TaskFilter(workflow_key="old", creator=RARE),
    "workflow, creator nobody": TaskFilter(workflow_key="old", creator="Nobody"),
    "project, creator": TaskFilter(project=PROJECT, creator=RARE),
    "creator, status": TaskFilter(creator=RARE, statuses=("timeout",)),
    "all four at once": TaskFilter(workflow_key="old", project=PROJECT, statuses=("failed",), creator=RARE),
    "few projects": TaskFilter(projects=(SMALL, "none", "nowhere")),
    "few projects, status": TaskFilter(projects=(SMALL, "none", "nowhere"), statuses=("timeout",)),
    "few projects, creator": TaskFilter(projects=(SMALL, "none", "nowhere"), creator=RARE),
}
"""What no route offers yet: measured from the call to the rows, without HTTP."""


async def _below(url: str, rounds: int) -> list[Row]:
    database = await open_database(url)
    found = []
    for name, where in FILTERS.items():
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            await database.read(lambda tx, where=where: tx.tasks.list_tasks(where))
            times.append((time.perf_counter() - begun) * 1000)
        found.append(_row(f"{name} (no HTTP)", times))
    await database.close()
    return found


def _took(client: Client, path: str) -> float:
    begun = time.perf_counter()
    client.call("GET", path)
    return (time.perf_counter() - begun) * 1000


def _row(name: str, times: list[float]) -> Row:
    p50, p99 = quantiles(times)
    told = f"p50 {p50:.1f} p99 {p99:.1f} ms"
    return Row(f"50: {name}", told, bar=f"p99 <= {BAR_MS} ms", met=p99 <= BAR_MS)
