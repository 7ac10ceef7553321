"""The grid of a picture or a clip: its size, and which id each of its places must hold.

Shapes: N sequences, n new tokens; sizes are latent frames, rows and columns, a picture's one frame.
The layout itself belongs to `Vocabulary.forced_ids`. Rows are counted over all frames.
"""

import math
from dataclasses import dataclass

import numpy as np

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.vocabulary import FREE, MAX_GRID_SIDE, Vocabulary

MAX_RATIO = 16


def read_ratio(ratio: str) -> tuple[int, int]:
    """Width and height of a text "width:height".

    Raises:
        InputError: it is malformed, or beyond 16 to 1.
    """
    width, _, height = str(ratio).partition(":")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InputError(f"ratio {ratio!r}; allowed: width:height such as 16:9; change --ratio")
    w, h = int(width), int(height)
    if max(h, w) > MAX_RATIO * min(h, w):
        raise InputError(f"ratio {ratio!r}; allowed: at most {MAX_RATIO} to 1; change --ratio")
    return w, h


def latent_size(ratio: str, image_area: int, factor: int = 8) -> tuple[int, int]:
    """Latent (rows, columns) of a picture of `ratio` "width:height" and about `image_area` pixels.

    Raises:
        InputError: the ratio is malformed or beyond 16 to 1, or the area leaves no code.
    """
    w, h = read_ratio(ratio)
    scale = math.sqrt(max(image_area, 0) / (w * h))
    rows, columns = round(h * scale / factor), round(w * scale / factor)
    if min(rows, columns) < 1 or max(rows, columns) > MAX_GRID_SIDE:
        raise InputError(
            f"image area {image_area} at ratio {ratio} gives {rows}x{columns} codes of "
            f"{factor}x{factor} pixels; allowed: 1..{MAX_GRID_SIDE} each way; change --image-area"
        )
    return rows, columns


@dataclass(frozen=True)
class Grid:
    """What is under way: `forced` (N, n) int32 with FREE where a visual id is sampled.

    `sizes` (N, 3) are latent frames, rows and columns, `done` (N,) the grid tokens already in the
    prompts.
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
        return int(self.sizes[:, 2].min()) + 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens each grid still needs, eos counted: (N,)."""
        spans = [self.vocabulary.grid_length(int(h), int(w), int(t)) for t, h, w in self.sizes]
        return np.maximum(np.array(spans) - self.done, 0)

    def shape(self, sequence: int) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a sequence."""
        frames, height, width = (int(side) for side in self.sizes[sequence])
        return frames, height, width

    def rows_done(self, sequence: int, tokens: int) -> int:
        """Rows of a sequence that are complete after `tokens` new ones."""
        frames, height, width = self.shape(sequence)
        place = int(self.done[sequence]) + tokens
        return min(self.vocabulary.rows_before(height, width, place), frames * height)

    def row_start(self, sequence: int, row: int) -> int:
        """New place of a row's first code; below 0 where it is in the prompt."""
        _, height, width = self.shape(sequence)
        return self.vocabulary.row_start(height, width, row) - int(self.done[sequence])

    def row_ids(self, sequence: int, row: int, new: np.ndarray) -> np.ndarray | None:
        """Visual ids (w,) of a complete row among the new tokens (n,); None if it began earlier."""
        start = self.row_start(sequence, row)
        return new[start : start + self.shape(sequence)[2]] if start >= 0 else None


class ClipTooLong(InputError):
    """A clip that needs more positions than a model has.

    Args:
        what: the clip and the positions.
        fitting: latent frames of its size that fit, with those given.
        scaled: how to get more positions.
    """

    def __init__(self, what: str, fitting: int, scaled: str) -> None:
        self.what, self.fitting, self.scaled = what, fitting, scaled
        allowed = f"up to {fitting} latent frames at once" if fitting else "smaller frames"
        super().__init__(f"{what}; allowed: {allowed}; change video_size, {scaled}")


def frames_that_fit(positions: int, height: int, width: int) -> int:
    """Latent frames whose grid takes at most so many positions after its img token, which need no
    room for what is forced behind the last code."""
    return max(positions + 3, 0) // Vocabulary.row_start(height, width, height)


def read_sizes(sizes, name: str = "image_size") -> np.ndarray:
    """Latent frames, rows and columns of each grid, (N, 3) int64.

    `name` is image_size, pairs (rows, columns), or video_size, triples (frames, rows, columns).

    Raises:
        InputError: not so many whole numbers.
    """
    count, words = (2, "rows and columns") if name == "image_size" else (3, "frames, rows, columns")
    sizes = np.atleast_2d(np.asarray(sizes))
    numbers = sizes.dtype.kind in "iuf"
    if not numbers or sizes.ndim != 2 or sizes.shape[1] != count or (sizes % 1).any():
        raise InputError(
            f"{name} has shape {sizes.shape} and dtype {sizes.dtype}; allowed: whole numbers "
            f"(sequences, {count}), latent {words}; change {name}"
        )
    sizes = sizes.astype(np.int64)
    return sizes if count == 3 else np.insert(sizes, 0, 1, axis=1)


def make_grid(
    vocabulary: Vocabulary, sizes: np.ndarray, prompts: list[np.ndarray], limit: int | None
) -> Grid:
    """The grid that each prompt (1-D ids) goes on with, cut to `limit` new tokens.

    `sizes` (1 or N, 3). A prompt may end in the middle of its picture or clip; its last img token
    begins the grid.

    Raises:
        InputError: a size out of range, or not one for all and not one per prompt.
    """
    if len(sizes) not in (1, len(prompts)):
        raise InputError(
            f"{len(sizes)} image sizes for {len(prompts)} sequences; allowed: one for all or one "
            "each; change image_size or video_size"
        )
    sizes = np.broadcast_to(sizes, (len(prompts), 3))
    done = np.array([_grid_tokens(vocabulary, ids) for ids in prompts])
    tails = [vocabulary.forced_ids(int(h), int(w), int(t))[d:] for (t, h, w), d in zip(sizes, done)]
    length = max(len(tail) for tail in tails)
    forced = np.full((len(tails), max(length, 1)), vocabulary.pad, np.int32)
    for row, tail in zip(forced, tails):
        row[: len(tail)] = tail
    return Grid(vocabulary, forced[:, :limit], sizes, done)


def _grid_tokens(vocabulary: Vocabulary, ids: np.ndarray) -> int:
    """How many tokens follow the last img token."""
    tail = vocabulary.after_img(ids)
    if tail is None:
        raise InputError(
            "a prompt has no img token where its picture begins; allowed: prompts made by "
            'Emu3Processor(mode="G"); change input_ids or leave image_size and video_size out'
        )
    return len(tail)


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
        tail = self.vocabulary.after_img(as_numpy(ids))
        row = batch_id if len(self._forced) > 1 else 0
        if tail is None or row >= len(self._forced):
            found = "no" if tail is None else "an"
            raise InputError(
                f"row {batch_id} has {found} img token and there are {len(self._forced)} sizes; "
                "allowed: an image prompt and a size for each row, or one size for all"
            )
        if len(tail) >= len(self._forced[row]):
            return [self.vocabulary.pad]
        forced = self._forced[row][len(tail)]
        return self._visual if forced == FREE else [forced]
