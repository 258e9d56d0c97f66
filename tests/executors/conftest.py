import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cador.executors.cgroups import cgroup_mounts
from cador.executors.containment import MEANS, available
from cador.executors.process import ProcessExecutor
from contracts.executor_contract import ExecutorFactory, opened
from support.server_process import open_folder


def means() -> list[str]:
    """Means of containment this machine offers, best first."""
    return list(available(f"probe-{os.getpid()}", "auto")) or list(MEANS[-1:])


def remove_cgroups(installation: str) -> None:
    unified, v1 = cgroup_mounts()
    for mount in filter(None, (unified, *v1.values())):
        base = mount / f"cador-{installation}"
        for folder in (*base.glob("*/"), base):
            if folder.is_dir():
                folder.rmdir()


def pytest_sessionfinish() -> None:
    remove_cgroups(f"probe-{os.getpid()}")


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[str]:
    """A name no other test uses, here or in another process."""
    name = "test-" + hashlib.sha256(str(tmp_path).encode() + os.urandom(8)).hexdigest()[:12]
    yield name
    remove_cgroups(name)


@pytest.fixture
def root() -> Iterator[Path]:
    """Jobs of another account must be able to enter; pytest's own folders are closed to it."""
    with open_folder() as folder:
        yield folder / "jobs"


@pytest.fixture
def process(root: Path, installation: str) -> Callable[..., ExecutorFactory]:
    """Factories of executors with settings of their own, all in one place."""
    return lambda **settings: opened(lambda: ProcessExecutor(root=root, installation=installation, **settings))


def alive(marker: str) -> list[int]:
    """Living processes that have *marker* in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes() and ") Z " not in (entry / "stat").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for *condition*, up to a deadline that only a fault meets."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def let_everybody_in(path: Path) -> None:
    """Open *path* and what is above it, up to the folder for temporary files, to other accounts."""
    for folder in (path, *path.parents):
        if folder == Path(tempfile.gettempdir()):
            return
        folder.chmod(0o755)
