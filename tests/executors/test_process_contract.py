"""The contract, by real processes, under every means of containment this machine offers."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.executor_contract import ExecutorContract, ExecutorFactory
from executors.conftest import let_everybody_in, means


@pytest.mark.parametrize("containment", means())
class TestProcess(ExecutorContract):
    @pytest.fixture
    def executor_factory(self, process: Callable[..., ExecutorFactory], containment: str) -> ExecutorFactory:
        return process(containment=containment)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs jobs as somebody else")
class TestAsAnotherUser(ExecutorContract):
    @pytest.fixture
    def executor_factory(self, process: Callable[..., ExecutorFactory], tmp_path: Path) -> ExecutorFactory:
        let_everybody_in(tmp_path)
        return process(user="nobody")
