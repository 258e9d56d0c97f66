"""The driver's text (a snapshot), and what scripts leave as outputs, by real shells."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cador.executors.driver import driver, is_variable, prelude, script
from cador.ports.executor import FolderStep, JobFolder
from contracts.executor_contract import ExecutorFactory, Heard, hear, sh

SNAPSHOTS = Path(__file__).parent / "snapshots"
JOB = JobFolder(
    steps=(
        FolderStep("fetch it's", "git", "true", interpreter=("/bin/sh", "-e")),
        FolderStep("build\nall", "shell", "make", outputs=("IMAGE", "a.b")),
        FolderStep("report", "junit_report", "true", on_failure=True, tolerate=True, quiet=True),
    ),
    outputs=("IMAGE", "PKG_FILE", "not-a-name", "PATH"),
)


@pytest.mark.parametrize(("name", "text"), [("run.sh", driver(JOB)), ("prelude.bash", prelude(JOB.steps[1]))])
def test_snapshot(name: str, text: str) -> None:
    """To take a new one: delete the file, run twice, and read the difference."""
    path = SNAPSHOTS / name
    if not path.exists():
        path.write_text(text)
        pytest.fail("a new snapshot was written")
    assert text == path.read_text()


def test_a_step_without_outputs_is_its_text() -> None:
    assert prelude(JOB.steps[0]) == ""
    assert script(JOB.steps[1]) == "make"
    assert script(FolderStep("x", "shell", "make", interpreter=("sh",), outputs=("A",))).endswith("\nmake")


@pytest.mark.parametrize("name", ["PATH", "a.b", "1a", "", "BASH_ENV", "CADOR_JOB", "_cador_x", "LD_PRELOAD", "a\n"])
def test_names_that_travel_by_file_only(name: str) -> None:
    assert not is_variable(name)


Run = Callable[[JobFolder], tuple[Heard, dict[str, str]]]


@pytest.fixture
def run(process: Callable[..., ExecutorFactory]) -> Run:
    def runner(job: JobFolder) -> tuple[Heard, dict[str, str]]:
        async def main() -> tuple[Heard, dict[str, str]]:
            async with asyncio.timeout(30), process()() as executor:
                key = "k-" + os.urandom(6).hex()
                await executor.start(key, job)
                heard = await hear(executor, key)
                values = dict((await executor.harvest(key, key)).outputs)
                await executor.remove(key, key)
                return heard, values

        return asyncio.run(main())

    return runner


def outputs(run: Run, text: str, *, env: dict[str, str] | None = None) -> tuple[int | None, dict[str, str]]:
    """Exit code of a script, and what it left of the outputs A and B."""
    step = sh(text, outputs=("A", "B", "not-a-name"))
    heard, values = run(JobFolder(steps=(step,), outputs=("A", "B", "not-a-name"), env=env or {}))
    return heard.end.exit_code, values


VALUES = [
    "plain",
    "two  spaces and\ttab",
    "*",
    'it\'s "quoted" \\ and `x` $(x) $HOME',
    "a=b=c",
    "-n",
    "%s%d\\n",
    "first\nsecond\n\nfourth",
    "构建 ✓",
    "x" * 10_240,
    "y" * 65_536,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value[:12].encode("unicode_escape").decode())
@pytest.mark.parametrize("shell", [("bash",), ("/bin/sh",)], ids=lambda words: words[-1])
def test_values_travel_verbatim(run: Run, value: str, shell: tuple[str, ...]) -> None:
    """From a variable to the file, from there to a later step's environment, and to the harvest."""
    text = f"A=$(cat <<'THE END'\n{value}\nTHE END\n)\n"
    show = sh('printf "[%s]" "$A"', interpreter=shell)
    heard, values = run(JobFolder(steps=(sh(text, interpreter=shell, outputs=("A",)), show), outputs=("A",)))
    assert heard.output.decode() == f"[{value}]"
    assert values == {"A": value}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.binary(max_size=300).map(lambda raw: raw.replace(b"\0", b"").strip(b"\r\n")))
def test_any_bytes_travel_from_file_to_environment(run: Run, value: bytes) -> None:
    write = f"printf '{''.join(f'{chr(92)}{byte:03o}' for byte in value)}' >\"$RESULTS_DIR/A\""
    steps = (sh(write), sh('printf %s "$A"', interpreter=("/bin/sh",)))
    heard, _ = run(JobFolder(steps=steps, outputs=("A",)))
    assert heard.output == value


