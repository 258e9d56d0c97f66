from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.site import Site, site


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made
