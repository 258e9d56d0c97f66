"""Checks that Schemathesis makes of every answer, loaded by it as a module of hooks.

An answer 500 with the documents' "no documents in result" is documented; one that says ``unexpected failure`` is a
failure of the server.
"""

import os
from typing import Any

import schemathesis

PLANTED = tuple(filter(None, os.environ.get("CADOR_FUZZ_PLANTED", "").split(",")))


@schemathesis.check
def no_unexpected_failure(ctx: Any, response: Any, case: Any) -> None:
    assert b"unexpected failure" not in response.content, "the server met something it did not expect"
    assert b"Traceback (most recent call last)" not in response.content, "a stack trace"


@schemathesis.check
def no_secret_is_shown(ctx: Any, response: Any, case: Any) -> None:
    for secret in PLANTED:
        assert secret.encode() not in response.content, "a planted secret"
        assert secret not in str(response.headers), "a planted secret in a header"
