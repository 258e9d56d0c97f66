"""Workflows, resources, people, the audit chain and small facts, on both databases."""

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from cador.domain.errors import AlreadyExists, NotFound
from cador.ports.stores import Database, Resource, Token, Tx, User
from support.rows import start, workflow_row

pytestmark = pytest.mark.anyio


# -- workflows


async def test_workflows_are_added_replaced_and_deleted(database: Database) -> None:
    row = workflow_row("w", definition='{"名": 1}', disabled=True, limit=3)
    workflow_id = await database.write(lambda tx: tx.workflows.add(row))
    assert await database.read(lambda tx: tx.workflows.find("w")) == replace(row, id=workflow_id)
    assert await database.write(lambda tx: tx.workflows.find("w", lock=True)) == replace(row, id=workflow_id)

    moved = replace(row, display_name="new", definition="{}", created_by="nobody", create_at=9.0, update_at=2.0)
    await database.write(lambda tx: tx.workflows.replace(moved))
    expected = replace(moved, id=workflow_id, revision=2, created_by="ann", create_at=1.0)
    assert await database.read(lambda tx: tx.workflows.find("w")) == expected

    await database.write(lambda tx: tx.workflows.delete("w"))
    assert await database.read(lambda tx: tx.workflows.find("w")) is None
    with pytest.raises(NotFound):
        await database.write(lambda tx: tx.workflows.replace(row))


async def test_a_workflow_key_is_taken_in_all_projects(database: Database) -> None:
    await database.write(lambda tx: tx.workflows.add(workflow_row("w", project="p")))
    with pytest.raises(AlreadyExists) as raised:
        await database.write(lambda tx: tx.workflows.add(workflow_row("w", project="q")))
    assert (raised.value.kind, raised.value.name, raised.value.project) == ("workflow", "w", "p")


async def test_lists_of_workflows(database: Database) -> None:
    def add(tx: Tx) -> None:
        for key, kind, at in (("a", "product", 9.0), ("b", "custom", 1.0), ("c", "custom", 5.0), ("d", "custom", 5.0)):
            tx.workflows.add(workflow_row(key, type=kind, update_at=at))
        tx.workflows.add(workflow_row("e", project="q"))

    await database.write(add)
    rows = await database.read(lambda tx: tx.workflows.list_workflows("p"))
    assert [row.key for row in rows] == ["c", "d", "b", "a"]
    assert {row.definition for row in rows} == {""}
    some = await database.read(lambda tx: tx.workflows.list_workflows("p", ["a", "b", "e"]))
    assert [row.key for row in some] == ["b", "a"]
    assert await database.read(lambda tx: tx.workflows.list_workflows("p", [])) == []


async def test_display_names(database: Database) -> None:
    await database.write(lambda tx: tx.workflows.add(workflow_row("w", display_name="Build")))

    async def taken(project: str, name: str, but: str) -> bool:
        return await database.read(lambda tx: tx.workflows.display_name_taken(project, name, but))

    answers = [await taken(*args) for args in (("p", "Build", "x"), ("p", "Build", "w"), ("q", "Build", "x"))]
    assert answers == [True, False, False]


async def test_numbers_have_no_gaps_and_no_twins(database: Database) -> None:
    """Also when every third caller fails after taking one."""
    await database.write(lambda tx: tx.workflows.add(workflow_row("w")))

    def take(tx: Tx, fail: bool) -> int:
        tx.workflows.find("w", lock=True)
        number = tx.workflows.next_number("w")
        if fail:
            raise ValueError(number)
        return number

    calls = (database.write(take, number % 3 == 0) for number in range(60))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(number for number in results if isinstance(number, int)) == list(range(1, 41))
    assert sum(isinstance(error, ValueError) for error in results) == 20


async def test_numbers_go_on_after_a_workflow_was_deleted(database: Database) -> None:
    await database.write(lambda tx: tx.workflows.add(workflow_row("w")))
    await database.write(start)
    await database.write(lambda tx: tx.workflows.delete("w"))
    await database.write(lambda tx: tx.workflows.add(workflow_row("w")))
    assert await database.write(lambda tx: tx.workflows.next_number("w")) == 2


# -- resources


