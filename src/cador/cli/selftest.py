"""``cador selftest``: let this machine prove that it can be trusted with releases."""

import os
import random
import shutil
import stat
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from cador.cli.options import Json
from cador.cli.output import FAILED, USAGE, Failure, on_terminal, result, result_json, say

if TYPE_CHECKING:
    from cador.cli.chaos.people import People
    from cador.cli.chaos.servers import Harm
    from cador.cli.chaos.verdict import Verdict
    from cador.cli.client import Client

PROJECT: Final = "chaos"
USERS: Final = 8
QUIET_S: Final = 30.0
"""How long removals that an ended job still owes may take."""


def selftest(
    *,
    chaos: Annotated[bool, Parameter(negative="", help="Kill, freeze and restart servers while they work.")] = False,
    minutes: Annotated[float, Parameter(help="How long.")] = 1.0,
    kills: Annotated[int, Parameter(help="End after so many kills; 0: only the time counts.")] = 0,
    database: Annotated[str, Parameter(help="URL of an empty PostgreSQL database; else a SQLite file.")] = "",
    servers: Annotated[int, Parameter(help="Servers at once; 0: three on PostgreSQL, one on SQLite.")] = 0,
    folder: Annotated[
        Path | None, Parameter(help="Where, on the disk that is to be tested; else a temporary one.")
    ] = None,
    seed: Annotated[int | None, Parameter(help="Repeats the choices of an earlier test, not its timing.")] = None,
    keep: Annotated[bool, Parameter(negative="", help="Keep data and logs of the servers.")] = False,
    json: Json = False,
) -> int:
    """Prove on this machine, its disk and its database that nothing is lost and nothing happens twice.

    Servers of their own run random workflows with real processes for eight users who start, approve, cancel and
    repeat tasks. --chaos kills them (kill -9), freezes and restarts them all the while. Afterwards every task, job,
    log line and event is held against what the jobs themselves wrote down. Exit status 1 when an invariant is broken.

    $ cador selftest --chaos --minutes 10
    """
    if not 0 < minutes < 1e6 or kills < 0 or servers < 0:
        raise Failure("--minutes must be above 0 and below a million, --kills and --servers not below 0", USAGE)
    if database and not database.startswith("postgres"):
        raise Failure("--database is the URL of a PostgreSQL database; leave it out for SQLite", USAGE)
    if servers > 1 and not database:
        raise Failure("several servers need a PostgreSQL database: give its URL with --database", USAGE)
    count = servers or (3 if database else 1)
    number = random.SystemRandom().randrange(10**6) if seed is None else seed
    if database:
        _must_be_empty(database)
    place = _place(folder)
    try:
        verdict = _test(place, database, count, chaos, minutes * 60.0, kills, number, json)
    except BaseException:
        say(f"data and logs are kept in {place}")
        raise
    if verdict or keep:
        say(f"data and logs are kept in {place}")
    else:
        shutil.rmtree(place, ignore_errors=True)
    return FAILED if verdict else 0


def _place(folder: Path | None) -> Path:
    """A new folder, for this test alone, that the account of the jobs can enter."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="cador-selftest-", dir=folder)).resolve()
    if os.geteuid() == 0:
        if closed := next((up for up in place.parents if not up.stat().st_mode & stat.S_IXOTH), None):
            place.rmdir()
            raise Failure(f"the account of the jobs cannot enter {closed}: name another place with --folder")
        place.chmod(0o711)
    (place / "trace").mkdir()
    (place / "trace").chmod(0o777)
    return place


def _test(
    place: Path, database: str, count: int, chaos: bool, seconds: float, kills: int, seed: int, as_json: bool
) -> bool:
    """Whether something is broken."""
    from cador.cli.chaos.people import People
    from cador.cli.chaos.plans import plans
    from cador.cli.chaos.servers import Cluster, Harm
    from cador.cli.chaos.verdict import Judge

    trace = place / "trace" / "jobs"
    trace.touch()
    trace.chmod(0o666)
    chosen = plans(random.Random(seed), 12)  # noqa: S311
    began = time.monotonic()
    with Cluster(place, database, count, (8, 12)) as cluster:
        people = People(cluster, chosen, PROJECT, seed)
        _prepare(people, chosen, trace)
        say(f"seed {seed}: {count} server{'s' if count > 1 else ''} in {place}, {len(chosen)} workflows, {USERS} users")
        harm = Harm(cluster, random.Random(f"{seed}/harm"))  # noqa: S311
        _work(people, harm, chaos, seconds, kills)
        if harm.failure is not None:
            raise harm.failure
        took_s = time.monotonic() - began
        _quiet(place / "jobs")
        judge = Judge(people, trace, place / "jobs")
        for done, of in judge.judge():
            _progress(f"judging {done}/{of}", done == of)
        verdict = judge.verdict
    _tell(verdict, people, harm, took_s, seed, as_json)
    return bool(verdict.broken or people.failures)


def _must_be_empty(database: str) -> None:
    """Raises: Failure: somebody's configuration is in that database, or it cannot be reached."""
    import psycopg

    try:
        with psycopg.connect(database, connect_timeout=10) as connection:
            made = connection.execute("SELECT to_regclass('resource') IS NOT NULL").fetchone()
            if made and made[0] and connection.execute("SELECT 1 FROM resource LIMIT 1").fetchone():
                raise Failure("that database is in use: the self-test needs an empty one", USAGE)
    except psycopg.Error as error:
        raise Failure(f"that database cannot be used: {str(error).strip().splitlines()[0]}") from None


