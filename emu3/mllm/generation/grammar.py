"""The image grid as known tokens: which id each new place must hold, and where free rows end.

Shapes: N sequences, n new tokens. The layout itself belongs to `Vocabulary.forced_ids`.
"""

from dataclasses import dataclass

import numpy as np

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.vocabulary import FREE, Vocabulary


@dataclass(frozen=True)
class Grid:
    """The pictures under way: `forced` (N, n) int32 with FREE where a visual id is sampled.

    `sizes` (N, 2) are latent rows and columns, `done` (N,) the grid tokens already in the prompts.
    """

    vocabulary: Vocabulary
    forced: np.ndarray
    sizes: np.ndarray
    done: np.ndarray

    @property
    def free_until(self) -> int:
        """One past the last new place where some sequence samples."""
        columns = np.flatnonzero((self.forced == FREE).any(0))
        return int(columns[-1]) + 1 if columns.size else 0

    @property
    def block(self) -> int:
        """Steps between two readings: a row of the narrowest picture."""
        return int(self.sizes[:, 1].min()) + 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens each grid still needs, eos counted: (N,)."""
        spans = [self.vocabulary.grid_length(int(h), int(w)) for h, w in self.sizes]
        return np.maximum(np.array(spans) - self.done, 0)

    def rows_done(self, sequence: int, tokens: int) -> int:
        """Rows of a picture that are complete after `tokens` new ones."""
        height, width = self.sizes[sequence]
        return min(int(self.done[sequence] + tokens + 1) // int(width + 1), int(height))

    def row_ids(self, sequence: int, row: int, new: np.ndarray) -> np.ndarray | None:
        """Visual ids (w,) of a complete row among the new tokens (n,); None if it began earlier."""
        width = int(self.sizes[sequence, 1])
        start = row * (width + 1) - int(self.done[sequence])
        return new[start : start + width] if start >= 0 else None


def read_sizes(sizes) -> np.ndarray:
    """Latent rows and columns of each picture, (N, 2) int64.

    Raises:
        InputError: not pairs of whole numbers.
    """
    sizes = np.atleast_2d(as_numpy(sizes))
    if sizes.ndim != 2 or sizes.shape[1] != 2 or (sizes != np.floor(sizes)).any():
        raise InputError(
            f"image_size has shape {sizes.shape} and dtype {sizes.dtype}; allowed: whole numbers "
            "(sequences, 2), latent rows and columns; change image_size"
        )
    return sizes.astype(np.int64)


def make_grid(
    vocabulary: Vocabulary, sizes: np.ndarray, prompts: list[np.ndarray], limit: int | None
) -> Grid:
    """The grid that each prompt (1-D ids) goes on with, cut to `limit` new tokens.

    A prompt may end in the middle of its picture; its last img token begins the grid.

    Raises:
        InputError: a size out of range, or not one for all and not one per prompt.
    """
    if len(sizes) not in (1, len(prompts)):
        raise InputError(
            f"{len(sizes)} image sizes for {len(prompts)} sequences; allowed: one for all or one "
            "each; change image_size"
        )
    sizes = np.broadcast_to(sizes, (len(prompts), 2))
    done = np.array([_grid_tokens(vocabulary, ids) for ids in prompts])
    tails = [vocabulary.forced_ids(int(h), int(w))[d:] for (h, w), d in zip(sizes, done)]
    length = max(len(tail) for tail in tails)
    forced = np.full((len(tails), max(length, 1)), vocabulary.pad, np.int32)
    for row, tail in zip(forced, tails):
        row[: len(tail)] = tail
    return Grid(vocabulary, forced[:, :limit], sizes, done)


def _grid_tokens(vocabulary: Vocabulary, ids: np.ndarray) -> int:
    """How many tokens follow the last img token."""
    begins = np.flatnonzero(ids == vocabulary.img)
    if not begins.size:
        raise InputError(
            "a prompt has no img token where its picture begins; allowed: prompts made by "
            'Emu3Processor(mode="G"); change input_ids or leave image_size out'
        )
    return len(ids) - int(begins[-1]) - 1
