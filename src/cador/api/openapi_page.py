"""``/docs``: the OpenAPI document as one page of plain HTML."""

from collections.abc import Mapping
from html import escape
from typing import Any

import msgspec


def page(doc: Mapping[str, Any]) -> str:
    """The documentation as one page."""
    out = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>cador API</title><style>"
        "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}"
        "code,pre{font:13px/1.4 ui-monospace,monospace;background:#f4f4f6;border-radius:3px;padding:.1em .3em}"
        "pre{padding:.8em;overflow:auto}summary{cursor:pointer;padding:.3em 0}h2{margin-top:2em}"
        "b{display:inline-block;min-width:4.5em}</style>"
        "<h1>cador API</h1><p>Machine-readable: <a href=/openapi.json>/openapi.json</a> (OpenAPI 3.1). "
        "Every request carries <code>Authorization: Bearer &lt;token&gt;</code>.</p>"
    ]
    by_tag: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, methods in doc["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    for tag, operations in by_tag.items():
        out.append(f"<h2>{escape(tag)}</h2>")
        for method, path, operation in operations:
            out.append(
                f"<details><summary><b>{method}</b> <code>{escape(path)}</code> {escape(operation['summary'])}"
                f"</summary><p>{escape(operation['description'])}</p>"
            )
            for parameter in operation["parameters"]:
                required = ", required" if parameter["required"] else ""
                out.append(
                    f"<div><code>{escape(parameter['name'])}</code> in {parameter['in']}, "
                    f"{parameter['schema']['type']}{required}</div>"
                )
            shown = {"request": operation.get("requestBody"), "reply": operation["responses"]["200"]}
            for what, part in shown.items():
                if part:
                    text = msgspec.json.format(msgspec.json.encode(part["content"]), indent=1).decode()
                    out.append(f"<p>{what}</p><pre>{escape(text)}</pre>")
            out.append("</details>")
    out.append("<h2>Schemas</h2>")
    for name, schema in doc["components"]["schemas"].items():
        text = msgspec.json.format(msgspec.json.encode(schema), indent=1).decode()
        out.append(f"<details><summary><code>{escape(name)}</code></summary><pre>{escape(text)}</pre></details>")
    return "".join(out)
