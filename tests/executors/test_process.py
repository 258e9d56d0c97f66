"""What only real processes can show: containment, environment, limits, files, floods."""

import asyncio
import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cador.executors.cgroups import cgroup_mounts
from cador.executors.containment import available
from cador.executors.job_folder import Folders
from cador.executors.outputs import read_outputs
from cador.executors.process import ProcessExecutor
from cador.executors.spawner import Spawner, Wanted
from cador.ports.executor import FolderStep, JobFolder, Limits, Output, StartRefused, StepState
from contracts.executor_contract import Heard, hear, sh, until
from executors.conftest import alive, eventually, let_everybody_in, means, remove_cgroups

Run = Callable[..., Any]


@pytest.fixture
def run(root: Path, installation: str) -> Run:
    def runner(test: Callable[[ProcessExecutor], Coroutine[Any, Any, None]], **settings: Any) -> None:
        async def main() -> None:
            executor = ProcessExecutor(root=root, installation=installation, **settings)
            async with asyncio.timeout(60):
                await executor.open()
                try:
                    await test(executor)
                finally:
                    await executor.close()

        asyncio.run(main())

    return runner


async def once(executor: ProcessExecutor, job: JobFolder, key: str = "k-1") -> Heard:
    await executor.start(key, job)
    return await hear(executor, key)


def daemons(marker: str) -> str:
    """Two that leave the session, one of them twice forked and deaf to TERM."""
    return (
        f"setsid bash -c 'trap \"\" TERM; (exec -a {marker} sleep 100000) & exec -a {marker} sleep 100000' &\n"
        f"(setsid bash -c 'exec -a {marker} sleep 100000' >/dev/null 2>&1 &)\n"
        f'until [ "$(grep -ls {marker} /proc/[0-9]*/cmdline | wc -l)" -ge 4 ]; do sleep 0.02; done\n'
    )


@pytest.mark.parametrize("containment", means())
@pytest.mark.parametrize("how", ["end", "cancel", "timeout", "remove"])
def test_nothing_is_left_of_a_job(run: Run, installation: str, containment: str, how: str) -> None:
    marker = f"left-{installation}"

    async def test(executor: ProcessExecutor) -> None:
        stay = "" if how == "end" else "sleep 100000"
        await executor.start("k-1", JobFolder(steps=(sh(f"{daemons(marker)}echo ready\n{stay}"),)))
        if how != "end":
            await until(executor, "k-1", b"ready\n")
            assert len(alive(marker)) >= 3
        if how == "remove":
            await executor.remove("k-1", "k-1")
        else:
            if how != "end":
                await executor.stop("k-1", "k-1", how, 0.3)
            assert (await hear(executor, "k-1")).end.stopped == ("" if how == "end" else how)
        assert alive(marker) == []

    run(test, containment=containment)


def test_reports_find_nothing_of_the_stopped_step(run: Run, installation: str) -> None:
    marker = f"left-{installation}"
    job = JobFolder(
        steps=(
            sh(f"trap '' TERM\n{daemons(marker)}echo ready\nwhile :; do sleep 0.05; done"),
            sh(f"! grep -ls {marker} /proc/[0-9]*/cmdline | grep -qv /self/ && echo none", on_failure=True),
        )
    )

    async def test(executor: ProcessExecutor) -> None:
        await executor.start("k-1", job)
        await until(executor, "k-1", b"ready\n")
        await executor.stop("k-1", "k-1", "timeout", 0.2)
        heard = await hear(executor, "k-1")
        assert heard.end.stopped == "timeout"
        assert dict(heard.states)[0] is StepState.FAILED
        assert (heard.end.exit_code, heard.end.failed_step) == (137, 0)

    run(test)


def test_reports_have_their_time_and_no_more(run: Run) -> None:
    job = JobFolder(
        steps=(sh("echo ready; sleep 100000"), sh("echo report; sleep 100000", on_failure=True), sh("echo no")),
        report_s=0.3,
    )

    async def test(executor: ProcessExecutor) -> None:
        await executor.start("k-1", job)
        await until(executor, "k-1", b"ready\n")
        await executor.stop("k-1", "k-1", "timeout", 1.0)
        heard = await hear(executor, "k-1")
        assert heard.output.endswith(b"report\n")
        assert (heard.end.stopped, heard.end.failed_step) == ("timeout", 0)
        assert dict(heard.states) == {0: StepState.FAILED, 1: StepState.FAILED, 2: StepState.SKIPPED}

    run(test)


