"""The command against the real server: the demo, a local run, and a server of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cador.cli.git_server import GitServer, snapshot
from support.server_process import open_folder

pytestmark = pytest.mark.real

SHOP = Path(__file__).parents[2] / "examples" / "shop"
DEADLINE_S = 120
CODE = "import sys; from cador.cli.main import main; sys.exit(main())"


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CADOR_")}
    return {**clean, "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "xdg"), **more}


def cador(tmp_path: Path, *words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE, *words],
        env=environment(tmp_path, **env),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def temporary() -> Iterator[Path]:
    """For TMPDIR: an empty folder that jobs of a server that is root can enter."""
    with open_folder() as folder:
        (folder / "tmp").mkdir(mode=0o755)
        yield folder / "tmp"


def test_the_demo_passes_and_leaves_nothing_behind(tmp_path: Path, temporary: Path) -> None:
    done = cador(tmp_path, "demo", TMPDIR=str(temporary))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "status    passed" in done.stdout
    assert "tests     15 run, 15 passed, 0 failed" in done.stdout
    for package in ("api-api-build/archive/api-", "web-web-build/archive/web-", "publish/archive/shop-stable-1.tar.gz"):
        assert f"file      {package}" in done.stdout
    assert "unit-test | test_price" in done.stdout  # live lines
    assert "release: approved" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(temporary.iterdir()) == []


LOCAL = """
project: { key: here }
system:
  codehosts:
    far: { type: gitlab, address: "https://gitlab.invalid", access_token: "${FAR_TOKEN:?}" }
workflows:
  check:
    params: { WORD: { default: plain } }
    stages:
      - name: one
        jobs:
          - name: look
            type: freestyle
            repos: [{ codehost: far, repo: team/thing, branch: main }]
            env: { ENDING: "0" }
            script: |
              cat thing/file.txt
              echo "word is $WORD"
              exit $ENDING
