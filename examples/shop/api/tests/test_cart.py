import unittest

from shop_api.cart import FREE_SHIPPING_FROM, PRICES, SHIPPING, UnknownProduct, bill


class CartTest(unittest.TestCase):
    def test_an_empty_cart_costs_nothing(self) -> None:
        self.assertEqual(bill({}).total, 0)

    def test_pieces_are_added_up(self) -> None:
        self.assertEqual(bill({"apple": 2, "bread": 1}).goods, 2 * PRICES["apple"] + PRICES["bread"])

    def test_small_carts_pay_shipping(self) -> None:
        self.assertEqual(bill({"apple": 1}).shipping, SHIPPING)

    def test_large_carts_ship_free(self) -> None:
        pieces = FREE_SHIPPING_FROM // PRICES["coffee"] + 1
        self.assertEqual(bill({"coffee": pieces}).shipping, 0)

    def test_a_discount_is_rounded_down(self) -> None:
        self.assertEqual(bill({"apple": 1}, discount_percent=3).discount, 1)

    def test_a_discount_can_bring_shipping_back(self) -> None:
        self.assertEqual(bill({"coffee": 3}, discount_percent=50).shipping, SHIPPING)

    def test_unknown_products_are_named(self) -> None:
        with self.assertRaisesRegex(UnknownProduct, "anvil"):
            bill({"anvil": 1})

    def test_nonsense_is_refused(self) -> None:
        for cart, discount in (({"apple": -1}, 0), ({}, 101), ({}, -1)):
            with self.subTest(cart=cart, discount=discount), self.assertRaises(ValueError):
                bill(cart, discount)
