"""Threads for what lies outside of the database: logs, artifacts, reports.

They are threads of their own: what is read may be on a server or in a store that is slow, and jobs must not wait for
it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

R = TypeVar("R")
_READERS: Final = ThreadPoolExecutor(8, "reader")


async def in_reader(fn: Callable[..., R], *args: Any) -> R:
    """Run what blocks and reads logs or artifacts."""
    return await asyncio.get_running_loop().run_in_executor(_READERS, fn, *args)