def _prepare(people: "People", chosen: list[Any], trace: Path) -> None:
    from cador.cli.chaos.plans import definition

    project = {"project_key": PROJECT, "project_name": PROJECT, "project_type": "yaml"}
    people.ask(lambda client: client.call("POST", "/openapi/projects/project", None, project))
    me = people.ask(lambda client: client.get("/api/v1/me"))
    approver = {"user_id": me["uid"], "user_name": me["name"]}
    for plan in chosen:
        body = definition(plan, PROJECT, trace, approver)
        people.ask(partial(_define, body))


def _define(body: dict[str, Any], client: "Client") -> Any:
    return client.call("POST", "/api/aslan/workflow/v4", None, body)


def _work(people: "People", harm: "Harm", chaos: bool, seconds: float, kills: int) -> None:
    """Users and harm side by side until the time or the number of kills is reached; then all tasks are seen through."""
    stop, calm = threading.Event(), threading.Event()
    users = [threading.Thread(target=people.go_on, args=(n, stop), daemon=True) for n in range(USERS)]
    harming = threading.Thread(target=harm.go_on, args=(calm, kills), daemon=True)
    for thread in (*users, *([harming] if chaos else [])):
        thread.start()
    limit = time.monotonic() + seconds
    try:
        while time.monotonic() < limit and not people.failures and harm.failure is None:
            if chaos and kills and harm.kills >= kills:
                break
            left = max(0.0, limit - time.monotonic())
            _progress(f"{harm.kills} kills, {harm.freezes} freezes, {len(people.tasks)} tasks, {left:.0f} s left")
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("\nending early; what was begun is judged (Ctrl-C again gives up)")
    finally:
        calm.set()
        if chaos:
            harming.join()
    stop.set()
    for thread in users:
        thread.join()
    _progress(f"{harm.kills} kills, {harm.freezes} freezes, {len(people.tasks)} tasks", True)


def _quiet(jobs: Path) -> None:
    """Wait until what ended jobs leave has been cleared up; what stays after that is told by the verdict."""
    limit = time.monotonic() + QUIET_S
    while time.monotonic() < limit and any("." in one.name[1:] for one in jobs.iterdir()):
        time.sleep(0.2)


def _progress(text: str, last: bool = False) -> None:
    if on_terminal(sys.stderr):
        print(f"\r{text:<78}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last:
        say(text)


def _tell(verdict: "Verdict", people: "People", harm: "Harm", took_s: float, seed: int, as_json: bool) -> None:
    from cador.cli.chaos.verdict import INVARIANTS

    figures = {
        "seed": seed,
        "seconds": round(took_s, 1),
        "kills": harm.kills,
        "freezes": harm.freezes,
        "restarts": harm.restarts,
        "slowest_start_s": round(harm.slowest_s, 2),
        "tasks": verdict.tasks,
        "jobs": verdict.jobs,
        "runs": verdict.runs,
        "log_lines": verdict.lines,
        "interrupted": verdict.interrupted,
        "requests": people.requests,
        "repeated_requests": people.repeated,
    }
    if as_json:
        broken = {INVARIANTS[number]: texts for number, texts in sorted(verdict.broken.items())}
        result_json({"ok": not broken and not people.failures, **figures, "broken": broken, "errors": people.failures})
        return
    for number, text in enumerate(INVARIANTS):
        texts = verdict.broken.get(number, [])
        result(f"{'BROKEN' if texts else 'held  '}  {text}")
        for one in texts[:10]:
            result(f"          {one}")
        if len(texts) > 10:
            result(f"          and {len(texts) - 10} more")
    for text in people.failures[:10]:
        result(f"ERROR     {text}")
    result("")
    for name, value in figures.items():
        result(f"{name.replace('_', ' '):<18} {value}")
