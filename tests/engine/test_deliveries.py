"""What is told to the outside: every end of every round, to each who wants to hear it, however long that takes."""

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cador.domain.errors import Invalid
from cador.engine.delivering import FanOut
from cador.operations.callbacks import PAUSES_S, parse_callback
from cador.operations.history import task_events
from cador.operations.task_values import Callback
from cador.operations.why_facts import task_why
from cador.ports.deliveries import Courier, Delivery, Receiver, Said
from cador.ports.outgoing import AnswerTooLarge, NoAnswer, RefusedAddress, Reply
from cador.storage.tables import receiver, workflow_task
from support import virtual_loop
from support.world import World

URL = "http://hook.example/path?token=s3cr3t-token"
ANY = {"k1": 1, "k2": "value2", "deep": [None, True, 1.5, {"ü": "{{.job.x}}"}], "big": 12345678901234567890}


@dataclass
class Call:
    at: float
    url: str
    key: str
    body: Any


@dataclass
class Outside:
    """Answers calls as the test says; an ``Outgoing``."""

    clock: Callable[[], float]
    answer: Callable[["Outside", str], Any] = lambda outside, url: 200
    calls: list[Call] = field(default_factory=list)

    async def __call__(self, method: str, url: str, **more: Any) -> Reply:
        assert (method, more["headers"]["Content-Type"]) == ("POST", "application/json; charset=utf-8")
        assert more.get("chosen_by", "user") == "user"
        self.calls.append(Call(self.clock(), url, more["headers"]["X-Delivery-Id"], json.loads(more["body"])))
        said = self.answer(self, url)
        if isinstance(said, Exception):
            raise said
        if asyncio.iscoroutine(said):
            said = await said
        return Reply(said, url)

    async def aclose(self) -> None:
        pass


@dataclass
class Told:
    world: World
    outside: Outside

    async def define(self, *scripts: str, **more: Any) -> None:
        jobs = [job(f"job{number}", script) for number, script in enumerate(scripts)]
        await self.world.define({"name": "demo", "stages": [{"name": "one", "jobs": jobs, **more}]})

    async def start(self, **more: Any) -> int:
        return await self.world.start("demo", callback=Callback(URL, ANY), **more)

    async def events(self, number: int) -> list[Any]:
        page = await task_events(self.world.ctx, self.world.actor(), "demo", number)
        return [event for event in page.events if event.kind == "delivery_tried"]

    async def waiting(self) -> list[str]:
        """Keys of deliveries that are still to be made."""

        def read(tx: Any) -> list[str]:
            rows = tx.connection.exec_driver_sql("SELECT key FROM command WHERE kind = 'deliver'").fetchall()
            left = tx.connection.exec_driver_sql("SELECT count(*) FROM delivery").scalar_one()
            assert len(rows) == left
            return [row[0] for row in rows]

        return await self.world.db.read(read)

    async def called(self, url: str) -> None:
        deadline = self.world.clock() + 60
        while all(call.url != url for call in self.outside.calls):
            assert self.world.clock() < deadline, f"{url} was not called"
            await asyncio.sleep(0.05)

    async def quiet(self, within_s: float = 20_000.0) -> None:
        """Until nothing is left to be told."""
        deadline = self.world.clock() + within_s
        while await self.waiting():
            assert self.world.clock() < deadline, "still something to tell"
            await asyncio.sleep(5.0)


def job(name: str, script: str) -> dict[str, Any]:
    envs = [{"key": "CODE", "value": "1", "type": "string"}]
    steps = [{"name": "shell", "type": "shell", "spec": {"script": script}}]
    return {"name": name, "type": "freestyle", "spec": {"properties": {"timeout": 60, "envs": envs}, "steps": steps}}


def play(folder: Path, scene: Callable[[Told], Any], answer: Callable[[Outside, str], Any] | None = None) -> None:
    async def run() -> None:
        world = await World.virtual(folder)
        await world.outgoing.aclose()
        outside = world.outgoing = Outside(world.clock)
        if answer is not None:
            outside.answer = answer
        await world.boot()
        try:
            await scene(Told(world, outside))
        finally:
            await world.close()

    virtual_loop.run(run())


