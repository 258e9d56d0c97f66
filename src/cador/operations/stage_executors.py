"""Who may execute a manual stage, as a task keeps it: flattened when the task is created, so that later changes of
groups and names do not matter."""

from dataclasses import dataclass
from typing import Final

import msgspec


@dataclass(frozen=True, slots=True)
class StageExecutors:
    """``users``: pairs of user id and name. ``everybody``: the definition names nobody, so all who may run the workflow
    may. ``modify_params``: they may change the inputs of the stage's jobs and leave jobs out."""

    users: tuple[tuple[str, str], ...] = ()
    everybody: bool = False
    modify_params: bool = False

    def text(self) -> str:
        """As it is stored with the stage."""
        return msgspec.json.encode(self).decode()

    def names(self, uid: str) -> bool:
        """Whether that user is named."""
        return any(ident == uid for ident, _ in self.users)


NOBODY: Final = StageExecutors()


def executors_of(text: str) -> StageExecutors:
    """What :meth:`StageExecutors.text` made."""
    return msgspec.json.decode(text, type=StageExecutors)
