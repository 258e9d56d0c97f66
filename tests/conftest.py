"""Fixtures for every test: databases of both kinds. Hypothesis looks at no clock: a slow machine is no mistake."""

from hypothesis import HealthCheck, settings

from support.databases import *  # noqa: F403
from support.lacking import (  # noqa: F401
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)

settings.register_profile("cador", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("cador")
