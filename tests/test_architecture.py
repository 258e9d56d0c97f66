"""The page about the architecture shows the machine as it is."""

from pathlib import Path

from cador.domain.job_machine import diagram

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"


def test_the_diagram_is_the_table():
    assert f"```mermaid\n{diagram()}\n```" in PAGE.read_text(), (
        "docs/architecture.md is behind: python -c 'from cador.domain.job_machine import diagram; print(diagram())'"
    )
