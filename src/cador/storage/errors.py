"""What goes wrong with a database beyond the errors of the domain."""

from cador.domain.errors import CadorError, Conflict, Unavailable


class DatabaseTooNew(CadorError):
    """The tables were made by a later program. ``str()`` says what to do."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"the database is at version {revision}, which this cador does not know: "
            "start the newer cador that made it, or restore the backup from before the upgrade"
        )
        self.revision = revision


class OutcomeUnknown(Unavailable):
    """The database went away while it committed: whether it did is not known yet. Look before doing it again."""


class Overtaken(Conflict):
    """Somebody else changed the row since it was read. PostgreSQL runs the transaction again, on what is there now."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name} was changed meanwhile, try again")