"""


WHERE = """
project: { key: here }
workflows:
  check:
    stages:
      - name: one
        jobs:
          - name: look
            type: freestyle
            script: |
              top=${WORKSPACE%%/jobs/*}
              echo "top is $top"
              stat -c 'top %a' "$top"
              stat -c 'data %a' "$top/data"
              test "$(id -u)" = 0 && echo "as root" || echo "as somebody"
              ls "$top" "$top/data" || true
"""


def test_a_local_run_lives_in_its_temporary_folder_alone(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "cador.yaml").write_text(WHERE)
    done = cador(tmp_path, "run", "--local", "cador.yaml", cwd=tmp_path, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"look | top is {temporary}/cador-" in done.stdout
    assert "look | data 700" in done.stdout
    assert "as root" not in done.stdout
    if os.geteuid() == 0:
        assert "look | top 711" in done.stdout
        assert "admin-token" not in done.stdout
        assert done.stdout.count("Permission denied") == 2
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only the jobs of a server that is root run as another account")
def test_a_temporary_folder_that_jobs_cannot_enter_is_told(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "cador.yaml").write_text(WHERE)
    temporary.chmod(0o700)
    done = cador(tmp_path, "run", "--local", "cador.yaml", cwd=tmp_path, TMPDIR=str(temporary))
    assert done.returncode == 1
    assert f"cannot enter {temporary}: set TMPDIR" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(temporary.iterdir()) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / "file.txt").write_text("uncommitted content\n")
    (folder / "cador.yaml").write_text(LOCAL)
    return folder


def test_a_local_run_takes_the_working_tree_as_it_is(tmp_path: Path, tree: Path) -> None:
    done = cador(tmp_path, "run", "--local", "cador.yaml", "--param", "WORD=given", cwd=tree)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "look | uncommitted content" in done.stdout
    assert "look | word is given" in done.stdout
    assert not (tmp_path / "xdg").exists()


def test_a_local_run_that_fails_is_status_one(tmp_path: Path, tree: Path) -> None:
    done = cador(tmp_path, "run", "--local", "cador.yaml", "--input", "look.ENDING=3", cwd=tree)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "failed" in done.stderr


def test_a_local_run_of_a_mistake_is_told(tmp_path: Path, tree: Path) -> None:
    done = cador(tmp_path, "run", "--local", "cador.yaml", "chekc", cwd=tree)
    assert done.returncode == 2
    assert "cador.yaml has: check" in done.stderr


def test_ctrl_c_stops_the_jobs_of_a_local_run(tmp_path: Path, tree: Path, temporary: Path) -> None:
    (tree / "cador.yaml").write_text(LOCAL.replace("exit $ENDING", "sleep 600"))
    # Started by something in the background, this process ignores SIGINT, and so would its child.
    foreground = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {CODE}"
    child = subprocess.Popen(
        [sys.executable, "-c", foreground, "run", "--local", "cador.yaml"],
        env=environment(tmp_path, TMPDIR=str(temporary)),
        cwd=tree,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    deadline = threading.Timer(DEADLINE_S, child.kill)
    deadline.start()
    assert child.stdout is not None
    with child, child.stdout:
        for line in child.stdout:
            if "word is" in line:
                break
        child.send_signal(signal.SIGINT)
        rest = child.stdout.read()
        code = child.wait()
    deadline.cancel()
    assert code == 130, rest
    assert "stopping check/1" in rest
    assert "cancelled" in rest


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """``cador serve`` on a free port with the shop applied; the variables that lead to it."""
    with open_folder() as base:
        yield from serving(base)


def serving(base: Path) -> Iterator[dict[str, str]]:
    data = base / "data"
    env = environment(base, CADOR_DATA=str(data), CADOR_EXECUTORS__PROCESS__ROOT=str(base / "jobs"))
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "serve", "--listen", "127.0.0.1:0"], env=env, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + DEADLINE_S
        while not (data / "server.json").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        with GitServer(base / "git") as git:
            for name in ("api", "web", "tools"):
                (base / "git" / "shop").mkdir(parents=True, exist_ok=True)
                snapshot(SHOP / name, base / "git" / "shop" / f"{name}.git", name)
            variables = {"SHOP_GIT_URL": git.url, "SHOP_GIT_TOKEN": git.token, "SHOP_API_TOKEN": "unused"}
            done = cador(base, "apply", "-f", str(SHOP / "cador.yaml"), CADOR_DATA=str(data), **variables)
            assert done.returncode == 0, done.stderr
            assert "workflow/release created" in done.stdout
            yield {"CADOR_DATA": str(data), **variables}
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_second_apply_changes_nothing(tmp_path: Path, server: dict[str, str]) -> None:
    done = cador(tmp_path, "apply", "-f", str(SHOP / "cador.yaml"), **server)
    assert done.returncode == 0
    assert {line.split()[1] for line in done.stdout.splitlines()} == {"unchanged"}
    assert cador(tmp_path, "diff", "-f", str(SHOP / "cador.yaml"), **server).returncode == 0


def test_a_task_from_start_to_artifact(tmp_path: Path, server: dict[str, str]) -> None:
    done = cador(tmp_path, "run", "release", "--only", "build,test", "-f", **server)
    assert done.returncode == 0, done.stderr
    task = done.stdout.splitlines()[0]
    assert "unit-test | tests: 15, successes: 15" in done.stdout
    told = json.loads(cador(tmp_path, "task", "show", task, "--json", **server).stdout)
    assert (told["status"], [stage["name"] for stage in told["stages"]]) == ("passed", ["build", "test"])
    shown = cador(tmp_path, "task", "show", "release/latest", **server)
    assert "unit-test" in shown.stdout
    log = cador(tmp_path, "task", "logs", task, "--job", "unit-test", **server)
    assert "Ran 11 tests" in log.stdout
    files = cador(tmp_path, "task", "artifacts", task, **server).stdout
    package = next(line.split()[0] for line in files.splitlines() if "api-api-build/archive" in line)
    done = cador(tmp_path, "task", "artifacts", task, package, "-o", str(tmp_path), **server)
    assert done.returncode == 0, done.stderr
    names = subprocess.run(["tar", "-tzf", done.stdout.strip()], capture_output=True, text=True, check=True).stdout
    assert "./shop_api/cart.py" in names


def test_an_approval_from_the_command_line(tmp_path: Path, server: dict[str, str]) -> None:
    task = cador(tmp_path, "run", "release", "--only", "publish", **server).stdout.strip()
    end = time.monotonic() + DEADLINE_S
    while "1 more of admin must approve" not in cador(tmp_path, "task", "why", task, **server).stdout:
        assert time.monotonic() < end
    done = cador(tmp_path, "task", "reject", task, "-m", "not today", **server)
    assert (done.returncode, done.stdout) == (0, "")
    shown = cador(tmp_path, "task", "show", task, "--watch", **server)
    assert shown.returncode == 1
    again = cador(tmp_path, "task", "approve", task, **server)
    assert again.returncode == 1
    assert "waits for an approval" in again.stderr


def test_a_newer_run_cancels_the_older_and_remarks_tell_them_apart(tmp_path: Path, server: dict[str, str]) -> None:
    start = ("run", "release", "--only", "publish", "--auto-cancel", "pr:7", "--remark")
    older = cador(tmp_path, *start, "first", **server).stdout.strip()
    newer = cador(tmp_path, *start, "second", **server).stdout.strip()
    assert cador(tmp_path, "task", "show", older, "--watch", **server).returncode == 1
    told = json.loads(cador(tmp_path, "task", "show", older, "--json", **server).stdout)
    assert (told["status"], told["task_revoker"], told["remark"]) == ("cancelled", "admin", "first")
    done = cador(tmp_path, "task", "remark", newer, "the one that counts", **server)
    assert (done.returncode, done.stdout) == (0, "")
    listed = {
        line.split()[0]: line for line in cador(tmp_path, "task", "list", "release", **server).stdout.splitlines()
    }
    assert "the one that counts" in listed[newer]
    assert "first" in listed[older]
    assert "the one that counts" in cador(tmp_path, "task", "show", newer, **server).stdout
    assert cador(tmp_path, "task", "cancel", newer, **server).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        "workflow list", "workflow show release", "project list", "project show shop", "service list",
        "service show api", "build list", "build show api-build", "testing list", "testing show unit", "codehost list",
        "codehost show shop-git", "registry list", "user list", "user show admin", "token list", "context list",
        "version", "export --project shop", "task list release", "task why release/latest",
        "task events release/latest",
        "task show release/latest --at -0s", "task report release/latest -o -", "doctor",
    ],
)  # fmt: skip
def test_everything_can_be_looked_at(tmp_path: Path, server: dict[str, str], words: str) -> None:
    done = cador(tmp_path, *words.split(), **server)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_group_from_the_command_line(tmp_path: Path, server: dict[str, str]) -> None:
    def group(*words: str) -> subprocess.CompletedProcess[str]:
        return cador(tmp_path, "group", *words, **server)

    assert group("create", "leads", "--member", "admin").returncode == 0
    assert "member: admin" in group("show", "leads").stdout
    assert group("remove", "leads", "admin").returncode == 0
    assert "member:" not in group("show", "leads").stdout
    assert group("add", "leads", "admin").returncode == 0
    assert json.loads(group("list", "--json").stdout)[0]["user_total"] == 1
    unknown = group("add", "leads", "nobody")
    assert unknown.returncode == 1
    assert "there is no user nobody" in unknown.stderr
    assert group("delete", "leads", "--yes").returncode == 0
    assert "there is no group leads" in group("show", "leads").stderr


def test_a_limited_token_is_told_what_it_may_not(tmp_path: Path, server: dict[str, str]) -> None:
    made = cador(tmp_path, "token", "create", "reader", "--scope", "get_workflow", **server)
    token = made.stdout.strip()
    assert cador(tmp_path, "workflow", "show", "release", "-p", "shop", CADOR_TOKEN=token, **server).returncode == 0
    refused = cador(tmp_path, "user", "list", CADOR_TOKEN=token, **server)
    assert refused.returncode == 4
    wrong = cador(tmp_path, "workflow", "list", CADOR_TOKEN="no-such-token", **server)
    assert wrong.returncode == 4
    assert "does not know this token" in wrong.stderr


def test_login_remembers_the_server(tmp_path: Path, server: dict[str, str]) -> None:
    data = Path(server["CADOR_DATA"])
    url = json.loads((data / "server.json").read_text())["url"]
    token = (data / "admin-token").read_text().strip()
    done = cador(tmp_path, "login", url, "--token", token, "--name", "here")
    assert done.returncode == 0, done.stderr
    assert "* " in cador(tmp_path, "context", "list").stdout
    assert "release" in cador(tmp_path, "workflow", "list").stdout
    assert cador(tmp_path, "login", url, "--token", "wrong-token").returncode == 4


def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path, server: dict[str, str]) -> None:
    done = cador(tmp_path, "serve", "--listen", "127.0.0.1:0", **server)
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr
