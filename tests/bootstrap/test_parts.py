"""What must be true of a database before a server begins."""

import pytest

from cador.bootstrap.machine import CannotStart
from cador.bootstrap.parts import same_key
from cador.ports.stores import Database
from cador.storage.sealing import AesSealer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("older", [False, True], ids=["now", "of an older server"])
async def test_another_key_is_told(sqlite_database: Database, older: bool) -> None:
    ours, other = AesSealer(b"k" * 32), AesSealer(b"x" * 32)
    if older:
        await sqlite_database.write(lambda tx: tx.meta.set("key_check", ours.seal("cador", "key_check")))
    for _ in range(2):
        await sqlite_database.write(same_key, ours)
    with pytest.raises(CannotStart, match="sealed with another key"):
        await sqlite_database.write(same_key, other)