def thing(name: str, *, kind: str = "build", project: str = "p", **fields: Any) -> Resource:
    values: dict[str, Any] = {"document": {"name": name}, "created_by": "ann", "create_at": 1.0, "updated_by": "ann",
                              "update_at": 1.0} | fields  # fmt: skip
    return Resource(kind=kind, project=project, name=name, **values)


async def test_resources_are_added_replaced_and_deleted(database: Database) -> None:
    added = await database.write(lambda tx: tx.resources.add(thing("a")))
    assert added == replace(thing("a"), id=added.id, uid=added.uid)
    assert added.id > 0
    assert (len(added.uid), int(added.uid, 16) >= 0) == (24, True)

    async def find() -> Any:
        return await database.read(lambda tx: tx.resources.find("build", "p", "a"))

    assert await find() == added
    moved = replace(added, document={"x": [1, "二"]}, updated_by="bob", update_at=2.0, created_by="nobody")
    await database.write(lambda tx: tx.resources.replace(moved))
    assert await find() == replace(moved, revision=2, created_by="ann")
    await database.write(lambda tx: tx.resources.delete("build", "p", "a"))
    assert await find() is None
    for change in (lambda tx: tx.resources.replace(moved), lambda tx: tx.resources.delete("build", "p", "a")):
        with pytest.raises(NotFound):
            await database.write(change)


async def test_a_resource_is_known_by_uid_or_number_within_its_kind(database: Database) -> None:
    await database.write(lambda tx: tx.resources.add(thing("first")))
    added = await database.write(lambda tx: tx.resources.add(thing("a", kind="codehost", project="")))
    digits = await database.write(lambda tx: tx.resources.add(thing("b", uid="1" * 24)))

    async def by(kind: str, ident: str) -> Resource | None:
        return await database.read(lambda tx: tx.resources.by_id(kind, ident))

    assert await by("codehost", str(added.id)) == added
    assert await by("codehost", added.uid) == added
    assert await by("build", "1" * 24) == digits
    for ident in ("", "0", "-1", "x", "９", "9" * 30, "9" * 5_000, str(digits.id + 1)):
        assert await by("codehost", ident) is None, ident
    assert await by("build", str(added.id)) is None


async def test_lists_of_resources(database: Database) -> None:
    def add(tx: Tx) -> None:
        for name in ("b", "B", "a"):
            tx.resources.add(thing(name))
        tx.resources.add(thing("a", project="q"))
        tx.resources.add(thing("host", kind="codehost", project=""))
        tx.resources.add(thing("env", kind="env"))

    await database.write(add)

    def names(resources: list[Resource]) -> list[tuple[str, str, str]]:
        return [(resource.kind, resource.project, resource.name) for resource in resources]

    listed = await database.read(lambda tx: names(tx.resources.list_kind("build")))
    assert listed == [("build", "p", "B"), ("build", "p", "a"), ("build", "q", "a"), ("build", "p", "b")]
    assert len(await database.read(lambda tx: tx.resources.list_kind("build", "q"))) == 1
    assert await database.read(lambda tx: names(tx.resources.of_project("p"))) == [
        ("build", "p", "B"), ("build", "p", "a"), ("build", "p", "b"), ("codehost", "", "host"), ("env", "p", "env"),
    ]  # fmt: skip


async def test_the_version_grows_with_every_change_that_happens(database: Database) -> None:
    versions = []

    async def note() -> None:
        versions.append(await database.read(lambda tx: tx.resources.version()))

    await note()
    added = await database.write(lambda tx: tx.resources.add(thing("a")))
    await note()
    with pytest.raises(AlreadyExists) as raised:
        await database.write(lambda tx: tx.resources.add(thing("a")))
    assert (raised.value.kind, raised.value.name, raised.value.project) == ("build", "a", "p")
    await note()
    await database.write(lambda tx: tx.resources.replace(added))
    await note()
    await database.write(lambda tx: tx.resources.delete("build", "p", "a"))
    await note()
    assert [later - versions[0] for later in versions] == [0, 1, 1, 2, 3]


# -- people

ANN = User("id-1", "ann", "Ann Smith", "ann@corp", "123", "oauth", True, "hash", 5.0, 6.0)
BOB = User("id-2", "bob", "Bob_100%")


