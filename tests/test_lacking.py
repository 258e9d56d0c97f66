"""Nothing is skipped in silence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real
TESTS = Path(__file__).parent
SAMPLE = """
import pytest
def test_fine(): pass
@pytest.mark.parametrize("n", [1, 2])
def test_lacking(n): pytest.skip("docker: no engine answers; install Docker and start it")
"""


def run(tmp_path: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    (tmp_path / "conftest.py").write_text(
        "from support.lacking import pytest_make_collect_report, pytest_runtest_makereport, pytest_terminal_summary\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CADOR_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path), *words],
        env={**clean, "PYTHONPATH": str(TESTS), **env}, cwd=tmp_path, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip


def test_what_lacks_is_named_at_the_end_with_the_way_to_get_it(tmp_path: Path) -> None:
    for words in ((), ("-n", "2")):
        done = run(tmp_path, *words)
        assert done.returncode == 0, done.stdout
        assert "not run: this machine lacks" in done.stdout
        assert "2 tests: docker: no engine answers; install Docker and start it" in done.stdout


def test_what_lacks_can_be_made_a_failure(tmp_path: Path) -> None:
    done = run(tmp_path, CADOR_TEST_REQUIRE="all")
    assert done.returncode == 1
    assert "2 failed, 1 passed" in done.stdout
    assert "lacking here, and CADOR_TEST_REQUIRE=all: docker" in done.stdout
    assert run(tmp_path, "-k", "fine", CADOR_TEST_REQUIRE="all").returncode == 0
