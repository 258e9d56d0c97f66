"""What can go wrong, in words of the domain. HTTP codes are given to these in ``api/catalogue.py``."""


class CadorError(Exception):
    """Every error a user can cause or must hear about. ``str(error)`` is the whole message."""


class Invalid(CadorError):
    """A value does not fit. *what* says which and what would be right; *place* is where (``stages[0].name``)."""

    def __init__(self, what: str, *, place: str = "") -> None:
        super().__init__(what)
        self.what, self.place = what, place


class InvalidDefinition(Invalid):
    """A workflow definition breaks a rule (code 6545 on the wire)."""


class NotFound(CadorError):
    """No such thing. *kind* is the kind's word (``workflow``), *name* what was asked for."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name} not found")
        self.kind, self.name = kind, name


class AlreadyExists(CadorError):
    """The name is taken."""

    def __init__(self, kind: str, name: str, *, project: str = "") -> None:
        super().__init__(f"{kind} {name} already exists")
        self.kind, self.name, self.project = kind, name, project


class Conflict(CadorError):
    """The thing changed since it was read, or is still in use."""


class WrongStatus(CadorError):
    """The request does not fit the status of the thing."""

    def __init__(self, what: str, status: str, verb: str) -> None:
        super().__init__(f"task: {what} is {status}, cannot {verb}")
        self.what, self.status, self.verb = what, status, verb


class NotStartable(CadorError):
    """A workflow cannot be started as asked (code 6160 on the wire)."""


class NothingToApprove(CadorError):
    """No approval is open under that name."""

    def __init__(self, workflow: str, number: int, stage: str) -> None:
        super().__init__(f"workflow {workflow} ID {number} stage {stage} do not need approve")
        self.workflow, self.number, self.stage = workflow, number, stage


class NotAnApprover(CadorError):
    """The voter is not on the list."""

    def __init__(self, user_name: str) -> None:
        super().__init__(f"user {user_name} has no authority to approve")
        self.user_name = user_name


class StageNotExecutable(CadorError):
    """A manual stage cannot be executed now, or not as asked."""


class NotAnExecutor(CadorError):
    """The person may not execute that stage."""

    def __init__(self, user_name: str, stage: str) -> None:
        super().__init__(f"user {user_name} is not authorized to execute stage {stage}")
        self.user_name, self.stage = user_name, stage


class VotedAlready(CadorError):
    """Everybody votes once."""

    def __init__(self, user_name: str, vote: str) -> None:
        super().__init__(f"{user_name} have {vote} already")
        self.user_name, self.vote = user_name, vote


class Forbidden(CadorError):
    """The actor lacks the permission. The message never tells whether the thing exists."""

    def __init__(self, action: str = "", *, project: str = "") -> None:
        super().__init__("permission denied")
        self.action, self.project = action, project


class Unavailable(CadorError):
    """Something outside that is needed right now is away (database, disk); try again later."""
