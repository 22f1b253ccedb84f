"""Endless draws from a set, the same for the same seed."""

import numpy as np


class Stream:
    """Endless draws from n items: every pass through them in an order of its own, each item once in a pass.

    entropy: whole numbers that the orders follow from: the seed, and what tells streams of one seed apart.
    """

    def __init__(self, size: int, *entropy: int) -> None:
        self.size, self.entropy = size, entropy
        self._pass = -1
        self._order = np.empty(0, np.int64)

    def __getitem__(self, position: int) -> int:
        """Which of 0..n-1 is drawn at a position."""
        number, place = divmod(position, self.size)
        if number != self._pass:
            order = np.random.default_rng((*self.entropy, number))
            self._order, self._pass = order.permutation(self.size), number
        return int(self._order[place])
