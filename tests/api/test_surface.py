"""What a critical reading of the whole API found: texts that left people guessing, and answers that were wrong."""

from collections.abc import AsyncIterator

import pytest

from api.site import PROJECT, Site, site

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("site")) as made:
        yield made


async def test_an_environment_says_why_it_wants_a_registry(server: Site) -> None:
    body = {"env_key": "dev", "cluster_name": "local", "namespace": "dev"}
    reply = await server.post("/openapi/environments", params={"projectKey": PROJECT}, json={**body, "services": []})
    assert reply.status_code == 400
    assert reply.json()["description"] == "registry_id is required: there is no default registry"