def test_a_cancel_during_the_reports_ends_them(run: Run) -> None:
    job = JobFolder(steps=(sh("echo ready; sleep 100000"), sh("echo report; sleep 100000", on_failure=True)))

    async def test(executor: ProcessExecutor) -> None:
        await executor.start("k-1", job)
        await until(executor, "k-1", b"ready\n")
        await executor.stop("k-1", "k-1", "timeout", 1.0)
        await until(executor, "k-1", b"report\n")
        await executor.stop("k-1", "k-1", "cancel", 0.2)
        assert (await hear(executor, "k-1")).end.stopped == "cancel"

    run(test)


def test_a_script_may_kill_its_group_and_the_driver_goes_on(run: Run) -> None:
    async def test(executor: ProcessExecutor) -> None:
        heard = await once(executor, JobFolder(steps=(sh("kill 0; sleep 5"), sh("echo report", on_failure=True))))
        assert heard.output.endswith(b"report\n")
        assert (heard.end.exit_code, heard.end.failed_step) == (143, 0)

    run(test)


def test_a_driver_killed_from_outside(run: Run, root: Path) -> None:
    async def test(executor: ProcessExecutor) -> None:
        await executor.start("k-1", JobFolder(steps=(sh("echo ready; sleep 100000"), sh("echo no"))))
        await until(executor, "k-1", b"ready\n")
        os.kill(int((root / "k-1" / "marks" / "started").read_text().split()[0]), signal.SIGKILL)
        heard = await hear(executor, "k-1")
        assert heard.end.exit_code is None
        assert heard.end.reason == "the job's first process was killed from outside"
        assert dict(heard.states) == {0: StepState.FAILED, 1: StepState.SKIPPED}

    run(test)


DUMP = "import sys; sys.stdout.buffer.write(open('/proc/self/environ', 'rb').read())"


def test_the_environment_is_exact(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_SECRET", "hunter2")
    env = {
        "A": 'it\'s "quoted" $HOME `id` * \\ \n two\tlines ',
        "EMPTY": "",
        "BASH_ENV": "/nowhere",
        "utf": "构建 ✓",
        "n": "1",
        "IMAGE": "x",
    }
    step = FolderStep("dump", "x", DUMP, interpreter=(sys.executable, "-I"), quiet=True)

    async def test(executor: ProcessExecutor) -> None:
        folder = root / "k-1"
        own = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": f"{folder}/home",
            "WORKSPACE": f"{folder}/workspace",
            "RESULTS_DIR": f"{folder}/outputs",
            "TMPDIR": f"{folder}/tmp",
            "CADOR_JOB": f"{executor._installation}/k-1",
            "CADOR_JOB_DIR": f"{folder}",
            "PWD": f"{folder}/workspace",
        }
        heard = await once(executor, JobFolder(steps=(step,), env=env))
        told = [entry.partition("=")[::2] for entry in heard.output.decode().rstrip("\0").split("\0")]
        assert dict(told) == {**env, **own}
        assert len(told) == len(env) + len(own)

    run(test)


def test_names_no_shell_knows_reach_the_steps(run: Run) -> None:
    step = FolderStep("dump", "x", DUMP, interpreter=(sys.executable, "-I"), quiet=True)

    async def test(executor: ProcessExecutor) -> None:
        told = (await once(executor, JobFolder(steps=(step,), env={"a.b": "1", "x-y": "two", "C": "3"}))).output
        assert {b"a.b=1", b"x-y=two", b"C=3"} <= set(told.split(b"\0"))

    run(test)


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"BIG": "x" * 131_072}, "the variable BIG is longer than 128 KiB"),
        (
            {f"V{number}": "x" * 100_000 for number in range(25)},
            "the variables of the job are longer than 2 MiB together",
        ),
        ({"A": "x\0y"}, "the variable A has a NUL in it"),
        ({"A=B": "x"}, "'A=B' is no name of a variable"),
        ({"": "x"}, "'' is no name of a variable"),
    ],
)
def test_an_environment_no_process_can_have_is_refused(run: Run, env: dict[str, str], reason: str) -> None:
    async def test(executor: ProcessExecutor) -> None:
        with pytest.raises(StartRefused, match=reason):
            await executor.start("k-1", JobFolder(steps=(sh("true"),), env=env))
        assert await executor.existing() == set()

    run(test)


