"""Manifests with placeholders: read although they are no YAML yet, and in one pass."""

from cador.operations.models.service import read_modules

DEPLOYMENT = """
kind: Deployment
metadata: {name: {{.name}}}
spec:
  template:
    spec:
      containers:
      - name: web
        image: {{ .registry }}/team/web:{{.tag}}
"""


def test_placeholders_are_words() -> None:
    [module] = read_modules(DEPLOYMENT)
    assert (module["name"], module["image"]) == ("web", "{{ .registry }}/team/web:{{.tag}}")


def test_placeholders_that_never_end_are_gone_over_once() -> None:
    """Twenty kilobytes of them held the interpreter for seconds, a manifest of a megabyte for hours."""
    [module] = read_modules(f"{DEPLOYMENT}# {'{{' * 500_000}\n")
    assert module["name"] == "web"
