"""Endless draws from a set, reproducible by seed."""

import numpy as np


class Stream:
    """Endless draws from n items: each pass takes every item once, in its own order.

    entropy: Integers that determine the orders: the seed, and what distinguishes streams of one seed.
    """

    def __init__(self, size: int, *entropy: int) -> None:
        self.size, self.entropy = size, entropy
        self._pass = -1
        self._order = np.empty(0, np.int64)

    def __getitem__(self, position: int) -> int:
        """The item, 0..n-1, at a position."""
        number, place = divmod(position, self.size)
        if number != self._pass:
            order = np.random.default_rng((*self.entropy, number))
            self._order, self._pass = order.permutation(self.size), number
        return int(self._order[place])