def test_the_largest_environment(run: Run) -> None:
    env = {f"V{number}": "x" * 130_000 for number in range(15)}

    async def test(executor: ProcessExecutor) -> None:
        heard = await once(executor, JobFolder(steps=(sh("echo ${#V0} ${#V14}"),), env=env))
        assert heard.output == b"130000 130000\n"

    run(test)


def test_the_jobs_path_comes_first(run: Run) -> None:
    async def test(executor: ProcessExecutor) -> None:
        heard = await once(executor, JobFolder(steps=(sh("echo $PATH"),), env={"PATH": "/opt/go/bin:/bin"}))
        expected = b"/opt/go/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin\n"
        assert heard.output == expected

    run(test)


def test_no_descriptor_and_no_disposition_is_inherited(run: Run) -> None:
    async def test(executor: ProcessExecutor) -> None:
        leaked = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(leaked, True)
        old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            text = "ls /proc/$$/fd; readlink /proc/$$/fd/0; grep -E 'SigBlk|SigIgn' /proc/self/status"
            heard = await once(executor, JobFolder(steps=(sh(text, interpreter=("/bin/sh",)),)))
            words = heard.output.decode().split()
            # 10 is where dash keeps the script it reads.
            assert words[: words.index("SigBlk:")] == ["0", "1", "10", "2", "/dev/null"]
            # The C library keeps the signals 32 and 33 to itself; no program can say whether they are blocked, and make
            # starts its children with both ignored.
            blocked, ignored = (int(words[words.index(word) + 1], 16) for word in ("SigBlk:", "SigIgn:"))
            assert (blocked & ~(3 << 31), ignored & ~(3 << 31)) == (0, 0)
        finally:
            signal.signal(signal.SIGHUP, old)
            os.close(leaked)

    run(test)


def test_descriptor_limit_of_jobs(run: Run) -> None:
    async def test(executor: ProcessExecutor) -> None:
        assert (await once(executor, JobFolder(steps=(sh("ulimit -Sn; ulimit -Hn"),)))).output == b"512\n600\n"
        assert resource.getrlimit(resource.RLIMIT_NOFILE) != (512, 600)

    run(test, child_nofile=(512, 600))


def test_start_and_end_lines(run: Run) -> None:
    job = JobFolder(
        steps=(
            FolderStep("say it's", "shell", "echo hi"),
            FolderStep("try", "shell", "exit 3", tolerate=True),
            FolderStep("break", "shell", "exit 4"),
        )
    )

    async def test(executor: ProcessExecutor) -> None:
        lines = (await once(executor, job)).output.decode().splitlines()
        assert [line.partition(" after ")[0] for line in lines] == [
            "cador: step say it's started",
            "hi",
            "cador: step say it's passed",
            "cador: step try started",
            "cador: step try failed with exit code 3",
            "cador: step try: exit code 3 is tolerated",
            "cador: step break started",
            "cador: step break failed with exit code 4",
        ]

    run(test)


def test_private_files_are_private_and_go_with_the_end(run: Run, root: Path) -> None:
    job = JobFolder(
        steps=(sh('stat -c %a "$CADOR_JOB_DIR/files/git/token"; cat "$CADOR_JOB_DIR/files/git/token"'),),
        files={"git/token": b"s3cret\n", "other": b""},
    )

    async def test(executor: ProcessExecutor) -> None:
        assert (await once(executor, job)).output == b"600\ns3cret\n"
        assert not (root / "k-1" / "files").exists()
        with pytest.raises(StartRefused):
            await executor.start("k-2", JobFolder(steps=(), files={"../x": b""}))
        assert await executor.existing() == {"k-1"}
        assert list((root / ".new").iterdir()) == []

    run(test)


