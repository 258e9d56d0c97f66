"""The command ``cador``. Everything heavy is imported by the one command that needs it."""
