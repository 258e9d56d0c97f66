import json
import unittest
from pathlib import Path

from shop_web.render import money, page


class RenderTest(unittest.TestCase):
    def test_money(self) -> None:
        for cents, text in ((0, "0.00"), (5, "0.05"), (1290, "12.90"), (-45, "-0.45")):
            with self.subTest(cents=cents):
                self.assertEqual(money(cents), text)

    def test_cheapest_first(self) -> None:
        made = page("Shop", {"tea": 540, "apple": 45})
        self.assertLess(made.index("apple"), made.index("tea"))

    def test_names_cannot_break_out(self) -> None:
        self.assertNotIn("<script>", page("<script>", {"<script>": 1}))

    def test_the_real_products(self) -> None:
        products = json.loads((Path(__file__).parent.parent / "products.json").read_text(encoding="utf-8"))
        self.assertIn("coffee: 12.90", page("Shop", products))
