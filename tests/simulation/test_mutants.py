"""The simulation has teeth: each patch beside this file is a mistake, and some seed must find it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MUTANTS = sorted(path.stem for path in (HERE / "mutants").glob("*.patch"))
SEEDS = 600
"""Played at most, after the seed that is known to find the mistake."""


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_is_found(name: str, tmp_path: Path) -> None:
    patch = HERE / "mutants" / f"{name}.patch"
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    apply = ["git", "apply", "-C1", str(patch)]
    applied = subprocess.run(apply, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert applied.returncode == 0, f"{patch.name} fits the sources no more, write it anew: {applied.stderr}"
    known = re.findall(r"^seed: (\d+)$", patch.read_text(), re.MULTILINE)
    found = subprocess.run(
        [sys.executable, str(HERE / "run.py"), "--seeds", str(SEEDS), "--most-failed", "1", "--also", *known],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    seed = re.search(r"^seed (\d+): (.+)$", found.stdout, re.MULTILINE)
    assert seed, f"{name} was not found in {SEEDS} seeds: {found.stdout[-2000:]} {found.stderr[-2000:]}"
    print(f"{name}: seed {seed[1]}, {seed[2]}")


def test_there_are_enough_mistakes() -> None:
    assert len(MUTANTS) >= 10
