"""Puts a server together: the one package that names concrete classes and reads settings."""

from cador.bootstrap.machine import CannotStart
from cador.bootstrap.server import Running, Serving, migrate, serve, server

__all__ = ["CannotStart", "Running", "Serving", "migrate", "serve", "server"]