async def test_users(database: Database) -> None:
    await database.write(lambda tx: (tx.people.add_user(BOB), tx.people.add_user(ANN)))
    assert await database.read(lambda tx: (tx.people.user("id-1"), tx.people.by_account("bob"))) == (ANN, BOB)
    assert await database.read(lambda tx: (tx.people.user("id-3"), tx.people.by_account("Ann"))) == (None, None)
    for other in (replace(BOB, uid="id-3"), replace(BOB, account="new")):
        with pytest.raises(AlreadyExists):
            await database.write(lambda tx, other=other: tx.people.add_user(other))

    moved = replace(BOB, name="Robert", admin=True)
    await database.write(lambda tx: tx.people.replace_user(replace(moved, last_login_at=9.0)))
    assert await database.read(lambda tx: tx.people.user("id-2")) == moved
    assert await database.write(lambda tx: tx.people.logged_in("id-2", 7.0))
    assert not await database.write(lambda tx: tx.people.logged_in("id-9", 7.0))
    assert await database.read(lambda tx: tx.people.user("id-2")) == replace(moved, last_login_at=7.0)
    with pytest.raises(AlreadyExists):
        await database.write(lambda tx: tx.people.replace_user(replace(BOB, account="ann")))
    with pytest.raises(NotFound):
        await database.write(lambda tx: tx.people.replace_user(replace(BOB, uid="id-9", account="new")))


async def test_what_is_good_once(database: Database) -> None:
    async def spend(digest: str, until: float, now: float) -> bool:
        return await database.write(lambda tx: tx.people.spend(digest, until, now))

    assert [await spend("a", 10, 0), await spend("a", 10, 5), await spend("b", 12, 5)] == [True, False, True]
    assert sorted(await asyncio.gather(*(spend("c", 20, 6) for _ in range(8)))) == [False] * 7 + [True]
    assert [await spend("c", 20, 7), await spend("b", 12, 11), await spend("a", 30, 11)] == [False, False, True]


async def test_pages_of_users(database: Database) -> None:
    await database.write(lambda tx: [tx.people.add_user(user) for user in (BOB, ANN)])

    async def users(**where: Any) -> tuple[list[User], int]:
        return await database.read(lambda tx: tx.people.users(**where))

    assert await users() == ([ANN, BOB], 2)
    assert await users(offset=1, limit=1) == ([BOB], 2)
    assert await users(account="bob") == ([BOB], 1)
    assert await users(account="bo") == ([], 0)
    assert await users(name="smITH") == ([ANN], 1)
    assert await users(name="_1") == ([BOB], 1)
    assert await users(name="0%") == ([BOB], 1)
    assert await users(name="n%s") == ([], 0)
    assert await users(name="\\") == ([], 0)


async def test_tokens(database: Database) -> None:
    token = Token(0, "id-1", "ci", "digest", "cdr_ab", 1.0, 9.0, None, ("task:run", "task:read"))
    await database.write(lambda tx: [tx.people.add_user(user) for user in (ANN, BOB)])
    token_id = await database.write(lambda tx: tx.people.add_token(token))
    stored = replace(token, id=token_id)
    assert await database.read(lambda tx: tx.people.by_token_hash("digest")) == (stored, ANN)
    assert await database.read(lambda tx: tx.people.by_token_hash("other")) is None
    await database.write(lambda tx: tx.people.touch_tokens({token_id: 3.0}))
    assert await database.read(lambda tx: tx.people.tokens("id-1")) == [replace(stored, last_used_at=3.0)]
    assert await database.read(lambda tx: tx.people.tokens("id-2")) == []
    assert not await database.write(lambda tx: tx.people.delete_token("id-2", token_id))
    assert await database.write(lambda tx: tx.people.delete_token("id-1", token_id))
    assert not await database.write(lambda tx: tx.people.delete_token("id-1", token_id))


