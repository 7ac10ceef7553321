"""What a generation has reached: which events are due, when it is over, what its output is.

Shapes: N sequences, n new tokens.
"""

from collections.abc import Iterator

import numpy as np

from emu3.mllm.generation.decoder import Decoder
from emu3.mllm.generation.events import Event, RowDone, TextPiece
from emu3.mllm.generation.request import Request

TEXT_BLOCK = 8


class Pictures:
    """Pictures: rows as they are finished. What is forced after the last free place is known."""

    def __init__(self, request: Request) -> None:
        self.grid = request.grid
        self.sent = [self.grid.rows_done(i, 0) for i in range(len(request.ids))]

    @property
    def block(self) -> int:
        """Steps between two readings."""
        return self.grid.block

    def finished(self, made: Decoder) -> bool:
        """Whether nothing is left to sample."""
        return bool((made.counts >= self.grid.free_until).all())

    def events(self, made: Decoder) -> Iterator[Event]:
        """Rows that are complete and were not before."""
        for sequence, sent in enumerate(self.sent):
            self.sent[sequence] = self.grid.rows_done(sequence, int(made.counts[sequence]))
            for row in range(sent, self.sent[sequence]):
                ids = self.grid.row_ids(sequence, row, made.tokens[sequence])
                if ids is not None:
                    yield RowDone(sequence, row, self.grid.vocabulary.codes_of(ids))

    def output(self, made: Decoder, whole: bool) -> np.ndarray:
        """New ids (N, n) to show so far; with `whole`, the known ones at the end too."""
        forced = self.grid.forced
        tokens = made.tokens[:, : min(made.counts.min(), forced.shape[1])]
        return np.concatenate([tokens, forced[:, tokens.shape[1] :]], 1) if whole else tokens

    def count(self, output: np.ndarray) -> int:
        """New tokens of all sequences, padding not counted."""
        return int(np.minimum(self.grid.lengths, output.shape[1]).sum())


class Texts:
    """Answers: ids as they come, each sequence up to its eos."""

    block = TEXT_BLOCK

    def __init__(self, request: Request) -> None:
        self.eos, self.pad = request.settings.eos, request.settings.pad
        self.limit = request.tables.forced.shape[1]
        self.sent = [0] * len(request.ids)

    def finished(self, made: Decoder) -> bool:
        """Whether every sequence has ended or there is room for no more."""
        tokens = made.tokens
        return tokens.shape[1] >= self.limit or bool(np.isin(tokens, self.eos).any(1).all())

    def events(self, made: Decoder) -> Iterator[Event]:
        """Ids that were not there before, eos and what follows it left out."""
        tokens = made.tokens
        ended = np.isin(tokens, self.eos).any(1)
        for sequence, length in enumerate(self._lengths(tokens) - ended):
            piece = tokens[sequence, self.sent[sequence] : length]
            self.sent[sequence] = max(self.sent[sequence], int(length))
            if piece.size:
                yield TextPiece(sequence, piece)

    def output(self, made: Decoder, whole: bool) -> np.ndarray:
        """New ids (N, n), cut after the longest answer, padded after each eos."""
        lengths = self._lengths(made.tokens)
        kept = made.tokens[:, : lengths.max()]
        return np.where(np.arange(kept.shape[1]) < lengths[:, None], kept, self.pad)

    def count(self, output: np.ndarray) -> int:
        """New tokens of all sequences up to and with eos."""
        return int(self._lengths(output).sum())

    def _lengths(self, tokens: np.ndarray) -> np.ndarray:
        """(N,): ids of each row up to and with its first eos."""
        ends = np.isin(tokens, self.eos)
        return np.where(ends.any(1), ends.argmax(1) + 1, tokens.shape[1])
