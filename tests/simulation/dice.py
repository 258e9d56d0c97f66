"""All chance of a run comes from its seed: what the product asks of the system and what the simulation decides."""

import contextlib
import os
import random
from collections.abc import Iterator


def dice_of(seed: int, what: str) -> random.Random:
    """A stream of its own for each purpose, so that leaving one thing out changes the others as little as can be."""
    return random.Random(f"{seed}/{what}")


@contextlib.contextmanager
def loaded(seed: int) -> Iterator[None]:
    """While this lasts the product's random numbers, keys and ids follow from *seed*, too."""
    dice = dice_of(seed, "product")
    urandom, taken, state = os.urandom, random._urandom, random.getstate()  # type: ignore[attr-defined]
    os.urandom = random._urandom = dice.randbytes  # type: ignore[attr-defined]
    random.seed(f"{seed}/random")
    try:
        yield
    finally:
        os.urandom, random._urandom = urandom, taken  # type: ignore[attr-defined]
        random.setstate(state)
