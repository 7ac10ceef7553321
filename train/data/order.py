"""Which source each pass of a run reads, and how far into it: functions of the pass."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

BLOCK = 2**16  # passes that are drawn together


class PassOrder:
    """Draws by weight that need no memory of the run's length. With two sources:

        pass       0 1 2 3 4
        source     0 1 1 0 1
        ordinal    0 0 1 1 2

    Args:
        weights: of the sources, above 0.
        seed: fixes the draws.
    """

    def __init__(self, weights: Sequence[float], seed: tuple[int, ...]) -> None:
        parts = np.array(weights, np.float64)
        with np.errstate(over="ignore"):
            total = parts.sum()
        if np.isinf(total):
            parts /= parts.max()
        self.shares = parts / parts.sum()
        bounds = self.shares.cumsum()
        self.bounds, self.seed = bounds / bounds[-1], seed
        self.before = [np.zeros(len(weights), np.int64)]  # passes of each before a block

    def __call__(self, index: int) -> tuple[int, int]:
        """Source and ordinal of the pass `index`."""
        if len(self.shares) == 1:
            return 0, index
        number, place = divmod(index, BLOCK)
        while len(self.before) <= number:
            counts = np.bincount(self._block(len(self.before) - 1), minlength=len(self.shares))
            self.before.append(self.before[-1] + counts)
        sources = self._block(number)
        source = int(sources[place])
        earlier = np.count_nonzero(sources[:place] == source)
        return source, int(self.before[number][source]) + earlier

    @lru_cache(2)  # noqa: B019 - an order lives as long as the process
    def _block(self, number: int) -> np.ndarray:
        bits = np.random.PCG64(np.random.SeedSequence(self.seed))
        bits.advance(number * BLOCK)
        return self.bounds.searchsorted(np.random.Generator(bits).random(BLOCK), side="right")
