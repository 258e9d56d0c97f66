"""Fixtures for every test: databases of both kinds."""

from support.databases import *  # noqa: F403
