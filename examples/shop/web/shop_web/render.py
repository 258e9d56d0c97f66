"""Static pages from products: ``python3 -m shop_web.render products.json OUT``."""

import json
import sys
from html import escape
from pathlib import Path

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1>
<ul>
{items}
</ul></body>
</html>
"""


def money(cents: int) -> str:
    """``1290`` -> ``12.90``."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def page(title: str, products: dict[str, int]) -> str:
    """One page with all *products* (name -> cents), cheapest first."""
    ordered = sorted(products.items(), key=lambda item: (item[1], item[0]))
    items = "\n".join(f"<li>{escape(name)}: {money(cents)}</li>" for name, cents in ordered)
    return PAGE.format(title=escape(title), items=items)


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    products = json.loads(source.read_text(encoding="utf-8"))
    (out / "index.html").write_text(page("Demo shop", products), encoding="utf-8")
    print(f"index.html: {len(products)} products")


if __name__ == "__main__":
    main()
