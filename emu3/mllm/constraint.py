"""The grammar of an image's grid as the function that constrained decoding asks."""

import numpy as np

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.vocabulary import FREE, Vocabulary


class PrefixConstraint:
    """Which ids an image prompt may go on with: the grid of `heights` x `widths` codes.

    Called with a batch row's number and its ids so far (T,), as PrefixConstrainedLogitsProcessor
    does, it gives the list of allowed ids. It keeps no state between calls.
    """

    def __init__(self, vocabulary: Vocabulary, heights: np.ndarray, widths: np.ndarray):
        self.vocabulary = vocabulary
        self.heights = heights
        self.widths = widths
        sizes = np.broadcast(heights, widths)
        self._forced = [vocabulary.forced_ids(int(h), int(w)).tolist() for h, w in sizes]
        self._visual = list(range(vocabulary.visual_start, vocabulary.visual_end))

    def __call__(self, batch_id: int, ids) -> list[int]:
        """Allowed ids after `ids`, whose last img token begins the grid.

        Raises:
            InputError: no img token, or no size for this row.
        """
        begins = np.flatnonzero(as_numpy(ids) == self.vocabulary.img)
        row = batch_id if len(self._forced) > 1 else 0
        if not begins.size or row >= len(self._forced):
            raise InputError(
                f"row {batch_id} has {begins.size} img tokens and there are {len(self._forced)} "
                "sizes; allowed: an image prompt and a size for each row, or one size for all"
            )
        place = len(ids) - int(begins[-1]) - 1
        if place >= len(self._forced[row]):
            return [self.vocabulary.pad]
        forced = self._forced[row][place]
        return self._visual if forced == FREE else [forced]
