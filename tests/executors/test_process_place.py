"""Where the process executor says that its jobs are: who may follow them, and who must not."""

from pathlib import Path

import pytest

from cador.engine.outside import Outside, same_host
from cador.executors.process import ProcessExecutor
from cador.ports.peers import Replica
from cador.ports.stores import ExecutionRow

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def place_of(root: Path) -> str:
    executor = ProcessExecutor(root=root, installation="test")
    await executor.open()
    try:
        return executor.place
    finally:
        await executor.close()


async def test_the_place_stays_with_the_folder(tmp_path: Path) -> None:
    """Two containers of one image have the same machine id and the same path, each with a folder of its own."""
    root = tmp_path / "jobs"
    first = await place_of(root)
    assert await place_of(root) == first
    root.rename(tmp_path / "another")
    second = await place_of(root)
    assert second.rpartition(":")[2] == first.rpartition(":")[2]
    assert not same_host(first, second)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("m:b:1234:/jobs", "m:b:1234:/jobs", True),
        ("m:b:1234:/jobs", "m:later:1234:/jobs", True),
        ("m:b:1234:/jobs", "m:b:5678:/jobs", False),
        ("m:b:1234:/jobs", "other:b:1234:/jobs", False),
        ("m:b:1234:/jobs", "m:b:/jobs", True),  # the place of a version before
        ("m:b:/jobs", "m:b:1234:/jobs", True),
        ("m:b:/jobs", "m:b:1234:/others", False),
        ("m:b:/jobs", "m:b", True),
        ("m", "m:b:1234:/jobs", True),
    ],
)
async def test_two_places_are_of_one_host(one: str, other: str, same: bool) -> None:
    assert same_host(one, other) is same


@pytest.mark.parametrize(
    ("place", "reached"),
    [
        ("m:b:1234:/jobs", True),
        ("m:b:1234:/jobs:home", True),
        ("m:b:1234:/jobs:another", False),
        ("n:b:1234:/jobs", False),
    ],
)
async def test_what_a_server_does_itself_is_at_its_data_folder(place: str, reached: bool) -> None:
    row = ExecutionRow("key", 1, 1, 1, 0, "any", place, "", "", 0.0)
    server = Replica("id", "m:later:1234:/jobs", "", 0.0, 0.0, "home")
    assert Outside.reached_by(row, [server]) is reached
    assert not Outside.reached_by(row, [])