def test_the_end_of_a_task_is_told_once(tmp_path: Path) -> None:
    async def scene(told: Told) -> None:
        await told.define("echo hello")
        number = await told.start()
        await told.world.done("demo", number)
        await told.quiet()
        (call,) = told.outside.calls
        assert call.url == URL
        assert call.body == {
            "status": "passed", "task_id": 1, "workflow_name": "demo", "error": "", "images": [], "vars": ANY
        }  # fmt: skip
        (event,) = await told.events(number)
        assert (event.data["ok"], event.data["number"], event.data["status"]) == (True, 1, 200)
        assert event.data["again_at"] is None
        assert event.text == "callback (http://hook.example/...oken) was told: passed"
        assert "s3cr3t" not in json.dumps(event.data) + event.text
        again = await told.start()
        await told.world.done("demo", again)
        await told.quiet()
        assert told.outside.calls[1].key != call.key
        plain = await told.world.start("demo")
        await told.world.done("demo", plain)
        await told.quiet()
        assert len(told.outside.calls) == 2

    play(tmp_path, scene)


def test_address_and_variables_are_not_in_the_tables_in_clear(tmp_path: Path) -> None:
    async def scene(told: Told) -> None:
        await told.define("sleep 5")
        number = await told.start()

        def read(tx: Any) -> str:
            return "\n".join(tx.connection.connection.dbapi_connection.iterdump())

        assert "s3cr3t" not in await told.world.db.write(read)
        await told.world.done("demo", number)

    play(tmp_path, scene)


def test_a_receiver_that_is_down_is_told_when_it_is_back(tmp_path: Path) -> None:
    async def scene(told: Told) -> None:
        await told.define("exit 1")
        number = await told.start()
        ended = (await told.world.done("demo", number)).row.end_at
        for _ in range(3):
            await told.world.restart()
            await asyncio.sleep(20)
        waits = (await task_why(told.world.ctx, told.world.actor(), "demo", number)).why.waits
        assert [wait.reason for wait in waits] == ["finished", "telling"]
        assert waits[1].until == pytest.approx((await told.events(number))[-1].data["again_at"])
        await told.quiet()
        calls = told.outside.calls
        assert [call.at - ended for call in calls[:2]] == pytest.approx([0, 10], abs=6)
        assert 60 <= calls[2].at - calls[1].at <= 67
        assert len({call.key for call in calls}) == 1
        assert {call.body["status"] for call in calls} == {"failed"}
        first, *_, last = await told.events(number)
        assert first.data["again_at"] - first.at == pytest.approx(10)
        assert "it is tried again at" in first.text
        assert (last.data["ok"], last.data["number"], last.data["status"]) == (True, 3, 200)

    def down_for_a_minute(outside: Outside, url: str) -> Any:
        up = outside.calls[-1].at - outside.calls[0].at >= 60
        return 200 if up else NoAnswer("http://hook.example: no connection")

    play(tmp_path, scene, down_for_a_minute)


def test_it_is_given_up_after_six_tries(tmp_path: Path) -> None:
    async def scene(told: Told) -> None:
        await told.define("exit 0")
        number = await told.start()
        await told.world.done("demo", number)
        await told.quiet()
        calls = told.outside.calls
        pauses = [after.at - before.at for before, after in itertools.pairwise(calls)]
        assert len(pauses) == len(PAUSES_S)
        for pause, planned in zip(pauses, PAUSES_S, strict=True):
            assert planned <= pause <= planned + 6
        waits = (await task_why(told.world.ctx, told.world.actor(), "demo", number)).why.waits
        assert [wait.reason for wait in waits] == ["finished"]
        last = (await told.events(number))[-1]
        assert (last.data["ok"], last.data["number"], last.data["again_at"]) == (False, 6, None)
        assert last.text.endswith("it answered 503; it is given up after 6 tries")
        assert (await told.world.detail("demo", number)).row.status == "passed"

    play(tmp_path, scene, lambda outside, url: 503)


