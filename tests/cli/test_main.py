"""The command as people type it: overview, mistakes, exit statuses, completion."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cador.cli.commands import COMMANDS
from cador.cli.contexts import Contexts, read_contexts, write_contexts
from cador.cli.main import main
from cador.cli.output import table
from support.http_peer import peer
from support.http_peer import reply as answer

HEAVY = {"asyncio", "cyclopts", "http.client", "httpx2", "pydantic", "rich", "sqlalchemy", "ssl", "starlette", "yaml"}


def cador(tmp_path: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Carries out a command line in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CADOR_")}
    place = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "data")}
    code = "import sys; from cador.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**clean, **place, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


Called = Callable[..., tuple[int, str, str]]


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    """Carries out a command line in this process: exit status, stdout, stderr."""
    for name in os.environ:
        if name.startswith("CADOR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str, **env: str) -> tuple[int, str, str]:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        code = main(list(words))
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_the_overview_names_every_command(called: Called) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        code, out, _ = called(*words)
        assert code == 0
        for name, (_, summary, _) in COMMANDS.items():
            assert f"  {name} " in out
            assert summary in out


@pytest.mark.parametrize("word", ["--help", "--version", "tsk"])
def test_what_people_wait_for_loads_nothing_heavy(word: str) -> None:
    code = f"import sys; from cador.cli.main import main; main([{word!r}]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert not loaded & HEAVY
    assert "cador.cli.main" in loaded


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(called: Called, name: str) -> None:
    code, out, err = called(name, "--help")
    assert (code, err) == (0, "")
    assert f"$ cador {name}" in out
    assert "[default: False]" not in out
    for line in out.partition("─ Commands ─")[2].partition("╰")[0].splitlines()[1:]:
        assert line.strip("│ ").count(" ") > 1, f"{line} has no summary"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tsk"], "did you mean task?"),
        (["rnu"], "did you mean run?"),
        (["--versoin"], "unknown option"),
        (["task", "shw"], "show"),
        (["task", "show", "a/1", "--jsn"], "--json"),
        (["task", "show"], "TASK"),
        (["task", "show", "a"], "WORKFLOW/NUMBER"),
        (["task", "show", "a/0"], "WORKFLOW/NUMBER"),
        (["task", "list", "a", "--limit", "many"], "many"),
        (["task", "list", "a", "--limit", "0"], "1 or more"),
        (["ticket", "list", "--limit=-1"], "1 or more"),
        (["role", "give", "tester"], "name an account"),
        (["audit", "verify", "--known", "x"], "ID:HASH"),
        (["settings", "set", "engine.max_running_tasks", "-1"], "-1"),
        (["delete", "-f", "/nowhere.yaml"], "/nowhere.yaml"),
        (["run"], "which workflow"),
        (["run", "a", "--param", "x"], "NAME=VALUE"),
        (["run", "a", "--input", "x=1"], "JOB.KEY=VALUE"),
        (["run", "a", "--repo", "x/y=."], "--local"),
        (["apply"], "--file"),
        (["apply", "-f", "/nowhere.yaml"], "/nowhere.yaml"),
        (["completion", "tcsh"], "tcsh"),
        (["context", "use", "x"], "known: none"),
    ],
)
def test_mistakes_are_one_line(called: Called, words: list[str], told: str) -> None:
    # A server that nobody reaches: what is wrong must be told before anything is asked.
    code, out, err = called(*words, CADOR_URL="http://127.0.0.1:9", CADOR_TOKEN="t")
    assert code == (1 if words[0] == "context" else 2), err
    assert told in err
    assert out == ""
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words", [["task", "show", "a/1"], ["project", "list"], ["run", "a"], ["workflow", "show", "a"], ["user", "list"]]
)
def test_a_server_that_is_away_is_status_three(called: Called, words: list[str]) -> None:
    code, _, err = called(*words)
    assert code == 3
    assert "cador serve" in err
    code, _, err = called(*words, CADOR_URL="http://127.0.0.1:9", CADOR_TOKEN="t")
    assert code == 3
    assert "nothing listens there" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(called: Called, shell: str) -> None:
    code, script, _ = called("completion", shell)
    assert code == 0
    for word in ("approve", "follow", "codehost"):
        assert word in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=60)


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    code = "import sys; from cador.cli.main import main; sys.exit(main())"
    line = f"{sys.executable} -c '{code}' convert -f - | head -n 1; exit ${{PIPESTATUS[0]}}"
    users = "".join(f"    user{number}: {{ name: somebody }}\n" for number in range(3000))
    done = subprocess.run(
        ["bash", "-c", line],
        input=f"system:\n  users:\n{users}", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr


def test_settings_that_do_not_fit_are_one_line(called: Called) -> None:
    code, _, err = called("serve", CADOR_LISEN="127.0.0.1:0")
    assert code == 1
    assert err.strip() == "cador: CADOR_LISEN: unknown setting lisen; did you mean listen?"


def test_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path, called: Called) -> None:
    (tmp_path / "data" / "cador").mkdir(parents=True, mode=0o755)
    code, out, _ = called("doctor")
    assert code == 1
    assert f"chmod 700 {tmp_path}/data/cador" in out
    (tmp_path / "data" / "cador").chmod(0o700)
    code, out, _ = called("doctor")
    assert code == 0, out
    assert "git version" in out


ODD = [
    (["apply", "-f", "-"], b"a: \xff", 2, "stdin is not UTF-8 text"),
    (["login", "http://127.0.0.1:9"], b"", 2, "that is no token"),
    (["export"], b"", 1, "not a directory"),
]


@pytest.mark.parametrize(("words", "given", "status", "told"), ODD)
def test_no_input_makes_a_stack_trace(tmp_path: Path, words: list[str], given: bytes, status: int, told: str) -> None:
    (tmp_path / "config").write_text("a file where a folder is wanted")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CADOR_")}
    code = "import sys; from cador.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], input=given, capture_output=True, check=False, timeout=60,
        env={**clean, "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "data")},
    )  # fmt: skip
    said = done.stderr.decode()
    assert "Traceback" not in said
    assert (done.returncode, told.lower() in said.lower()) == (status, True), said
    assert len(said.strip().splitlines()) == 1


def test_what_a_terminal_cannot_say_and_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    table(("a",), [["\x1b[2Jone\ntwo\u202e"]])
    assert capsys.readouterr().out.splitlines()[1] == "\ufffd[2Jone two\ufffd"
    code = "import sys; from cador.cli.app import run; sys.exit(run(['convert', '-f', '-']))"
    text = "system: { users: { zoe: { name: \u4f59 } } }"
    done = subprocess.run(
        [sys.executable, "-c", code], input=text.encode(), capture_output=True, check=False, timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert (done.returncode, b"\\u4f59" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ((200, b"<html>hello</html>", "text/html"), "answers with a web page"),
        ((302, b"", "text/html"), "sends elsewhere"),
        ((200, b"hello", "text/plain"), "answers with text/plain"),
    ],
)
def test_a_server_that_is_something_else(called: Called, reply: tuple[int, bytes, str], told: str) -> None:
    with peer(lambda asked, handler: answer(handler, *reply)) as server:
        code, _, err = called("project", "list", CADOR_URL=server.url, CADOR_TOKEN="t")
    assert code == 1
    assert told in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "\u4f59", "\x7f"])
def test_a_token_that_is_none_is_not_shown(called: Called, token: str) -> None:
    code, _, err = called("project", "list", CADOR_URL="http://127.0.0.1:9", CADOR_TOKEN=token)
    assert code == 2
    assert "is no token" in err
    assert token not in err


def test_help_of_a_command_by_the_word_help(called: Called) -> None:
    assert called("help", "task", "show") == called("task", "show", "--help")
    code, _, err = called("help", "tsk")
    assert (code, "did you mean task?" in err) == (2, True)


def test_a_context_can_be_forgotten(called: Called, tmp_path: Path) -> None:
    path = tmp_path / "config" / "cador" / "contexts.toml"
    known = {"one": ("http://one", "token-of-one"), "two": ("http://two", "token-of-two")}
    write_contexts(path, Contexts("two", known))
    assert called("context", "delete", "one")[0] == 0
    assert read_contexts(path) == Contexts("two", {"two": known["two"]})
    code, _, err = called("context", "delete", "one")
    assert (code, "known: two" in err) == (1, True)
    assert called("context", "delete", "two")[0] == 0
    assert "token-of" not in path.read_text()
    code, _, err = called("workflow", "list")
    assert (code, "no server is known" in err) == (3, True)