@pytest.mark.parametrize(
    ("text", "code", "left"),
    [
        ("A=1", 0, {"A": "1"}),
        ("A=1; exit 0; A=2", 0, {"A": "1"}),
        ("A=1; exit 3", 3, {"A": "1"}),
        ("A=1; false", 1, {"A": "1"}),
        ("set -e; A=1; false; A=2", 1, {"A": "1"}),
        ("set -eu; A=1; echo $NOTHING; A=2", 1, {"A": "1"}),
        ("set -x; A=1", 0, {"A": "1"}),
        ("A=1; unset A", 0, {}),
        ("A=", 0, {"A": ""}),
        ("export A=1; (A=2; exit 5) || true", 0, {"A": "1"}),
        ("echo direct >$RESULTS_DIR/A", 0, {"A": "direct"}),
        ("echo x >$RESULTS_DIR/not-a-name", 0, {"not-a-name": "x"}),
        ("A=1; kill -TERM $$; sleep 5", 143, {"A": "1"}),
        ("A=1; f() { exit 4; }; f", 4, {"A": "1"}),
        ("#!/usr/bin/python3\nA=1", 0, {"A": "1"}),
        ("A=1; cat <<X\nunfinished", 0, {"A": "1"}),
        ("A=1; exec 1>&- 2>&-; exit 6", 6, {"A": "1"}),
        ("cd /; A=1; RESULTS_DIR=/nowhere", 0, {"A": "1"}),
    ],
)
def test_however_a_script_ends(run: Run, text: str, code: int, left: dict[str, str]) -> None:
    assert outputs(run, text) == (code, left)


@pytest.mark.parametrize(
    ("text", "code", "left"),
    [
        ("trap 'B=trap' EXIT; A=1", 0, {"A": "1", "B": "trap"}),
        ("trap 'B=$?' EXIT; A=1; exit 7", 7, {"A": "1", "B": "7"}),
        ("set -e; trap 'B=$?' EXIT; A=1; false", 1, {"A": "1", "B": "1"}),
        ("trap 'exit 9' EXIT; A=1; exit 7", 9, {"A": "1"}),
        ("set -e; trap 'code=$?; exit $code' EXIT; A=1; (exit 8)", 8, {"A": "1"}),
        ("trap 'B=1' 0; trap - EXIT; A=1", 0, {"A": "1"}),
        ("trap 'B=one' EXIT; trap 'B=two' EXIT", 0, {"B": "two"}),
        ("(trap 'echo sub >$RESULTS_DIR/B' EXIT; A=2); A=1", 0, {"A": "1", "B": "sub"}),
        ('trap "B=\\"it\'s\\"" EXIT', 0, {"B": "it's"}),
        ("trap 'A=err' ERR; false; true", 0, {"A": "err"}),
        ("trap 'A=usr' USR1; kill -USR1 $$", 0, {"A": "usr"}),
        ("trap 'B=1; exit 5' TERM; A=1; kill -TERM $$; sleep 5", 5, {"A": "1", "B": "1"}),
        ("trap nonsense NOSUCHSIGNAL 2>/dev/null || A=refused", 0, {"A": "refused"}),
    ],
)
def test_traps_of_the_script_run_as_well(run: Run, text: str, code: int, left: dict[str, str]) -> None:
    assert outputs(run, text) == (code, left)


def test_a_variable_that_was_there_is_left_but_replaces_no_file(run: Run) -> None:
    assert outputs(run, "true", env={"A": "given"}) == (0, {"A": "given"})
    assert outputs(run, "echo file >$RESULTS_DIR/A", env={"A": "given"}) == (0, {"A": "file"})
    assert outputs(run, "echo file >$RESULTS_DIR/A; A=mine", env={"A": "given"}) == (0, {"A": "mine"})


def test_the_jobs_own_bash_env_is_read_and_inherited(run: Run, tmp_path: Path) -> None:
    (tmp_path / "rc").write_text("B=from-rc\n")
    (tmp_path / "rc").chmod(0o644)
    text = "A=$BASH_ENV; bash -c 'echo \"$B\"'"
    step = sh(text, outputs=("A", "B"))
    heard, values = run(
        JobFolder(steps=(step,), outputs=("A", "B"), env={"BASH_ENV": str(tmp_path / "rc")}),
    )
    assert heard.output == b"from-rc\n"
    assert values == {"A": str(tmp_path / "rc"), "B": "from-rc"}


def test_children_of_the_script_write_no_outputs(run: Run) -> None:
    assert outputs(run, "export A=1; bash -c 'A=2; B=3; exit 0'; env | grep -c BASH_ENV") == (1, {"A": "1"})


def test_a_later_step_replaces_an_earlier_value(run: Run) -> None:
    steps = (sh("A=1", outputs=("A",)), sh('A="$A+2"', outputs=("A",)), sh('echo "$A"; A=3; exit 1', outputs=("A",)))
    heard, values = run(JobFolder(steps=(*steps, sh('echo "$A"', on_failure=True)), outputs=("A",)))
    assert heard.output == b"1+2\n3\n"
    assert values == {"A": "3"}


def test_a_value_too_long_for_a_variable_is_told(run: Run) -> None:
    big = 'head -c 70000 /dev/zero | tr "\\0" x >"$RESULTS_DIR/A"'
    heard, values = run(JobFolder(steps=(sh(big), sh('echo "${A-none}"')), outputs=("A",)))
    assert heard.output == b"cador: output A is too long for a variable\nnone\n"
    assert values == {}
