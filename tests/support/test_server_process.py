"""What tests start goes with them."""

from pathlib import Path

import pytest

from support.server_process import ServerProcess, open_folder, wait

pytestmark = pytest.mark.real


def running(word: str) -> list[str]:
    """Processes that have *word* in their command line."""
    return [str(path.parent) for path in Path("/proc").glob("[0-9]*/cmdline") if word in _read(path)]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_jobs_end_with_the_folder_of_their_server(how: str) -> None:
    with open_folder() as folder:
        word = f"{folder.name}-left-behind"
        with ServerProcess(folder) as server:
            server.define_shop(stays=f"exec -a {word} sleep 100000")
            server.start_task("stays")
            wait(lambda: running(word))
            if how == "killed":
                server.kill()
        assert running(word), "a server leaves its jobs alone"
    assert running(word) == []


def test_a_server_that_does_not_come_up_is_ended() -> None:
    with open_folder() as folder:
        server = ServerProcess(folder, CADOR_LANGUAGE="nonsense")
        with pytest.raises(AssertionError, match="language"):
            server.start()
        assert server.process is not None
        assert server.process.returncode is not None
