"""The example works by itself: its tests, its report, its file."""

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from cador.cli.demo import REPOSITORIES, examples
from cador.cli.manifest import read_documents

SHOP = Path(__file__).parents[2] / "examples" / "shop"
JUNIT = SHOP / "tools" / "junit.py"


def junit(module: Path, report: Path) -> int:
    words = [sys.executable, "-B", "-W", "error", str(JUNIT), str(module), str(report)]
    return subprocess.run(words, capture_output=True, check=False, timeout=60).returncode


@pytest.mark.parametrize(("module", "tests"), [("api", 11), ("web", 4)])
def test_the_tests_of_the_shop_pass_and_are_counted(tmp_path: Path, module: str, tests: int) -> None:
    assert junit(SHOP / module, tmp_path / "r.xml") == 0
    suite = ET.parse(tmp_path / "r.xml").getroot()  # noqa: S314
    assert suite.get("name") == module
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == (str(tests), "0", "0")


def test_a_report_tells_failures_errors_and_skips(tmp_path: Path) -> None:
    folder = tmp_path / "mod"
    (folder / "tests").mkdir(parents=True)
    (folder / "tests" / "__init__.py").touch()
    (folder / "tests" / "test_it.py").write_text(
        "import unittest\n"
        "class T(unittest.TestCase):\n"
        "    def test_ok(self): pass\n"
        "    def test_wrong(self): self.assertEqual(1, 2)\n"
        "    def test_broken(self): raise OSError('x')\n"
        "    def test_later(self): self.skipTest('not now')\n"
        "    def test_parts(self):\n"
        "        for part in (1, 2, 3):\n"
        "            with self.subTest(part=part): self.assertEqual(part, 1)\n"
        "class Fixture(unittest.TestCase):\n"
        "    @classmethod\n"
        "    def setUpClass(cls): raise OSError('no')\n"
        "    def test_never(self): pass\n"
    )
    assert junit(folder, tmp_path / "r.xml") == 1
    suite = ET.parse(tmp_path / "r.xml").getroot()  # noqa: S314
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "6", "failures": "2", "errors": "2", "skipped": "1"}


def test_a_price_that_is_wrong_fails_the_shop(tmp_path: Path) -> None:
    shutil.copytree(SHOP / "api", tmp_path / "api")
    cart = tmp_path / "api" / "shop_api" / "cart.py"
    cart.write_text(cart.read_text().replace("SHIPPING = 490", "SHIPPING = 491"))
    assert junit(tmp_path / "api", tmp_path / "r.xml") == 0  # tests name the constant, not its value
    cart.write_text(cart.read_text().replace("// 100", "// 99"))
    assert junit(tmp_path / "api", tmp_path / "r.xml") == 1


def test_packing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        subprocess.run([SHOP / "tools" / "pack.sh", SHOP / "api", tmp_path / name / "x.tar.gz"], check=True, timeout=60)
    first, second = ((tmp_path / name / "x.tar.gz").read_bytes() for name in ("a", "b"))
    assert first == second


def test_the_file_of_the_shop_is_valid() -> None:
    assert examples() == SHOP
    names = {"SHOP_GIT_URL": "http://127.0.0.1:1", "SHOP_GIT_TOKEN": "t", "SHOP_API_TOKEN": "t"}
    documents = read_documents([SHOP / "cador.yaml"], names)
    assert [one.kind for one in documents].count("Build") == 2
    used = {repo["repo_name"] for one in documents if one.kind in ("Build", "Test") for repo in one.spec["repo_info"]}
    assert used == set(REPOSITORIES)
