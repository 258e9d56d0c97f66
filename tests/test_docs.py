"""What the pages say is what the program does."""

import re
from pathlib import Path

import pytest

from cador.cli.commands import COMMANDS
from cador.cli.docs import pages
from cador.settings import walk

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["cli.md", "settings.md"])
def test_pages_from_the_program_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == pages()[name], "run: make docs"


def test_every_setting_and_command_is_documented() -> None:
    settings, commands = pages()["settings.md"], pages()["cli.md"]
    for name, field, _ in walk():
        assert f"| `{name}` |" in settings
        assert field.metadata["doc"].endswith(".")
    for name in COMMANDS:
        assert f"`cador {name}`" in commands


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changes").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if target and "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"`(?:\w+=\w+ )?make (\w+)`", (ROOT / page).read_text(encoding="utf-8")):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_change_fragments_are_named_as_the_convention_says() -> None:
    convention = r"\d+\.([a-z-]+\.)?(added|changed|fixed|removed|security)\.md"
    for path in (ROOT / "changes").iterdir():
        assert path.name == "README.md" or re.fullmatch(convention, path.name)
