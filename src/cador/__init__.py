"""cador: a self-hosted CI/CD workflow server."""

__version__ = "0.1.0"
