"""A server killed at any point of a start, and one that comes after it: exactly one run, and the log goes on."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cador.executors.births import Births
from cador.executors.files import remove_tree
from cador.executors.job_folder import Folders
from cador.executors.running import Driver
from cador.ports.executor import FolderStep, JobFolder, Limits
from contracts.executor_contract import ExecutorFactory, hear, sh, until
from executors.conftest import eventually, means

SERVER = """
import asyncio, os, signal, sys
from pathlib import Path
from cador.executors import births, job_folder
from cador.executors.process import ProcessExecutor
from cador.ports.executor import FolderStep, JobFolder

root, installation, point, text = sys.argv[1:5]

def die(at):
    if at == point:
        os.kill(os.getpid(), signal.SIGKILL)

class Folders(job_folder.Folders):
    def _fill(self, new, job, means):
        super()._fill(new, job, means)
        die("filled")

class Births(births.Births):
    async def fresh(self, key, job):
        return None
    def _write(self, key, job):
        super()._write(key, job)
        die("written")
    def _spawn(self, *arguments):
        die("before spawn")
        result = super()._spawn(*arguments)
        die("spawned")
        return result

class Dying(ProcessExecutor):
    def _known(self, *arguments):
        die("begun")
        return super()._known(*arguments)

async def main():
    executor = Dying(root=Path(root), installation=installation)
    executor._folders.__class__ = Folders
    await executor.open()
    executor._births.__class__ = Births
    await executor.start("k-1", JobFolder(steps=(FolderStep("s", "shell", text, quiet=True),)))
    die("started")
    async for event in executor.follow("k-1", "k-1", 0):
        die("followed")

asyncio.run(main())
"""
POINTS = ("filled", "written", "before spawn", "spawned", "begun", "started", "followed")


@pytest.mark.parametrize("point", POINTS)
def test_killed_while_starting(
    point: str, root: Path, installation: str, tmp_path: Path, process: Callable[..., ExecutorFactory]
) -> None:
    runs, go = tmp_path / "runs", tmp_path / "go"
    text = f'echo run >>"{runs}"; echo one; until [ -e "{go}" ]; do sleep 0.01; done; echo two'
    killed = subprocess.run(
        [sys.executable, "-c", SERVER, str(root), installation, point, text], timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL, "the point was never reached"

    async def next_server() -> None:
        async with process()() as executor:
            await executor.start("k-1", JobFolder(steps=(sh(text),)))
            go.touch()
            heard = await hear(executor, "k-1")
            assert heard.output == b"one\ntwo\n"
            assert heard.end.exit_code == 0
            await executor.remove("k-1", "k-1")

    asyncio.run(asyncio.wait_for(next_server(), 30))
    assert runs.read_text() == "run\n"


QUICK_SERVER = """
import asyncio, os, signal, sys
from pathlib import Path
from cador.executors import spawner
from cador.executors.process import ProcessExecutor
from cador.ports.executor import FolderStep, JobFolder

root, installation, request, acts, text = sys.argv[1:6]
asked = 0

class Dying(spawner.Hands):
    async def ask(self, wished, wanted=None):
        global asked
        asked += 1
        if asked == int(request):
            await super().ask(wished[:int(acts)] if acts else wished, None if acts else wanted)
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().ask(wished, wanted)

async def main():
    executor = ProcessExecutor(root=Path(root), installation=installation)
    await executor.open()
    executor._hands.__class__ = Dying
    await executor.start("k-1", JobFolder(steps=(FolderStep("s", "shell", text, quiet=True),)))
    async for event in executor.follow("k-1", "k-1", 0):
        pass
    await executor.remove("k-1", "k-1")

