"""Where the process executor says that its jobs are: who may follow them, and who must not."""

from pathlib import Path

import pytest

from cador.engine.outside import same_host
from cador.executors.process import ProcessExecutor

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
