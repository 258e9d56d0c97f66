"""Who is let in: the real pass over real tables, against a plain reading of the rules."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cador.domain.commands import Admit
from cador.domain.sharing import Candidate, Line, QueueLimits, Rooms, Shares, ahead, next_of, weight_of
from cador.domain.task import Slot, TaskStatus
from cador.engine.admission import CHUNK, let_in_all
from cador.engine.handlers import _admit
from cador.engine.hearing import MOST_AT_ONCE, Claim, Ear
from cador.ports.stores import Resource, Tx
from support.inline_database import InlineDatabase
from support.rows import new_job, start, workflow_row

JOBS = (new_job("a"),)


# -- the plain reading


@dataclass
class Plain:
    """A task as the rules see it. ``state``: waits, wants (a slot again), holds, asks (counts for its workflow)."""

    id: int
    at: float
    workflow: str
    person: str
    state: str


@dataclass
class Scene:
    """``flows``: project and limit by workflow. ``weights``: by project; ``times``: its virtual time."""

    flows: dict[str, tuple[str, int]]
    weights: dict[str, float]
    times: dict[str, float]
    clock: float
    tasks: list[Plain]
    limits: QueueLimits

    def project(self, task: Plain) -> str:
        return self.flows[task.workflow][0]

    def may(self, task: Plain) -> bool:
        held = [other for other in self.tasks if other.state == "holds"]
        running = [t for t in self.tasks if t.workflow == task.workflow and t.state in ("holds", "wants", "asks")]
        limit = self.flows[task.workflow][1]
        limits = self.limits
        of_project = sum(self.project(other) == self.project(task) for other in held)
        of_person = sum(other.person == task.person for other in held)
        return (
            len(held) < limits.max_running_tasks
            and (task.state == "wants" or limit < 0 or len(running) < limit)
            and (not limits.max_per_project or of_project < limits.max_per_project)
            and (not limits.max_per_user or not task.person or of_person < limits.max_per_user)
        )

    def order(self) -> list[int]:
        """Ids in the order they are let in; moves the tasks."""
        found = []
        while True:
            able = [task for task in self.tasks if task.state in ("waits", "wants") and self.may(task)]
            if not able:
                return found
            begin = {p: max(self.clock, self.times.get(p, 0.0)) for p in self.weights}
            oldest = {}
            for task in sorted(able, key=lambda t: (t.at, t.id)):
                oldest.setdefault(self.project(task), task)
            project, task = min(oldest.items(), key=lambda o: (begin[o[0]], o[1].at, o[1].id))
            self.clock = begin[project]
            self.times[project] = begin[project] + 1 / self.weights[project]
            task.state = "holds"
            found.append(task.id)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    projects = [f"p{number}" for number in range(draw(st.integers(1, 4)))]
    flows = {
        f"w{number}": (draw(st.sampled_from(projects)), draw(st.sampled_from([-1, -1, 0, 1, 2, 5])))
        for number in range(draw(st.integers(1, 6)))
    }
    one = st.tuples(
        st.integers(0, 5), st.sampled_from(sorted(flows)), st.sampled_from(["", "ann", "ben"]),
        st.sampled_from(["waits"] * 6 + ["wants", "holds", "asks"]),
    )  # fmt: skip
    tasks = [
        Plain(0, float(at), *rest)
        for at, *rest in draw(st.lists(one, min_size=draw(st.sampled_from([0, 8, 30])), max_size=60))
    ]
    return Scene(
        flows=flows,
        weights={project: draw(st.sampled_from([0.5, 1.0, 1.0, 2.0, 4.0])) for project in projects},
        times={project: draw(st.sampled_from([0.0, 2.0, 2.5, 9.0])) for project in projects},
        clock=draw(st.sampled_from([0.0, 2.0, 3.0])),
        tasks=tasks,
        limits=QueueLimits(
            draw(st.integers(1, 40)), draw(st.sampled_from([0, 0, 1, 3])), draw(st.sampled_from([0, 0, 1, 4]))
        ),
    )


def put(tx: Tx, task_id: int, status: TaskStatus, slot: Slot) -> None:
    task = tx.tasks.lock(task_id)
    tx.tasks.save(task, replace(task, status=status, slot=slot))


STATES = {
    "wants": (TaskStatus.RUNNING, Slot.WANTED),
    "holds": (TaskStatus.RUNNING, Slot.HELD),
    "asks": (TaskStatus.RUNNING, Slot.NONE),
}


def arrange(tx: Tx, scene: Scene) -> None:
    for project, weight in scene.weights.items():
        tx.resources.add(Resource("project", "", project, {"weight": weight}))
    for key, (project, limit) in scene.flows.items():
        tx.workflows.add(workflow_row(key, project=project, limit=limit))
    tx.admission.charge(scene.clock, scene.times)
    for task in scene.tasks:
        task.id = start(
            tx, task.workflow, project=scene.project(task), creator_id=task.person, create_at=task.at, jobs=JOBS,
            stages=(("build", True),),
        )  # fmt: skip
        if task.state in STATES:
            put(tx, task.id, *STATES[task.state])


def let_in(tx: Tx, limits: QueueLimits, chunk: int, most: int) -> list[int]:
    """Passes until nobody fits; ids in the order they were let in."""
    order: list[int] = []

    def take(task_id: int) -> bool:
        put(tx, task_id, *STATES["holds"])
        order.append(task_id)
        return True

    more = True
    while more:
        gate = tx.admission.lock()
        assert gate is not None
        before = len(order)
        more = let_in_all(tx.admission, gate, limits, take, most=most, chunk=chunk)
        assert len(order) - before <= most
        assert not more or len(order) > before
    return order


@pytest.fixture(scope="module")
def empty() -> Iterator[InlineDatabase]:
    database = InlineDatabase(lambda: 100.0)
    yield database
    asyncio.run(database.close())


@given(scenes(), st.sampled_from([1, 2, 5, CHUNK]), st.sampled_from([1, 3, 1000]))
@settings(max_examples=200, deadline=None)
def test_a_pass_lets_in_whom_the_rules_say(empty: InlineDatabase, scene: Scene, chunk: int, most: int) -> None:
    def play(tx: Tx) -> tuple[list[int], float]:
        arrange(tx, scene)
        return let_in(tx, scene.limits, chunk, most), tx.admission.gate().vtime

    # A transaction that only reads is taken back: the next scene finds the tables empty.
    order, clock = asyncio.run(empty.read(play))
    assert order == scene.order()
    assert clock == scene.clock


def test_one_transaction_lets_in_so_many_and_the_next_the_rest(empty: InlineDatabase) -> None:
    def play(tx: Tx) -> list[tuple[int, list[str]]]:
        tx.workflows.add(workflow_row("w", limit=-1))
        for number in range(MOST_AT_ONCE + 5):
            start(tx, "w", create_at=float(number), jobs=JOBS)
        claim = Claim("me", QueueLimits(1000))
        ear = Ear(tx, claim)
        ear.admit()
        told = [ear.outcome(None), _admit(tx, claim), _admit(tx, claim)]
        return [(len(one.admitted), [row.kind for row in one.rows if row.kind != "start"]) for one in told]

    assert asyncio.run(empty.read(play)) == [(MOST_AT_ONCE, ["admit"]), (5, []), (0, [])]


def test_a_start_with_nobody_waiting_costs_four_statements(empty: InlineDatabase) -> None:
    """Beside those that start the task: the row, the queue, and what its project has been given."""
    said: list[str] = []

    def play(tx: Any) -> None:
        tx.workflows.add(workflow_row("w", limit=3))
        task_id = start(tx, "w", create_at=1.0, jobs=JOBS)
        ear = Ear(tx, Claim("me", QueueLimits(4)))
        ear.command(task_id, (Admit(),))
        driver = tx.connection.connection.dbapi_connection
        driver.set_trace_callback(lambda text: said.append(" ".join(text.split())))
        try:
            assert len(ear.outcome(None).admitted) == 1
        finally:
            driver.set_trace_callback(None)

    asyncio.run(empty.read(play))
    own = [text for text in said if "admission" in text or "share" in text]
    assert [text.split()[0] for text in own] == ["SELECT", "WITH", "INSERT", "UPDATE"]
    assert len([text for text in said if text.startswith("SELECT workflow_task.id")]) == 1, "the task is locked once"


# -- the choice alone


def line(project: str, vtime: float, weight: float = 1.0) -> Line:
    return Line(project, vtime, weight, Candidate(1, 0.0, project, "w", "", False, -1), False)


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 8), min_size=2), st.floats(0, 1e6))
def test_shares_follow_weights(weights: dict[str, int], clock: float) -> None:
    """Whoever always has work gets its share to within one task per project, at any time."""
    lines = [line(name, 0.0, weight) for name, weight in weights.items()]
    shares = Shares(clock)
    given_ = dict.fromkeys(weights, 0)
    total = sum(weights.values())
    for count in range(1, 5 * total + 1):
        chosen = next_of([(one, one.head) for one in lines], shares)
        assert chosen is not None
        shares.give(lines[chosen])
        given_[lines[chosen].project] += 1
        for name, weight in weights.items():
            assert abs(given_[name] - count * weight / total) <= len(weights), (name, given_)
    assert all(abs(given_[name] - 5 * weight) <= 1 for name, weight in weights.items())


def test_who_was_away_has_saved_nothing_up() -> None:
    busy, idle = line("busy", 0.0), line("idle", 0.0)
    shares = Shares(0.0)
    for _ in range(100):
        shares.give(busy)
    offers = [(busy, busy.head), (idle, idle.head)]
    order = []
    for _ in range(6):
        chosen = next_of(offers, shares)
        assert chosen is not None
        shares.give(offers[chosen][0])
        order.append(offers[chosen][0].project)
    assert order == ["idle", "busy"] * 3
    assert next_of([], shares) is None


@given(
    st.floats(0, 50), st.floats(0, 50), st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.integers(0, 30), st.booleans()
)  # fmt: skip
def test_how_many_come_before_is_what_counting_gives(
    turn: float, begun: float, weight: float, waiting: int, level: bool
) -> None:
    turns = [begun + number / weight for number in range(waiting)]
    if any(0 < abs(one - turn) < 1e-4 for one in turns):
        return  # rounding decides
    expected = sum(one < turn or (level and one == turn) for one in turns)
    assert ahead(turn, begun, weight, waiting, level=level) == expected


@pytest.mark.parametrize("weight", [None, "5", True, 0, -1, float("nan"), float("inf"), 1e9, {}])
def test_a_weight_that_makes_no_sense_is_one(weight: object) -> None:
    assert weight_of({"weight": weight}) == weight_of({}) == 1.0
    assert weight_of({"weight": 3}) == 3.0


def test_what_did_not_fit_never_fits_later() -> None:
    rooms = Rooms(QueueLimits(10, 2, 2), 5, {"p": 1}, {"ann": 1})
    task = Candidate(1, 0.0, "p", "w", "ann", False, 1)
    assert rooms.fits(task)
    rooms.take(task)
    assert not rooms.fits(replace(task, id=2, creator_id="ben", room=9)), "the project is full"
    assert not rooms.fits(replace(task, id=3, project="q", workflow_key="v")), "ann has two"
    assert not rooms.fits(replace(task, id=4, project="q", creator_id="")), "its workflow is full"
    assert rooms.fits(replace(task, id=5, project="q", creator_id="", wanted=True)), "it counts already"