asyncio.run(main())
"""


@pytest.mark.parametrize("acts", ["0", "4", "10", "11", "12", "13", ""])
def test_killed_between_any_two_acts_of_a_start(
    acts: str, root: Path, installation: str, tmp_path: Path, process: Callable[..., ExecutorFactory]
) -> None:
    """*acts*: carried out by the process that starts drivers before the server was killed; "": all, and the start."""
    runs = tmp_path / "runs"
    text = f'echo run >>"{runs}"; echo one'
    killed = subprocess.run(
        [sys.executable, "-c", QUICK_SERVER, str(root), installation, "1", acts, text], timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL

    async def next_server() -> None:
        async with process()() as executor:
            await executor.start("k-1", JobFolder(steps=(sh(text),)))
            heard = await hear(executor, "k-1")
            assert (heard.output, heard.end.exit_code) == (b"one\n", 0)
            await executor.remove("k-1", "k-1")
            assert await executor.existing() == set()

    asyncio.run(asyncio.wait_for(next_server(), 30))
    assert runs.read_text() == "run\n"


@pytest.mark.parametrize(
    ("request_number", "acts"), [("2", "0"), ("2", "1"), ("2", ""), ("3", "1"), ("3", "2"), ("3", "")]
)
def test_killed_between_any_two_acts_after_the_end(
    request_number: str, acts: str, root: Path, installation: str, process: Callable[..., ExecutorFactory]
) -> None:
    """The second request clears up what held the job, the third removes its folder."""
    if means()[0] != "cgroup2":
        pytest.skip("the process that starts drivers clears up where cgroups can be killed")
    killed = subprocess.run(
        [sys.executable, "-c", QUICK_SERVER, str(root), installation, request_number, acts, "echo one"],
        timeout=60, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL

    async def next_server() -> None:
        async with process()() as executor:
            await executor.sweep({"k-1"})
            if (root / "k-1").exists():
                assert (await hear(executor, "k-1")).output == b"one\n"
            await executor.remove("k-1", "k-1")
            await executor.sweep(set())
            assert await executor.existing() == set()
            assert list((root / ".removed").iterdir()) == []

    asyncio.run(asyncio.wait_for(next_server(), 30))


def test_what_takes_long_is_left_to_a_thread(root: Path, process: Callable[..., ExecutorFactory]) -> None:
    many = JobFolder(steps=(sh("mkdir -p a/b && cd a/b && for n in $(seq 300); do : >f$n; done; chmod 0 ../b"),))

    async def main() -> None:
        async with process()() as executor:
            for job in (many, JobFolder(steps=(sh("ln -s / root; mkdir d; : >d/f"),))):
                await executor.start("k-1", job)
                assert (await hear(executor, "k-1")).end.exit_code == 0
                await executor.remove("k-1", "k-1")
                assert await executor.existing() == set()
                assert list((root / ".removed").iterdir()) == []
                (root / ".tombstones" / "k-1").unlink()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_requests_that_were_under_way_when_the_spawner_died(process: Callable[..., ExecutorFactory]) -> None:
    """Nobody knows how far it came: each start looks, and there is exactly one run of each."""

    async def main() -> None:
        async with process()() as executor:
            for turn in range(5):
                keys = [f"k-{turn}-{number}" for number in range(6)]
                job = JobFolder(steps=(sh('echo "$CADOR_JOB"'),))
                starting = [asyncio.create_task(executor.start(key, job)) for key in keys]
                for _ in range(turn + 2):
                    await asyncio.sleep(0)
                executor._hands._process.kill()  # type: ignore[attr-defined]
                await asyncio.gather(*starting)
                for key in keys:
                    heard = await hear(executor, key)
                    assert heard.output.count(b"\n") == 1
                    await executor.remove(key, key)
            assert await executor.existing() == set()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_two_servers_start_the_same_key_at_once(tmp_path: Path, process: Callable[..., ExecutorFactory]) -> None:
    runs = tmp_path / "runs"

    async def race() -> None:
        async with process()() as one, process()() as two:
            for number in range(15):
                key, job = f"k-{number}", JobFolder(steps=(sh(f'echo {number} >>"{runs}"; echo done'),))
                await asyncio.gather(one.start(key, job), two.start(key, job))
                first, second = await asyncio.gather(hear(one, key), hear(two, key))
                assert first.output == second.output == b"done\n"
                assert first.end == second.end

    asyncio.run(asyncio.wait_for(race(), 60))
    assert runs.read_text().split() == [str(number) for number in range(15)]


class LateBirths(Births):
    """Of a server that is held up just before it starts the driver it has made everything ready for."""

    ready, go = threading.Event(), threading.Event()

    async def fresh(self, key: str, job: JobFolder) -> None:
        return None

    def _spawn(self, *arguments: Any) -> Driver:
        holder = self._machine.holder
        placed = holder.place
        holder.place = lambda key, limits: self._hold(placed(key, limits))  # type: ignore[method-assign]
        return super()._spawn(*arguments)

    def _hold(self, placement: Any) -> Any:
        self.ready.set()
        assert self.go.wait(20)
        return placement


@pytest.mark.parametrize("containment", means())
def test_a_driver_that_comes_after_the_end_leaves_no_trace(
    containment: str, root: Path, tmp_path: Path, process: Callable[..., ExecutorFactory]
) -> None:
    """What was to hold it has gone with the job: neither its output nor its end may tell of that."""
    runs = tmp_path / "runs"
    job = JobFolder(steps=(sh(f'echo run >>"{runs}"; echo done'),), limits=Limits(pids=100))

    async def main() -> None:
        late = LateBirths
        late.ready.clear()
        late.go.clear()
        async with process(containment=containment)() as one, process(containment=containment)() as two:
            two._births.__class__ = late  # type: ignore[attr-defined]
            starting = asyncio.create_task(two.start("k-1", job))
            await asyncio.to_thread(late.ready.wait, 20)
            await one.start("k-1", job)
            first = await hear(one, "k-1")
            late.go.set()
            await starting
            second = await hear(two, "k-1")
            assert first.output == second.output == b"done\n"
            assert first.end == second.end
            assert (root / "k-1" / "output").read_bytes() == b"done\n"
            await two.remove("k-1", "k-1")
            assert await one.existing() == set()

    asyncio.run(asyncio.wait_for(main(), 30))
    assert runs.read_text() == "run\n"


def test_a_driver_that_has_yet_to_say_so_is_waited_for(root: Path, process: Callable[..., ExecutorFactory]) -> None:
    """``started`` is there and empty: a server that comes then must not take another session's leader for the driver,
    and end the job when that ends."""
    text = "for i in {1..16}; do (setsid sleep 100000 & echo $!); done; read -r line <go; echo $line"

    async def main() -> None:
        async with process()() as one, process()() as two:
            await one.start("k-1", JobFolder(steps=(sh(f"mkfifo go\n{text}"),)))
            started = root / "k-1" / "marks" / "started"
            eventually(lambda: (root / "k-1" / "output").read_bytes().count(b"\n") == 16)
            others = (root / "k-1" / "output").read_bytes()
            told = started.read_text()
            started.write_text("")
            hearing = asyncio.create_task(hear(two, "k-1"))
            await asyncio.to_thread(eventually, lambda: two._watch._callbacks)  # type: ignore[attr-defined]
            started.write_text(told)
            for pid in others.split():
                os.kill(int(pid), signal.SIGKILL)
            (root / "k-1" / "workspace" / "go").write_text("on\n")
            heard = await hearing
            assert heard.output == others + b"on\n"
            assert heard.end.exit_code == 0

    asyncio.run(asyncio.wait_for(main(), 30))


def test_what_kept_a_driver_from_beginning_is_said(root: Path, process: Callable[..., ExecutorFactory]) -> None:
    async def main() -> None:
        async with process(child_nofile=(1 << 40, 1 << 40))() as executor:
            with pytest.raises(OSError, match="the job could not be started: "):
                await executor.start("k-1", JobFolder(steps=(sh("echo no"),)))
            assert (root / "k-1" / "output").read_bytes() == b""

    asyncio.run(asyncio.wait_for(main(), 30))


def test_two_servers_clear_up_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "away"
    for number in range(300):
        (folder / str(number) / "in").mkdir(parents=True)
        (folder / str(number) / "file").touch()
    both = threading.Barrier(4)

    def remove() -> None:
        both.wait(20)
        remove_tree(folder)

    with ThreadPoolExecutor(4) as threads:
        for ended in [threads.submit(remove) for _ in range(4)]:
            ended.result(20)
    assert not folder.exists()


def test_the_end_is_known_to_a_server_that_was_away(
    root: Path, installation: str, tmp_path: Path, process: Callable[..., ExecutorFactory]
) -> None:
    text = "echo one; exit 9"
    subprocess.run([sys.executable, "-c", SERVER, str(root), installation, "started", text], timeout=60, check=False)
    told = root / "k-1" / "marks" / "exit"
    eventually(lambda: told.exists() and told.read_text().endswith("\n"))

    async def next_server() -> None:
        async with process()() as executor:
            heard = await hear(executor, "k-1")
            assert heard.output == b"one\n"
            assert (heard.end.exit_code, heard.end.failed_step) == (9, 0)
            assert heard.end.at == told.stat().st_mtime

    asyncio.run(asyncio.wait_for(next_server(), 30))


@pytest.mark.parametrize("reason", ["cancel", "timeout"])
def test_a_stop_is_carried_out_by_the_next_server(reason: str, process: Callable[..., ExecutorFactory]) -> None:
    job = JobFolder(
        steps=(
            sh("trap '' TERM; echo began; while :; do sleep 0.05; done"),
            FolderStep("report", "shell", "echo report", on_failure=True, quiet=True),
        )
    )

    async def main() -> None:
        async with process()() as first:
            await first.start("k-1", job)
            await until(first, "k-1", b"began\n")
            await first.stop("k-1", "k-1", reason, 0.4)
        async with process()() as second:
            heard = await hear(second, "k-1")
            assert heard.end.stopped == reason
            assert heard.output.endswith(b"report\n") is (reason == "timeout")

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_folder_of_an_earlier_boot(root: Path, process: Callable[..., ExecutorFactory]) -> None:
    """Started: lost with the host. Not started: maybe torn, so it is written anew."""
    job = JobFolder(steps=(sh("echo fresh"),))

    async def main() -> None:
        async with process()() as executor:
            await executor.start("k-1", job)
            await hear(executor, "k-1")
        for key in ("k-1", "k-2"):
            if key == "k-2":
                (root / key / "marks").mkdir(parents=True)
                (root / key / "output").touch()
                (root / key / "run").touch()
            else:
                record = root / key / "run"
                record.chmod(0o600)
                record.write_text(record.read_text().replace(executor.place.split(":")[1], "an-earlier-boot"))
                (root / key / "marks" / "exit").unlink()
        async with process()() as executor:
            await executor.start("k-1", job)
            heard = await hear(executor, "k-1")
            assert heard.output == b"fresh\n"
            assert heard.end.exit_code is None
            assert heard.end.reason == "the host was restarted while the job ran"
            assert heard.end.at <= (root / "k-1" / "marks" / "00.end").stat().st_mtime + 0.1
            await executor.start("k-2", job)
            assert (await hear(executor, "k-2")).output == b"fresh\n"

    asyncio.run(asyncio.wait_for(main(), 30))


class HeldUp(Folders):
    """A server that is held up after it saw that a folder is of an earlier boot."""

    ready, go = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        self.ready.set()
        assert self.go.wait(20)
        with super().alone():
            yield


def test_two_servers_renew_a_folder_of_an_earlier_boot(
    root: Path, tmp_path: Path, process: Callable[..., ExecutorFactory]
) -> None:
    runs = tmp_path / "runs"
    job = JobFolder(steps=(sh(f'echo run >>"{runs}"; echo began; exec sleep 100000'),))

    async def main() -> None:
        async with process()() as one, process()() as two:
            (root / "k-1" / "marks").mkdir(parents=True)
            (root / "k-1" / "run").touch()
            two._folders.__class__ = HeldUp  # type: ignore[attr-defined]
            starting = asyncio.create_task(two.start("k-1", job))
            await asyncio.to_thread(HeldUp.ready.wait, 20)
            await one.start("k-1", job)
            await until(one, "k-1", b"began\n")
            HeldUp.go.set()
            await starting
            await until(two, "k-1", b"began\n")
            await two.stop("k-1", "k-1", "cancel", 1.0)
            assert (await hear(one, "k-1")).end.stopped == "cancel"

    asyncio.run(asyncio.wait_for(main(), 30))
    assert runs.read_text() == "run\n"


def test_the_spawner_is_started_again(process: Callable[..., ExecutorFactory]) -> None:
    async def main() -> None:
        async with process()() as executor:
            await executor.start("k-1", JobFolder(steps=(sh("echo $PPID; exec sleep 100000"),)))
            spawner = executor._hands._process  # type: ignore[attr-defined]
            spawner.kill()
            spawner.wait()
            await executor.start("k-2", JobFolder(steps=(sh("echo two"),)))
            assert (await hear(executor, "k-2")).output == b"two\n"
            await executor.stop("k-1", "k-1", "cancel", 1.0)
            assert (await hear(executor, "k-1")).end.stopped == "cancel"

    asyncio.run(asyncio.wait_for(main(), 30))