def test_links_a_job_makes_are_not_followed(run: Run, root: Path) -> None:
    text = 'cd "$RESULTS_DIR"; ln -s /etc/hostname A; mkfifo B; mkdir C; echo x >D'

    async def test(executor: ProcessExecutor) -> None:
        await once(executor, JobFolder(steps=(sh(text),), outputs=("A", "B", "C", "D", "../marks/exit")))
        harvest = await executor.harvest("k-1", "k-1")
        assert harvest.outputs == {"D": "x"}
        assert harvest.problems == ("output ../marks/exit: not a usable name",)
        assert harvest.workspace == root / "k-1" / "workspace"
        os.rename(root / "k-1" / "outputs", root / "k-1" / "moved")
        os.symlink("moved", root / "k-1" / "outputs")
        assert (await executor.harvest("k-1", "k-1")).outputs == {}

    run(test)


def test_outputs_over_their_limits_are_told(run: Run) -> None:
    text = "\n".join(
        [
            'head -c 65537 /dev/zero | tr "\\0" x >"$RESULTS_DIR/BIG"',
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do",
            'head -c 65536 /dev/zero | tr "\\0" y >"$RESULTS_DIR/V$i"; done',
            'printf "\\n\\n\\377 a\\n b\\n\\n" >"$RESULTS_DIR/RAW"',
        ]
    )
    names = ("RAW", "BIG", *(f"V{number}" for number in range(1, 18)))

    async def test(executor: ProcessExecutor) -> None:
        await once(executor, JobFolder(steps=(sh(text),), outputs=names))
        harvest = await executor.harvest("k-1", "k-1")
        assert harvest.outputs["RAW"] == "\ufffd a\n b"
        assert "BIG" not in harvest.outputs
        assert harvest.problems == (
            "output BIG: longer than 64 KiB",
            "output V16: all outputs together are longer than 1024 KiB",
            "output V17: all outputs together are longer than 1024 KiB",
        )

    run(test)


def test_an_output_that_may_not_be_read_is_told() -> None:
    """Where jobs run as the server does and that is not root."""

    class Closed(Folders):
        def content(self, key: str, path: str, limit: int) -> tuple[bytes, float] | None:
            raise PermissionError(errno.EACCES, "Permission denied", path)

    folders = Closed(Path("/nowhere"), "test", "boot", None)
    assert read_outputs(folders, "k-1", ("A",)) == ({}, ("output A: the job left it so that nobody may read it",))


def test_removed_whatever_its_folders_permit(run: Run, root: Path) -> None:
    async def test(executor: ProcessExecutor) -> None:
        await once(executor, JobFolder(steps=(sh("mkdir -p a/b/c; touch a/b/c/d; chmod -R a-rwx a"),)))
        await executor.remove("k-1", "k-1")
        assert not (root / "k-1").exists()
        assert list((root / ".removed").iterdir()) == []
        stone = root / ".tombstones" / "k-1"
        assert stone.exists()
        os.utime(stone, (0, 0))
        await executor.sweep(set())
        assert not stone.exists()

    run(test)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs jobs as somebody else")
def test_another_user_owns_no_more_than_he_must(run: Run, root: Path, tmp_path: Path) -> None:
    let_everybody_in(tmp_path)
    text = """
        id -un; touch here "$HOME/x" "$TMPDIR/x" "$RESULTS_DIR/x" && echo wrote
        cd "$CADOR_JOB_DIR"
        for way in 'mv outputs o' 'rm -f output' 'rm -f run' 'touch stop' 'chmod 600 run' 'cat output' 'ls ..' \\
            'rm -f steps/00'; do
            $way 2>/dev/null && echo "could $way"
        done; cat files/token
    """

    async def test(executor: ProcessExecutor) -> None:
        heard = await once(executor, JobFolder(steps=(sh(text),), files={"token": b"t"}))
        assert heard.output == b"nobody\nwrote\nt"

    run(test, user="nobody")


def test_who_is_not_root_runs_jobs_as_nobody_else(root: Path) -> None:
    with pytest.raises(LookupError):
        ProcessExecutor(root=root, installation="x", user="no-such-user-here")


def test_containment_that_does_not_exist_is_an_error(run: Run) -> None:
    async def test(executor: ProcessExecutor) -> None:
        raise AssertionError("it opened")

    with pytest.raises(ValueError, match="containment jail is none of"):
        run(test, containment="jail")


def limited(name: str) -> bool:
    """Whether this machine can limit *name*."""
    return any(name in holder.note for holder in available(f"probe-{os.getpid()}", "auto").values())


