"""What a running generation tells its watchers: progress bar, preview, web page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from emu3.mllm.grammar import Grid


@dataclass(frozen=True)
class PrefillPart:
    """`done` of `parts` parts of the prompts are in the cache; sent when it takes long."""

    done: int
    parts: int


@dataclass(frozen=True)
class PrefillDone:
    """The prompts are in the cache: `tokens` of them, padding not counted."""

    tokens: int
    seconds: float


@dataclass(frozen=True)
class RowDone:
    """Row `row` of latent frame `frame` of `sequence` is made: codes (w,) int32.

    `again` where a `CandidateRow` came before it.
    """

    sequence: int
    row: int
    codes: np.ndarray
    frame: int = 0
    again: bool = False


@dataclass(frozen=True)
class CandidateRow:
    """A row as `RowDone` has it, of the first of several candidates; the best one's rows follow."""

    sequence: int
    row: int
    codes: np.ndarray
    frame: int = 0
    again: ClassVar[bool] = False


@dataclass(frozen=True)
class ChoicePart:
    """`done` of `parts` candidates have been judged; sent when it takes long."""

    done: int
    parts: int


@dataclass(frozen=True)
class FrameDone:
    """Latent frame `frame` of `sequence` is made, all of it: codes (h, w) int32.

    A picture is one frame. A frame that began in the prompt has rows alone.
    """

    sequence: int
    frame: int
    codes: np.ndarray


@dataclass(frozen=True)
class TextPiece:
    """The next ids (n,) int32 of `sequence`, n >= 1; ids from eos on are not sent."""

    sequence: int
    ids: np.ndarray


@dataclass(frozen=True)
class Done:
    """The end: `sequences` (B, T + new) int32, prompt included, finished rows padded.

    `tokens` counts the new ones before padding, over all sequences; `seconds` is the whole
    generation, compiling included; `seeds` (B,) make it again.
    `forwards` (B,) are the runs of the network for each sequence, its prompt's not counted.
    """

    sequences: np.ndarray
    tokens: int
    seconds: float
    seeds: tuple[int, ...]
    forwards: tuple[int, ...]

    @property
    def tokens_per_forward(self) -> float:
        """New tokens, forced ones included, by runs of the network; about 1 if plain."""
        return self.tokens / max(sum(self.forwards), 1)


Event = (
    PrefillPart | PrefillDone | CandidateRow | ChoicePart | RowDone | FrameDone | TextPiece | Done
)


def finished(
    grid: "Grid", sequence: int, new: np.ndarray, rows: range
) -> "Iterator[RowDone | FrameDone]":
    """What is told of complete rows, counted over all frames, of a sequence's new ids (n,).

    Nothing of a row, or of a frame, that began in the prompt.
    """
    height = grid.shape(sequence)[1]

    def codes(of: range) -> np.ndarray | None:
        ids = [grid.row_ids(sequence, row, new) for row in of]
        return None if ids[0] is None else grid.vocabulary.codes_of(np.stack(ids))

    for row in rows:
        frame, line = divmod(row, height)
        made = codes(range(row, row + 1))
        if made is not None:
            yield RowDone(sequence, line, made[0], frame)
        if line + 1 == height:
            made = codes(range(row + 1 - height, row + 1))
            if made is not None:
                yield FrameDone(sequence, frame, made)
