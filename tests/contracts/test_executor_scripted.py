"""The scripted executor keeps the contract of executors."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from cador.executors.scripted import Script, ScriptedExecutor, ScriptedWorld
from cador.ports.executor import JobFolder
from contracts.executor_contract import ExecutorContract, ExecutorFactory, Jobs, opened, sh

PRINTS = "prints "


def scripts(key: str, job: JobFolder) -> Script | None:
    """The suite prints texts without a newline at the end, which no step text can."""
    text = job.steps[0].text
    return Script(lines=((0.0, text.removeprefix(PRINTS).encode()),)) if text.startswith(PRINTS) else None


class ScriptedJobs(Jobs):
    def __init__(self, world: ScriptedWorld) -> None:
        self._world = world

    def prints(self, text: str) -> JobFolder:
        return JobFolder(steps=(sh(PRINTS + text),))

    def exits(self, *codes: int) -> JobFolder:
        return JobFolder(steps=tuple(sh(f"echo {index}\nexit {code}") for index, code in enumerate(codes)))

    def endless(self, *, report: bool = False) -> JobFolder:
        steps = (sh("echo begun\nsleep 1000000000"), sh("echo report", on_failure=True))
        return JobFolder(steps=steps if report else steps[:1])

    def gives(self, **outputs: str) -> JobFolder:
        names = (*outputs, "MISSING")
        text = "\n".join(f'{name}="{value}"' for name, value in outputs.items())
        return JobFolder(steps=(sh(text, outputs=names),), outputs=names)

    def waits(self, before: str, after: str) -> tuple[JobFolder, Callable[[], None]]:
        return JobFolder(steps=(sh(f"echo {before}\nsleep 100000\necho {after}"),)), lambda: self._world.skip(100_000)


class TestScriptedExecutor(ExecutorContract):
    @pytest.fixture
    def world(self) -> ScriptedWorld:
        return ScriptedWorld(time.time)

    @pytest.fixture
    def executor_factory(self, world: ScriptedWorld) -> ExecutorFactory:
        return opened(lambda: ScriptedExecutor(world, scripts))

    @pytest.fixture
    def jobs(self, world: ScriptedWorld) -> Any:
        return ScriptedJobs(world)