async def test_roles(database: Database) -> None:
    await database.write(lambda tx: [tx.people.add_user(user) for user in (ANN, BOB)])

    def bind(tx: Tx) -> None:
        tx.people.set_roles("id-1", "p", ["read-only", "project-admin", "read-only"])
        tx.people.set_roles("id-1", "q", ["read-only"])
        tx.people.set_roles("id-2", "p", ["read-only"])

    await database.write(bind)
    assert await database.read(lambda tx: tx.people.roles("id-1")) == {
        "p": ("project-admin", "read-only"), "q": ("read-only",),
    }  # fmt: skip
    assert (await database.read(lambda tx: tx.people.bindings("p"))).keys() == {"id-1", "id-2"}
    token = Token(0, "id-1", "ci", "digest", "cdr_ab", 1.0)
    await database.write(lambda tx: (tx.people.add_token(token), tx.people.add_token(replace(token, hash="other"))))
    caller = await database.read(lambda tx: tx.people.caller("digest"))
    assert caller is not None
    assert (caller[0].hash, caller[1].account, caller[3]) == (
        "digest", "ann", {"p": ("project-admin", "read-only"), "q": ("read-only",)},
    )  # fmt: skip
    await database.write(lambda tx: tx.people.set_roles("id-1", "p", []))
    assert await database.read(lambda tx: tx.people.roles("id-1")) == {"q": ("read-only",)}
    with pytest.raises(NotFound):
        await database.write(lambda tx: tx.people.set_roles("id-9", "p", ["read-only"]))


async def test_a_deleted_user_leaves_nothing(database: Database) -> None:
    def add(tx: Tx) -> None:
        tx.people.add_user(ANN)
        tx.people.add_token(Token(0, "id-1", "ci", "digest", "cdr", 1.0))
        tx.people.set_roles("id-1", "p", ["read-only"])

    await database.write(add)
    await database.write(lambda tx: tx.people.delete_user("id-1"))
    assert await database.read(lambda tx: (tx.people.by_token_hash("digest"), tx.people.bindings("p"))) == (None, {})


# -- audit, facts, admission


async def test_the_audit_chain_shows_what_was_touched(database: Database) -> None:
    def add(tx: Tx, number: int) -> None:
        tx.audit.add(at=float(number), actor="ann", action="start", project="p", target="w", detail={"n": number})

    await asyncio.gather(*(database.write(add, number) for number in range(20)))
    entries = await database.read(lambda tx: tx.audit.list_entries(limit=15))
    rest = await database.read(lambda tx: tx.audit.list_entries(before=entries[-1]["id"]))
    assert sorted(entry["detail"]["n"] for entry in [*entries, *rest]) == list(range(20))
    assert [entry["id"] for entry in entries] == sorted((entry["id"] for entry in entries), reverse=True)
    whole = await database.read(lambda tx: tx.audit.verify(0, "", 1000))
    assert (whole.done, whole.broken, whole.seen, whole.last_id) == (True, "", 20, entries[0]["id"])
    pieces, at = 0, await database.read(lambda tx: tx.audit.verify(0, "", 7))
    while not at.done:
        pieces, at = pieces + 1, await database.read(lambda tx, at=at: tx.audit.verify(at.last_id, at.last_hash, 7))
    assert (pieces, at.last_hash) == (2, whole.last_hash)

    def touch(tx: Any, statements: tuple[str, ...]) -> None:
        for statement in statements:
            tx.connection.execute(text(statement))
        raise Touched(tx.audit.verify(0, "", 1000).broken_id if not tx.audit.verify(0, "", 1000).done else None)

    first, victim, newest = rest[-1]["id"], rest[2]["id"], entries[0]["id"]
    changed = [
        (f"UPDATE audit SET {column} = {value} WHERE id = {victim}",)  # noqa: S608
        for column, value in (
            ("at", "1.5"), ("actor", "'bob'"), ("action", "'stop'"), ("project", "'q'"), ("target", "'v'"),
            ("detail", "'{}'"), ("hash", "'0'"),
        )
    ]  # fmt: skip
    swapped = (
        f"UPDATE audit SET id = -1 WHERE id = {victim}",  # noqa: S608
        f"UPDATE audit SET id = {victim} WHERE id = {victim + 1}",  # noqa: S608
        f"UPDATE audit SET id = {victim + 1} WHERE id = -1",  # noqa: S608
    )
    for statements, shown in (
        *((one, victim) for one in changed),
        ((f"DELETE FROM audit WHERE id = {victim}",), victim + 1),  # noqa: S608 - removed
        (swapped, victim),
        ((f"DELETE FROM audit WHERE id >= {newest - 3}",), 0),  # noqa: S608 - the end is cut off
        ((f"DELETE FROM audit WHERE id <= {first + 3}",), first + 4),  # noqa: S608 - the beginning is
        (("DELETE FROM audit",), 0),
    ):
        with pytest.raises(Touched) as raised:
            await database.write(touch, statements)
        assert raised.value.args == (shown,), statements


