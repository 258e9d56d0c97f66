"""What must hold when everything has come to rest."""

from typing import TYPE_CHECKING, Any, Final

from cador.domain import events as ev
from cador.domain.commands import Deliver
from cador.domain.replaying import Told, replay
from cador.engine.delivering import delivery_key
from cador.operations.callbacks import KIND as CALLBACK
from cador.ports.logs import LogName
from cador.ports.stores import Tx

if TYPE_CHECKING:
    from simulation.installation import Simulation
    from simulation.users import Answer

_KINDS: Final = {
    "cancel": ev.CancelRequested,
    "retry": ev.RetryRequested,
    "choose": ev.RetryRequested,
    "execute": ev.StageExecuted,
    "vote": ev.Voted,
    "decide": ev.Decided,
}


def look_over(sim: "Simulation") -> None:
    for check in (_outside, _answers, _histories, _told, _asked, _logs):
        check(sim)
        if sim.violation:
            return
    execute = sim.db.raw.execute
    for status, count in execute("SELECT status, count(*) FROM workflow_task GROUP BY 1 ORDER BY 1"):
        sim.figures[f"tasks {status}"] += count
        sim.figures["tasks"] += count
    sim.figures["events"] += execute("SELECT count(*) FROM event").fetchone()[0]
    sim.note(f"at rest: {sorted(sim.judge.ended.items())}")


def _outside(sim: "Simulation") -> None:
    """Nothing runs any more, and everything that began was awaited."""
    for world in sim.judge.worlds:
        for key in sorted(world.runs):
            if world.end(key) is None and key not in sim.judge.given_up:
                sim.fail(f"{key} runs although nothing is unfinished")


def _answers(sim: "Simulation") -> None:
    """What was acknowledged is there; what was refused is not."""
    deleted = {a.task[0] for a in sim.users.answers if a.action.kind == "delete" and a.said != "no"}
    for answer in sim.users.answers:
        kind, word = answer.action.kind, answer.action.word
        key, number = answer.task
        if kind == "start" and answer.said == "yes":
            stored = sim.judge.tasks.get((key, number))
            if stored is None or stored[1] != word:
                sim.fail(f"{word}: {key}:{number} was accepted and was never there")
            row = sim.db.raw.execute("SELECT 1 FROM workflow_task WHERE workflow_key = ? AND number = ?", answer.task)
            if row.fetchone() is None and key not in deleted:
                sim.fail(f"{word}: {key}:{number} was accepted and is not there")
        elif kind in _KINDS:
            count = _events(sim, answer)
            if answer.said == "no" and count:
                sim.fail(f"{word}: {kind} of {key}:{number} was refused ({answer.why}) and done")
            if answer.said == "yes" and not count and not (kind == "cancel" and answer.final):
                sim.fail(f"{word}: {kind} of {key}:{number} was accepted and left no trace")
            if count > 1:
                sim.fail(f"{word}: {kind} of {key}:{number} was done {count} times")


def _events(sim: "Simulation", answer: "Answer") -> int:
    """How many events come from what was asked."""
    kind, word = _KINDS[answer.action.kind], answer.action.word
    task_id, _ = sim.judge.tasks[answer.task]
    events = [event for event in sim.judge.events.get(task_id, ()) if isinstance(event, kind)]
    return sum(word in (getattr(event, "user_id", ""), getattr(event, "comment", "")) for event in events)


def _histories(sim: "Simulation") -> None:
    """The events of each task, heard again, give its rows."""

    def read(tx: Tx) -> list[tuple[Any, list[Told]]]:
        ids = [row[0] for row in sim.db.raw.execute("SELECT id FROM workflow_task ORDER BY id").fetchall()]
        return [
            (tx.tasks.load(task_id), [Told(r.id, r.at, r.kind, r.data) for r in tx.tasks.events(task_id, limit=9999)])
            for task_id in ids
        ]

    found, _ = sim.db.run(sim.db.stores(), read, commit=False)
    for task, history in found:
        if not replay(task, history, float("inf")).agrees:
            sim.fail(f"{task.label}: its events do not give its rows")


