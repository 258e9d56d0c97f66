"""A server that is killed while files are applied, views changed and tickets made: what was answered is there, what was
applied is there as a whole or not at all, and the record of changes still holds together."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import httpx2
import pytest

from cador.operations.declarative.pipeline import Source, prepare, to_wire
from support.server_process import DEADLINE_S, TOKEN, ServerProcess, open_folder

pytestmark = pytest.mark.real

ROUNDS, WRITERS, ANSWERED = 3, 4, 12
FILE = """
project: {{ key: shop }}
workflows:
  a-{n}: {{ stages: [{{ name: s, jobs: [{{ name: j, type: freestyle, script: "true" }}] }}] }}
  b-{n}: {{ stages: [{{ name: s, jobs: [{{ name: j, type: freestyle, script: "true" }}] }}] }}
views: {{ view-{n}: [a-{n}, b-{n}] }}
"""


class Writers:
    """Each writes until the server is gone; ``applied``, ``tickets`` are the numbers the server has answered."""

    def __init__(self, url: str, numbers: "count[int]") -> None:
        self.url, self.numbers = url, numbers
        self.applied: list[int] = []
        self.tickets: list[int] = []
        self.enough = threading.Semaphore(0)

    def write(self) -> None:
        with httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30, trust_env=False
        ) as client:
            try:
                for n in self.numbers:
                    prepared = prepare([Source("cador.yaml", FILE.format(n=n))])
                    reply = client.post("/openapi/apply", content=to_wire(prepared.documents).encode())
                    assert reply.status_code == 200, reply.text
                    self.applied.append(n)
                    ticket = {"project_key": "shop", "approval_id": f"t-{n}", "status": 1}
                    reply = client.post("/openapi/ticket/approval", json=ticket)
                    assert reply.status_code == 200, reply.text
                    self.tickets.append(n)
                    self.enough.release()
            except httpx2.TransportError:
                return


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> str:
    """For the servers: empty is the SQLite file of their folder."""
    url: str = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return url


def test_what_was_answered_is_there_and_nothing_by_half(database: str) -> None:
    numbers = count(1)
    applied: set[int] = set()
    tickets: set[int] = set()
    with open_folder() as folder, ServerProcess(folder, database=database) as server:
        server.project("shop")
        for _ in range(ROUNDS):
            writers = Writers(server.url, numbers)
            with ThreadPoolExecutor(WRITERS) as pool:
                ends = [pool.submit(writers.write) for _ in range(WRITERS)]
                for _ in range(ANSWERED):
                    assert writers.enough.acquire(timeout=DEADLINE_S), server.log()
                server.kill()
                for end in ends:
                    end.result(DEADLINE_S)
            applied.update(writers.applied)
            tickets.update(writers.tickets)
            server.start()
            listed = server.call("GET", "/openapi/workflows", projectKey="shop")["workflows"]
            keys = {one["workflow_key"] for one in listed}
            views = {one["name"]: one for one in server.call("GET", "/openapi/workflows/view", projectKey="shop")}
            there = {int(key[2:]) for key in keys}
            assert applied <= there
            assert keys == {f"{letter}-{n}" for n in there for letter in "ab"}
            assert views.keys() == {f"view-{n}" for n in there}
            for n in there:
                assert [one["workflow_key"] for one in views[f"view-{n}"]["workflows"]] == [f"a-{n}", f"b-{n}"]
            assert server.call("GET", "/api/v1/audit/verify")["ok"]
        assert server.client is not None
        for n in tickets:
            ticket = {"project_key": "shop", "approval_id": f"t-{n}", "status": 1}
            assert server.client.post("/openapi/ticket/approval", json=ticket).json()["code"] == 7100
        assert "Traceback" not in server.log()
