"""Following the log of one job: a resumable stream that survives a restart of the server."""

import threading
import time
from collections.abc import Iterator
from typing import Final

from cador.cli.client import Client, Refused, Unreached, segment

PATIENCE_S: Final = 120.0
"""How long a server may be away before a follower gives up."""
PAUSE_S: Final = 0.5


def log_path(workflow: str, number: int, job: str) -> str:
    return f"/api/v1/tasks/{segment(workflow)}/{number}/jobs/{segment(job)}/log"


def log_lines(
    client: Client, workflow: str, number: int, job: str, *, tail: int = 0, stop: threading.Event | None = None
) -> Iterator[str]:
    """Lines of a job's log, as they are written, until the log is complete or *stop* is set.

    *tail*: begin with so many last lines; 0 begins at the start. The stream is taken up again after the last line
    seen whenever it breaks. Raises: Unreached when the server stays away; Refused.
    """
    stop = stop or threading.Event()
    last_id, away_since = "", 0.0
    query = {"tail": tail}
    while not stop.is_set():
        try:
            for event in client.events(log_path(workflow, number, job), query, last_id):
                away_since = 0.0
                last_id = event.id or last_id
                if event.event == "end":
                    return
                if event.event == "message":
                    yield from event.data.split("\n")  # as many lines as were there, the id stands behind the last
                if stop.is_set():
                    return
        except Unreached:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > PATIENCE_S:
                raise
        except Refused as refused:
            if refused.status < 500:
                raise
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > PATIENCE_S:
                raise
        stop.wait(PAUSE_S)
