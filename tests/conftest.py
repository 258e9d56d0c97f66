"""Fixtures for every test: databases of both kinds."""

from support.databases import *  # noqa: F403
from support.lacking import (  # noqa: F401
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)