def _told(sim: "Simulation") -> None:
    """The outside was told of every end, of nothing else, and how it was."""
    ends = {
        delivery_key(sim.installation, f"{task_id}/{Deliver(CALLBACK, status, number).key}"): (task_id, number, status)
        for (task_id, number), status in sim.judge.ended.items()
    }
    for key, (task_id, number, status) in ends.items():
        if not sim.told[key]:
            sim.fail(f"task {task_id} became {status} in round {number}, and nobody was told")
        elif sim.said[key] != {"failed" if status == "reject" else status}:
            sim.fail(f"task {task_id} became {status} in round {number}, and was told to be {sim.said[key]}")
    # A retry that was asked for while a cancelled task went down begins in the moment in which that is over.
    passed_by = {
        delivery_key(sim.installation, f"{task_id}/{Deliver(CALLBACK, 'cancelled', earlier).key}")
        for task_id, number in sim.judge.ended
        for earlier in range(number)
    }
    for key in sim.told:
        if key not in ends and key not in passed_by:
            sim.fail(f"something was told that never was: {sim.said[key]} under {key}")
    sim.figures["told"] += sum(sim.told.values())


def _asked(sim: "Simulation") -> None:
    """Every scan that passed was asked after, and nobody asks any more."""
    rows = sim.db.raw.execute(
        "SELECT a.job_id, a.attempt, j.recovery, j.attempt FROM job_attempt a JOIN job_task j ON j.id = a.job_id"
        " WHERE j.type = 'zadig-scanning' AND a.status = 'passed'"
    ).fetchall()
    for job_id, attempt, recovery, newest in rows:
        recoveries = range(recovery, recovery + 1) if attempt == newest else range(3)
        keys = [f"{sim.installation}.{job_id}.{attempt}.{number}" for number in recoveries]
        if not any(sim.asked.answered[key] for key in keys):
            sim.fail(f"{keys[-1]} passed, and nobody had an answer")
    for (server, key), count in sim.asked.going.items():
        if count and server.process.alive:
            sim.fail(f"{server.process.name} still asks after {key}")


def _logs(sim: "Simulation") -> None:
    """Every line of an execution that was heard to its end is in the log of its attempt, once and in order."""
    rows = sim.db.raw.execute(
        "SELECT t.workflow_key, t.number, j.name, j.id, a.attempt, a.status FROM job_attempt a"
        " JOIN job_task j ON j.id = a.job_id JOIN workflow_task t ON t.id = j.task_id WHERE j.kind != 'approval'"
    ).fetchall()
    for key, number, name, job_id, attempt, status in rows:
        runs = [
            (f"{sim.installation}.{job_id}.{attempt}.{recovery}", recovery)
            for recovery in range(3)
            if f"{sim.installation}.{job_id}.{attempt}.{recovery}" in sim.runs
        ]
        if not runs:
            continue
        last = runs[-1][0]
        if sim.judge.losses[last] or last in sim.judge.given_up:
            continue
        stored = sim.logs.stored.get(LogName(key, number, name, attempt))
        label = f"log of {key}:{number}/{name}#{attempt} ({status})"
        if stored is None or not stored.complete:
            sim.fail(f"{label} is not complete")
            return
        lines = stored.data.decode().splitlines()
        printed = [
            line for item in sim.runs[last].plan if isinstance(item.event, bytes)
            for line in item.event.decode().splitlines()
        ]  # fmt: skip
        # What an execution printed that was lost stands before.
        found = [line for line in lines if line in set(printed)]
        ours = [line for line in found if line.endswith(last)]
        if found[len(found) - len(printed) :] != printed or len(ours) != len(set(ours)):
            sim.fail(f"{label} has {found}, not {printed}")