@pytest.mark.parametrize("containment", means())
def test_cgroups_that_somebody_tidied_up_are_made_anew(run: Run, installation: str, containment: str) -> None:
    limits = [Limits(), *([Limits(pids=64)] if limited("pids") else [])]

    async def test(executor: ProcessExecutor) -> None:
        for number, limit in enumerate(limits * 2):
            key = f"k-{number}"
            heard = await once(executor, JobFolder(steps=(sh("echo here"),), limits=limit), key)
            assert heard.output == b"here\n"
            await executor.remove(key, key)
            remove_cgroups(installation)

    run(test, containment=containment)


def test_a_server_without_jobs_leaves_no_cgroups(run: Run, installation: str, root: Path) -> None:
    """Nor does it end one that goes on: whoever ends that job clears up."""

    def cgroups() -> list[Path]:
        return [folder for mount in mounts for folder in mount.glob(f"cador-{installation}")]

    unified, v1 = cgroup_mounts()
    mounts = [mount for mount in (unified, *v1.values()) if mount is not None]

    async def begin(executor: ProcessExecutor) -> None:
        await executor.start("k-1", JobFolder(steps=(sh("echo ready; exec sleep 100000"),)))
        await until(executor, "k-1", b"ready\n")

    async def finish(executor: ProcessExecutor) -> None:
        await executor.stop("k-1", "k-1", "cancel", 1.0)
        assert (await hear(executor, "k-1")).end.stopped == "cancel"
        await executor.remove("k-1", "k-1")

    run(begin)
    assert bool(cgroups()) == (means()[0] in ("cgroup2", "freezer"))
    run(finish)
    assert cgroups() == []


@pytest.mark.skipif(not limited("memory"), reason="no memory controller here")
@pytest.mark.parametrize("containment", means())
def test_memory_limit(run: Run, containment: str) -> None:
    text = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}"
    job = JobFolder(steps=(sh(text),), limits=Limits(memory_bytes=50_000_000))

    async def test(executor: ProcessExecutor) -> None:
        heard = await once(executor, job)
        assert b"200000000" not in heard.output
        assert heard.end.reason == "the memory limit of the job was reached and a process of it was killed"

    run(test, containment=containment)


@pytest.mark.skipif(not limited("pids"), reason="no pids controller here")
@pytest.mark.parametrize("containment", means())
def test_a_fork_bomb_within_its_limit(run: Run, containment: str) -> None:
    bomb = "b() { b | b & }; echo ready; b; sleep 100000"

    async def test(executor: ProcessExecutor) -> None:
        await executor.start("k-1", JobFolder(steps=(sh(bomb),), limits=Limits(pids=40)))
        await until(executor, "k-1", b"ready\n")
        heard = await once(executor, JobFolder(steps=(sh("echo fine"),)), key="k-2")
        assert heard.output == b"fine\n"
        await executor.stop("k-1", "k-1", "cancel", 0.1)
        assert (await hear(executor, "k-1")).end.stopped == "cancel"

    run(test, containment=containment)


def test_a_start_nobody_waits_for_leaks_nothing(run: Run) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def abandon(executor: ProcessExecutor, numbers: range) -> None:
        for number in numbers:
            starting = asyncio.create_task(executor.start(f"k-{number}", JobFolder(steps=(sh("echo done"),))))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        for number in numbers:
            heard = await once(executor, JobFolder(steps=(sh("echo done"),)), f"k-{number}")
            assert heard.output == b"done\n"
            await executor.remove(f"k-{number}", "")

    async def test(executor: ProcessExecutor) -> None:
        await abandon(executor, range(7))  # what is opened once is open then
        before = descriptors()
        await abandon(executor, range(7, 28))
        await asyncio.to_thread(eventually, lambda: descriptors() <= before + 1)

    run(test)