def test_an_address_that_is_not_called_is_not_tried_again(tmp_path: Path) -> None:
    async def scene(told: Told) -> None:
        await told.define("exit 0")
        number = await told.start()
        await told.world.done("demo", number)
        await told.quiet(60)
        assert len(told.outside.calls) == 1
        (event,) = await told.events(number)
        assert (event.data["ok"], event.data["again_at"], event.data["reason"]) == (False, None, "not a public address")

    play(tmp_path, scene, lambda outside, url: RefusedAddress("not a public address"))


def test_however_long_an_answer_is_its_status_counts(tmp_path: Path) -> None:
    async def scene(told: Told) -> None:
        await told.define("exit 0")
        number = await told.start()
        await told.world.done("demo", number)
        await told.quiet(60)
        (event,) = await told.events(number)
        assert event.data["ok"]

    play(tmp_path, scene, lambda outside, url: AnswerTooLarge("too much", 201))


def test_each_round_is_told_as_it_was_when_it_ended(tmp_path: Path) -> None:
    """The receiver is down while the task fails, is repeated and passes."""

    async def scene(told: Told) -> None:
        await told.define("exit {{.job.job0.CODE}}")
        number = await told.start()
        await told.world.done("demo", number)
        await told.world.retry("demo", number, kv={"job0": {"CODE": "0"}})
        await told.world.until("demo", number, lambda d: d.row.status == "passed")
        told.outside.answer = lambda outside, url: 200
        await told.quiet()
        heard = told.outside.calls[-2:]
        assert {call.body["status"] for call in heard} == {"failed", "passed"}
        assert len({call.key for call in told.outside.calls}) == 2
        assert [event.data["round"] for event in await told.events(number) if event.data["ok"]] in ([0, 1], [1, 0])

    play(tmp_path, scene, lambda outside, url: 500)


def test_a_server_that_dies_while_it_tells_tells_again_under_the_same_key(tmp_path: Path) -> None:
    async def scene(told: Told) -> None:
        await told.define("exit 0")
        number = await told.start()
        await told.world.done("demo", number)
        await told.called(URL)
        await told.world.kill()
        told.outside.answer = lambda outside, url: 200
        await told.world.boot()
        await told.quiet(60)
        first, second = told.outside.calls
        assert (first.key, first.body) == (second.key, second.body)
        assert [event.data["ok"] for event in await told.events(number)] == [True]

    async def never() -> int:
        await asyncio.sleep(1e9)
        return 200

    play(tmp_path, scene, lambda outside, url: never())


@pytest.mark.parametrize("how", ["waiting", "running", "reject", "timeout"])
def test_every_end_is_told_in_the_words_of_the_documents(how: str, tmp_path: Path) -> None:
    async def scene(told: Told) -> None:
        people = {"approve_users": [{"user_id": "ann", "user_name": "Ann"}], "needed_approvers": 1, "timeout": 1}
        approval = {"approval": {"enabled": True, "type": "native", "native_approval": people}}
        await told.define("sleep 50", **(approval if how in ("reject", "timeout") else {}))
        if how == "waiting":
            told.world.max_running_tasks = 0
        number = await told.start()
        if how == "reject":
            await told.world.until("demo", number, lambda d: d.stages[0].status == "wait_for_approval")
            await told.world.approve("demo", number, "one", by="ann", approve=False)
        elif how == "running":
            await told.world.until("demo", number, lambda d: d.stages[0].jobs[0].row.status == "running")
        if how in ("waiting", "running"):
            await told.world.cancel("demo", number)
        await told.world.done("demo", number, within_s=600)
        await told.quiet(60)
        (call,) = told.outside.calls
        words = {"reject": "failed", "timeout": "timeout", "waiting": "cancelled", "running": "cancelled"}
        assert call.body["status"] == words[how]

    play(tmp_path, scene)


