"""What goes wrong in a run: a list made from the seed, so that it can be printed, and cut down one by one."""

import random
from dataclasses import dataclass
from typing import Final

KINDS: Final = (
    ("kill", 5),
    ("host", 2),
    ("freeze", 4),
    ("lose_lock", 2),
    ("leave", 2),
    ("write_before", 3),
    ("write_after", 4),
    ("write_lost", 4),
    ("write_undone", 2),
    ("write_twice", 2),
    ("call", 8),
    ("away", 2),
    ("slow", 2),
    ("failing", 3),
    ("cut", 2),
    ("lose_job", 3),
    ("crash_job", 3),
    ("clock", 2),
)
"""Kinds with their weights.

``kill``: a process dies; ``host``: so does its host, and its session lock stays for a while; ``freeze``: stopped for
*seconds*; ``lose_lock``: its lock connection breaks; ``leave``: it is shut down in good order. ``write_*``: at a
transaction of the name *at*: the process dies before or after the commit, the reply of what is committed or undone
is lost, it is run twice. ``call``: dies, or freezes for *seconds*, on the way to the executor in the call *at*.
``away``: the database, ``cut``: the executor for one process or all, ``slow``, ``failing``: its calls, each for
*seconds*. ``lose_job``, ``crash_job``: what happens to a running job. ``clock``: of the database, or of one process,
jumps by *seconds*."""

DEEDS: Final = ("write_freeze", "write_freeze", "write_after", "call", "call", "kill", "leave")
"""What befalls servers that carry out jobs themselves, besides. ``write_freeze``: frozen for *seconds* before the reply
to a commit arrives."""
WRITES: Final = (
    "_store", "_started", "_started", "_ended", "_ended", "_hear", "_lost", "_take", "_claim_due", "_stop_unbegun",
    "_stopped", "_drop", "_timer", "_admit", "_cancel", "_retry", "_vote", "_decide", "_postpone", "_done",
    "_give_back", "_owned",
)  # fmt: skip
"""Transactions worth aiming at, by the name of their function; one that never comes does no harm."""
CALLS: Final = (
    "start", "start", "start", "start", "start back", "start back", "stop", "stop back", "follow", "harvest", "remove",
    "remove back", "sweep", "existing", "tell back",
)  # fmt: skip
_WAITS: Final = (0.0, 0.2, 3.0, 7.0, 10.0, 14.0, 20.0, 30.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """``at_s``: from this second on; ``steps``: that many callbacks later; ``at``: where; ``pick``: which one of those
    there are, in 0..1."""

    kind: str
    at_s: float
    steps: int
    at: str
    pick: float
    seconds: float

    def __str__(self) -> str:
        where = f" at {self.at}" if self.at else ""
        when = f"from {self.at_s:.2f} s + {self.steps} steps"
        return f"{self.kind}{where} {when}, {self.seconds:.1f} s, pick {self.pick:.2f}"


def deed_faults(dice: random.Random, *, until_s: float) -> list[Fault]:
    found = []
    for _ in range(dice.choice((1, 1, 2, 3))):
        kind = dice.choice(DEEDS)
        at = dice.choice(("_started", "_started", "_take", "_ended")) if kind.startswith("write") else ""
        if kind == "call":
            at = dice.choice(("deed", "deed back"))
        seconds = dice.choice((0.0, 7.0, 14.0, 30.0, 45.0)) * (0.8 + 0.4 * dice.random())
        found.append(
            Fault(kind, dice.random() ** 1.5 * until_s, int(dice.random() ** 3 * 60), at, dice.random(), seconds)
        )
    return found


def faults(dice: random.Random, *, alone: bool, until_s: float) -> list[Fault]:
    names, weights = zip(*KINDS, strict=True)
    count = dice.choice((0, 1, 2, 3, 4, 5, 6, 8, 10))
    found = []
    for _ in range(count):
        kind = dice.choices(names, weights)[0]
        at = dice.choice(WRITES) if kind.startswith("write") else dice.choice(CALLS) if kind == "call" else ""
        seconds = dice.choice(_WAITS) * (0.8 + 0.4 * dice.random())
        if kind == "clock":
            seconds = dice.choice((-60.0, -20.0, -2.0, 2.0, 20.0, 600.0))
        found.append(
            Fault(kind, dice.random() ** 1.5 * until_s, int(dice.random() ** 3 * 60), at, dice.random(), seconds)
        )
    return sorted(found, key=lambda fault: fault.at_s)