def test_without_a_watch_to_be_had_a_job_is_looked_at(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's number of inotify watches is limited, and other programs use them, too."""
    monkeypatch.setattr("cador.executors.process._LOOK_S", 0.01)

    def none_left(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def test(executor: ProcessExecutor) -> None:
        executor._watch.add = none_left  # type: ignore[method-assign]
        before = len(os.listdir("/proc/self/fd"))
        for number in range(3):
            key = f"k-{number}"
            await executor.start(key, JobFolder(steps=(sh("echo one; sleep 100000"),)))
            await until(executor, key, b"one\n")
            await executor.stop(key, key, "cancel", 0.1)
            assert (await hear(executor, key)).end.stopped == "cancel"
            await executor.remove(key, key)
        assert len(os.listdir("/proc/self/fd")) <= before + 2
        eventually(lambda: not executor._tasks)

    run(test)


def test_a_late_driver_of_a_removed_job_does_nothing(run: Run, root: Path, tmp_path: Path, installation: str) -> None:
    """A server frozen between claim and start thaws after the job ran, ended and was removed elsewhere."""
    ran = tmp_path / "ran"
    job = JobFolder(steps=(sh(f"echo ran >>{ran}"),))

    async def test(executor: ProcessExecutor) -> None:
        await once(executor, job)
        frozen = ProcessExecutor(root=root, installation=installation, containment="tree")
        await executor.remove("k-1", "k-1")
        await frozen.open()
        try:
            await frozen.start("k-1", job)
        finally:
            await frozen.close()
        assert ran.read_text() == "ran\n"
        assert await executor.existing() == set()

    run(test)


def test_consumed_output_gives_its_space_back(run: Run, root: Path) -> None:
    async def test(executor: ProcessExecutor) -> None:
        heard = await once(executor, JobFolder(steps=(sh("head -c 8000000 /dev/zero"),)))
        assert len(heard.output) == 8_000_000
        file = root / "k-1" / "output"
        before = file.stat()
        executor.consumed("k-1", 7_000_000)
        after = file.stat()
        assert after.st_size == before.st_size
        assert before.st_blocks - after.st_blocks >= 6_900_000 // 512
        assert len((await hear(executor, "k-1", after=7_000_000)).output) == 1_000_000

    run(test)


def test_binary_output_and_a_line_of_ten_megabytes(run: Run) -> None:
    text = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 40000 + b'end')"
    step = FolderStep("x", "x", text, interpreter=(sys.executable, "-I"), quiet=True)

    async def test(executor: ProcessExecutor) -> None:
        assert (await once(executor, JobFolder(steps=(step,)))).output == bytes(range(256)) * 40000 + b"end"

    run(test)


@pytest.mark.real
def test_a_flood_takes_neither_memory_nor_disk(run: Run, root: Path) -> None:
    size = 1 << 30

    async def test(executor: ProcessExecutor) -> None:
        await executor.start("k-1", JobFolder(steps=(sh(f"head -c {size} /dev/zero"),)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        total, largest = 0, 0
        async for event in executor.follow("k-1", "k-1", 0):
            if isinstance(event, Output):
                total = event.offset + len(event.data)
                largest = max(largest, len(event.data))
                executor.consumed("k-1", total)
        assert total == size
        assert largest <= 1 << 20
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB
        assert (root / "k-1" / "output").stat().st_blocks * 512 < 4 << 20

    run(test)


@pytest.mark.real
@pytest.mark.parametrize("containment", means())
def test_two_hundred_jobs_at_once(run: Run, containment: str, root: Path) -> None:
    async def test(executor: ProcessExecutor) -> None:
        async def one(key: str) -> bytes:
            heard = await once(executor, JobFolder(steps=(sh('echo "$CADOR_JOB"'),)), key)
            await executor.remove(key, key)
            return heard.output

        async with asyncio.TaskGroup() as group:
            children = {f"k-{n}": group.create_task(one(f"k-{n}")) for n in range(200)}
        assert all(child.result().decode().endswith(f"/{key}\n") for key, child in children.items())
        assert await executor.existing() == set()
        eventually(lambda: not alive(str(root / "k-")))

    run(test, containment=containment)


def test_a_start_that_comes_after_the_end_brings_nothing_back(tmp_path: Path) -> None:
    spawner = Spawner()
    driver = spawner.spawn(Wanted(["/bin/true"], {}, cwd="/", output=str(tmp_path / "output")))
    os.close(driver.pidfd)
    os.close(driver.told)
    spawner.close()
    with pytest.raises(OSError, match="closed"):
        spawner.spawn(Wanted(["/bin/true"], {}, cwd="/", output=str(tmp_path / "output")))