def test_a_slow_host_does_not_keep_others_waiting(tmp_path: Path) -> None:
    async def scene(told: Told) -> None:
        await told.define("exit 0")
        for _ in range(20):
            await told.world.done("demo", await told.start())
        number = await told.world.start("demo", callback=Callback("http://quick.example/"))
        await told.world.done("demo", number)
        before = told.world.clock()
        await told.called("http://quick.example/")
        assert told.world.clock() - before < 1
        assert sum(call.url == URL for call in told.outside.calls) == 4

    async def slow() -> int:
        await asyncio.sleep(100)
        return 200

    play(tmp_path, scene, lambda outside, url: slow() if url == URL else 200)


def test_a_task_that_is_gone_is_not_told_of(tmp_path: Path) -> None:
    async def scene(told: Told) -> None:
        await told.define("exit 0")
        number = await told.start()
        task_id = (await told.world.done("demo", number)).row.id
        assert await told.waiting()

        def remove(tx: Any) -> None:
            tx.connection.execute(workflow_task.delete().where(workflow_task.c.id == task_id))

        await told.world.db.write(remove)
        deadline = told.world.clock() + 60
        while await told.world.db.read(lambda tx: tx.commands.find(f"{task_id}/deliver:callback:passed:0")):
            assert told.world.clock() < deadline
            await asyncio.sleep(1)
        assert len(told.outside.calls) == 1

    play(tmp_path, scene, lambda outside, url: 500)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://a.example/x?y=1", "http://a.example/x?y=1"),
        ("http%3A%2F%2Fa.example%2Fx%3Fy%3D1%2B2", "http://a.example/x?y=1+2"),
        (" https://[::1]:8443/ ", "https://[::1]:8443/"),
        ("https://a.example/a%20b+c", "https://a.example/a b+c"),
    ],
)
def test_addresses_may_be_percent_encoded(given: str, url: str) -> None:
    assert parse_callback(given, [1]) == Callback(url, [1])


@pytest.mark.parametrize(
    "given",
    [None, 1, "", "  ", "ftp://a/", "a.example/x", "http://", "http:///x", "http://a:99999/", "http://a:0/",
     "http://a.example/%0d%0aX: y", "javascript%3Aalert(1)", "http://[::1", "http://a/" + "x" * 2048],
)  # fmt: skip
def test_what_is_no_address_is_refused_at_once(given: object) -> None:
    with pytest.raises(Invalid, match="callback_url") as caught:
        parse_callback(given)
    assert caught.value.place == "callback.callback_url"


def test_several_receivers_are_told_each_by_its_courier(tmp_path: Path) -> None:
    """What notifications will need: another kind, other news, each delivery apart."""

    class Crier:
        hears = ("passed", "failed")
        pauses = (1.0,)

        def __init__(self) -> None:
            self.heard: list[tuple[str, str, str]] = []

        def compose(self, tx: Any, task_id: int, what: str) -> str:
            return tx.tasks.row(task_id).status

        async def say(self, receiver: Receiver, delivery: Delivery, key: str) -> Said:
            self.heard.append((receiver.name, delivery.what, delivery.body))
            return Said(len(self.heard) > 1, receiver.name, reason="busy")

    async def scene(told: Told) -> None:
        crier: Courier = Crier()
        told.world.engine._fan_out = FanOut({"crier": crier})
        told.world.engine.handlers._deliverer._couriers = {"crier": crier}
        await told.define("sleep 3")
        number = await told.world.start("demo")
        task_id = (await told.world.detail("demo", number)).row.id

        def add(tx: Any) -> None:
            for name, hears in (("one", "passed,failed"), ("two", "passed"), ("three", "failed")):
                tx.connection.execute(
                    receiver.insert().values(task_id=task_id, name=name, kind="crier", hears=hears, document="")
                )

        await told.world.db.write(add)
        await told.world.done("demo", number)
        await told.quiet(60)
        assert sorted(crier.heard) == [
            ("one", "passed", "passed"),
            ("one", "passed", "passed"),
            ("two", "passed", "passed"),
        ]

    play(tmp_path, scene)
