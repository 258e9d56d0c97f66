"""Seeds in every check, and that a seed is a run: the same to the last byte, wherever it is played."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.installation import Simulation
from simulation.run import play, shrink, told

RUN = Path(__file__).with_name("run.py")
CHUNK = 20
QUICK, ALL = 60, 400
"""Seeds in ``make check``, and in ``make test``."""


@pytest.mark.parametrize("first", range(0, QUICK, CHUNK))
def test_what_must_hold_holds(first: int) -> None:
    hold(first)


@pytest.mark.real
@pytest.mark.parametrize("first", range(QUICK, ALL, CHUNK))
def test_it_holds_for_more_seeds(first: int) -> None:
    hold(first)


def hold(first: int) -> None:
    failed = [result for seed in range(first, first + CHUNK) if (result := play(seed)).violation]
    assert not failed, "\n\n".join(map(told, failed))


def test_a_seed_is_one_run() -> None:
    """Two programs with other hashes and other memory, and this one: the same digest of everything that happened."""
    seed = 3
    digests = set()
    for hashes in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, str(RUN), "--seed", str(seed), "--quiet"],
            env={**os.environ, "PYTHONHASHSEED": hashes}, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        digests.add(ran.stdout.split()[0])
    first, second = play(seed), play(seed)
    assert first.trace == second.trace
    assert {first.digest, second.digest} == digests
    assert play(seed + 1).digest not in digests


def test_what_must_not_be_is_told_with_a_way_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world in which a job runs twice although nothing was lost."""

    def began(self: Simulation, world: object, key: str) -> None:
        self.judge.began(key)
        if len(self.judge.begun) == 3:
            self.judge.began(key)

    monkeypatch.setattr(Simulation, "_began", began)
    result = next(result for seed in range(50) if (result := play(seed)).violation)
    assert "ran twice" in result.violation
    assert f"replay: .venv/bin/python tests/simulation/run.py --seed {result.seed}" in told(result)
    left_out = shrink(result.seed)
    assert play(result.seed, left_out).violation
    assert len(left_out) > (len(result.faults) + len(result.actions)) // 2
