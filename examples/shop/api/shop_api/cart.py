"""What a cart costs. Money is whole cents; nothing here touches the network or the clock."""

from dataclasses import dataclass

PRICES = {"apple": 45, "bread": 320, "coffee": 1290, "tea": 540}
"""Cents per piece."""

FREE_SHIPPING_FROM = 3000
SHIPPING = 490


class UnknownProduct(ValueError):
    """The shop does not sell this."""


@dataclass(frozen=True)
class Bill:
    """All amounts in cents."""

    goods: int
    discount: int
    shipping: int

    @property
    def total(self) -> int:
        return self.goods - self.discount + self.shipping


def bill(cart: dict[str, int], discount_percent: int = 0) -> Bill:
    """The bill of a *cart* (product -> pieces).

    A discount is rounded down to whole cents, in the shop's favour. Raises: UnknownProduct, ValueError.
    """
    if not 0 <= discount_percent <= 100:
        raise ValueError(f"discount of {discount_percent} % is not between 0 and 100")
    goods = 0
    for product, pieces in cart.items():
        if product not in PRICES:
            raise UnknownProduct(product)
        if pieces < 0:
            raise ValueError(f"{pieces} pieces of {product}")
        goods += PRICES[product] * pieces
    discount = goods * discount_percent // 100
    shipping = SHIPPING if 0 < goods - discount < FREE_SHIPPING_FROM else 0
    return Bill(goods, discount, shipping)
