"""What ``/openapi.json`` shows as examples is what is replayed here."""

import yaml

from documents.examples import FILE, examples


def test_the_examples_are_up_to_date() -> None:
    shown = yaml.load(FILE.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    assert shown == examples(), "run: PYTHONPATH=tests python -m documents.examples"
    assert len({entry["name"] for entry in shown}) == len(shown) > 40
