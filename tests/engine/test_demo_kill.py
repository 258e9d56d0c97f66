"""The demo's own workflow on a server that is killed while both builds run."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cador.cli.apply import send
from cador.cli.client import Client, Place
from cador.cli.demo import REPOSITORIES, examples
from cador.cli.git_server import GitServer, snapshot
from cador.cli.manifest import read_documents
from support.server_process import TOKEN, ServerProcess, open_folder

pytestmark = pytest.mark.real
FINAL = {"passed", "failed", "timeout", "cancelled"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


def test_the_demo_survives_a_kill_in_the_middle(folder: Path) -> None:
    shop = examples()
    for name in REPOSITORIES:
        repository = folder / "git" / "shop" / f"{name}.git"
        repository.parent.mkdir(parents=True, exist_ok=True)
        snapshot(shop / name, repository, f"{name} of the shop")
    ran = folder / "scratch" / "ran"
    (folder / "shop").mkdir()
    text = (shop / "cador.yaml").read_text()
    # Both builds note that they run, and take long enough to be interrupted.
    slow = text.replace("      VERSION=$(cat ", f"      echo $SERVICE >>{ran}; sleep 3\n      VERSION=$(cat ")
    assert slow.count(str(ran)) == 2
    (folder / "shop" / "cador.yaml").write_text(slow)
    (folder / "shop" / "k8s").symlink_to(shop / "k8s")
    server = ServerProcess(folder)
    with GitServer(folder / "git") as git, server:
        server.listen = server.url.removeprefix("http://")  # jobs know it by this address, also after the kill
        variables = {"SHOP_GIT_URL": git.url, "SHOP_GIT_TOKEN": git.token, "SHOP_API_TOKEN": TOKEN}
        send(Client(Place(server.url, TOKEN, "the test")), read_documents([folder / "shop" / "cador.yaml"], variables))
        inputs = [{"job_name": name, "parameters": {}} for name in ("build", "test", "publish")]
        body = {"workflow_key": "release", "project_key": "shop", "inputs": inputs}
        number = server.call("POST", "/openapi/workflows/custom/task", body)["task_id"]
        server.until("release", number, lambda d: ran.exists() and len(ran.read_text().split()) == 2)
        server.kill()
        server.start()
        server.until("release", number, lambda d: d["stages"][2]["status"] == "wait_for_approval")
        vote = {"task_id": number, "workflow_key": "release", "stage_name": "release", "approve": True}
        server.call("POST", "/openapi/workflows/custom/task/approve", vote)
        detail = server.until("release", number, lambda d: d["status"] in FINAL)
        jobs = {job["name"]: job["status"] for stage in detail["stages"] for job in stage["jobs"]}
        assert detail["status"] == "passed", detail
        assert set(jobs.values()) == {"passed"}
        assert sorted(ran.read_text().split()) == ["api", "web"], "each build ran once"
        for name in ("api-api-build", "web-web-build"):
            log = server.call("GET", f"/openapi/logs/log/v4/workflow/release/{number}/{name}")
            assert len(re.findall(r"cador: step \S+ started", log)) == len(re.findall(r"cador: step \S+ passed", log))
            assert re.search(r"bytes, [0-9a-f]{64}\n", log), "the last line of the script is there"
            assert git.token not in log
