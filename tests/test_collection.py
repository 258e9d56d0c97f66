"""Tests are the same tests wherever and whenever they are collected: workers that disagree about them run none."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ANOTHER_EACH_TIME = {
    "choice", "choices", "getpid", "mkdtemp", "monotonic", "monotonic_ns", "now", "perf_counter", "randbytes",
    "randint", "random", "sample", "shuffle", "time", "time_ns", "today", "token_hex", "token_urlsafe", "uniform",
    "urandom", "uuid1", "uuid4",
}  # fmt: skip
"""Names of functions."""
UNORDERED = {"frozenset", "glob", "iterdir", "listdir", "rglob", "scandir", "set"}
"""Names of functions whose results come in the order of a disk or of hashes."""


def name_of(node: ast.AST) -> str:
    """The name of the function that a call calls."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def made_from(tree: ast.Module) -> Iterator[ast.expr]:
    """What decides which tests a module has, and what they are called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node) == "parametrize":
            yield from (*node.args[1:], *(keyword.value for keyword in node.keywords))
        elif isinstance(node, ast.Call) and name_of(node) == "fixture":
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "params")


def uncertain(node: ast.AST, *, ordered: bool = False) -> Iterator[str]:
    """What of an expression is another each time. *ordered*: it is sorted, or one value whatever its order."""
    name = name_of(node)
    if name in ANOTHER_EACH_TIME:
        yield f"line {node.lineno}: {name}()"  # type: ignore[attr-defined]
    if name in UNORDERED and not ordered:
        yield f"line {node.lineno}: {name}() is not sorted"  # type: ignore[attr-defined]
    inside = ordered or name == "sorted"
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Lambda):
            yield from uncertain(child, ordered=inside)


def listed(given: ast.expr) -> Iterator[ast.expr]:
    """Where the cases themselves stand: a set there has no order."""
    yield given
    if isinstance(given, ast.List | ast.Tuple):
        yield from (one.value for one in given.elts if isinstance(one, ast.Starred))


def faults(source: str) -> list[str]:
    found = []
    for given in made_from(ast.parse(source)):
        found += uncertain(given)
        found += [f"line {one.lineno}: a set" for one in listed(given) if isinstance(one, ast.Set | ast.SetComp)]
    return found


def test_no_test_is_made_from_a_moment_or_from_chance() -> None:
    found = {str(path.relative_to(TESTS)): told for path in sorted(TESTS.rglob("test_*.py"))
             if (told := faults(path.read_text(encoding="utf-8")))}  # fmt: skip
    assert found == {}


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        ("[time.time(), 1]", ["line 1: time()"]),
        ("[1, (2, [uuid.uuid4().hex])]", ["line 1: uuid4()"]),
        ('{"a", "b"}', ["line 1: a set"]),
        ("[*{a for a in x}, 1]", ["line 1: a set"]),
        ("list(set(x))", ["line 1: set() is not sorted"]),
        ('[*HERE.glob("*.md")]', ["line 1: glob() is not sorted"]),
        ('sorted(HERE.glob("*.md"))', []),
        ("sorted(x for x in {1, 2})", []),
        ("[lambda: time.time(), {1: 2}, ({'a'}, 1)]", []),
    ],
)
def test_what_would_differ_is_found(cases: str, told: list[str]) -> None:
    assert faults(f'@pytest.mark.parametrize("x", {cases})\ndef test(x): pass\n') == told


@pytest.mark.real
def test_another_hash_and_another_moment_make_no_other_tests() -> None:
    """What the rule above cannot see: sets and moments behind names."""
    collected = []
    for hashes in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
            cwd=TESTS.parent, env={**os.environ, "PYTHONHASHSEED": hashes}, capture_output=True, text=True,
            timeout=300, check=True,
        )  # fmt: skip
        collected.append([line for line in done.stdout.splitlines() if "::" in line])
    first, second = collected
    assert len(first) > 1_000
    assert first == second