async def test_entries_of_a_transaction_are_chained_at_its_end(database: Database) -> None:
    """In one piece, and not at all when it is taken back."""

    def add(tx: Tx, *targets: str) -> None:
        for target in targets:
            tx.audit.add(at=1.0, actor="ann", action="edit", project="", target=target, detail={})
        if "bad" in targets:
            raise ValueError

    results = await asyncio.gather(
        *(database.write(add, f"{n}a", f"{n}b", *(["bad"] if n % 3 == 0 else [])) for n in range(9)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, ValueError) for result in results) == 3
    entries = await database.read(lambda tx: tx.audit.list_entries())
    targets = [entry["target"] for entry in reversed(entries)]
    assert sorted(targets) == sorted(f"{n}{x}" for n in (1, 2, 4, 5, 7, 8) for x in "ab")
    assert all(targets[i][0] == targets[i + 1][0] for i in range(0, 12, 2))
    assert (await database.read(lambda tx: tx.audit.verify(0, "", 1000))).done


async def test_audit_entries_are_found(database: Database) -> None:
    def add(tx: Tx) -> None:
        for n in range(12):
            tx.audit.add(
                at=float(n),
                actor="ab"[n % 2],
                action="xy"[n % 3 == 0],
                project="pq"[n % 4 == 0],
                target=str(n),
                detail={},
            )

    await database.write(add)
    for where, found in (
        ({"actor": "a"}, "10 8 6 4 2 0"), ({"action": "y"}, "9 6 3 0"), ({"project": "q"}, "8 4 0"),
        ({"actor": "a", "action": "y"}, "6 0"), ({"actor": "c"}, ""), ({"actor": "a", "limit": 2}, "10 8"),
    ):  # fmt: skip
        entries = await database.read(lambda tx, where=where: tx.audit.list_entries(**where))
        assert " ".join(entry["target"] for entry in entries) == found


async def test_failed_logins_are_counted_together(database: Database) -> None:
    await database.write(lambda tx: tx.people.add_user(ANN))
    names = ("account", "address")
    await asyncio.gather(*(database.write(lambda tx: tx.people.fail(names, 100.0, 90.0)) for _ in range(10)))
    read = lambda since: database.read(lambda tx: tx.people.failures(names, since))  # noqa: E731
    assert await read(90.0) == {"account": (10, 100.0), "address": (10, 100.0)}
    assert await read(100.5) == {}
    await database.write(lambda tx: tx.people.forgive(("address",), all_of=("account",)))
    assert await read(90.0) == {"address": (9, 100.0)}
    await database.write(lambda tx: tx.people.fail(("address",), 200.0, 190.0))
    assert await read(190.0) == {"address": (1, 200.0)}
    come = lambda since: database.read(lambda tx: tx.people.has_come_from("id-1", "::1", since))  # noqa: E731
    assert not await come(0.0)
    await database.write(lambda tx: tx.people.came_from("id-1", "::1", 10.0, 0.0))
    await database.write(lambda tx: tx.people.came_from("id-1", "::1", 20.0, 15.0))
    assert await come(20.0)
    assert not await come(20.5)


class Touched(Exception):
    pass


async def test_facts(database: Database) -> None:
    assert await database.read(lambda tx: tx.meta.get("installation")) is None
    await database.write(lambda tx: tx.meta.set("installation", "a"))
    await database.write(lambda tx: tx.meta.set("installation", "b"))
    assert await database.read(lambda tx: tx.meta.get("installation")) == "b"


async def test_admission_is_held_by_one(postgres_database: Database) -> None:
    """Two transactions at once, so PostgreSQL; on SQLite there is one writer anyway."""
    held, tried = threading.Event(), threading.Event()

    def hold(tx: Tx) -> bool:
        got = tx.admission.lock() is not None
        held.set()
        return got and tried.wait(20)

    def attempt(tx: Tx) -> bool:
        held.wait(20)
        try:
            return tx.admission.lock(wait=False) is not None
        finally:
            tried.set()

    assert await asyncio.gather(postgres_database.write(hold), postgres_database.write(attempt)) == [True, False]
    assert await postgres_database.write(lambda tx: tx.admission.lock(wait=False))
