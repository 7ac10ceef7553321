"""Jacobi decoding on the host: drafts, noise and the pace of each sequence around `JacobiStep`.

Shapes: N sequences, W places in the window, n new tokens, F runs in a block.
"""

from typing import TYPE_CHECKING

import numpy as np
from mindspore import Tensor

from emu3.mllm.generation.decoder import StepStore, number
from emu3.mllm.generation.jacobi import UNIFORMS
from emu3.mllm.generation.sampling import USE_DRAFTS, USE_GUMBEL, USE_TESTS, random
from emu3.mllm.generation.window import RUNS, WindowDecoder
from emu3.mllm.vocabulary import FREE

if TYPE_CHECKING:
    from emu3.mllm.generation.request import Request


class JacobiDecoder(WindowDecoder):
    """Each sequence at its own pace; places that are not final hold drafts."""

    def __init__(self, store: StepStore, request: "Request") -> None:
        super().__init__(store, request, request.settings.scheme.window)
        streams = list(zip(request.seeds, request.streams))
        self.tokens = drafts(request.forced, streams, *self.kind.candidates)
        shape = (self.count, 2)
        keys = [random(*s, USE_GUMBEL).integers(0, 2**31, shape, np.int32) for s in streams]
        self.keys = np.stack(keys)
        self.generators = [random(*stream, USE_TESTS) for stream in streams]
        before, sequences = self.prompt_slots - 1, self.kind.sequences
        free = request.forced == FREE
        ends = np.where(free.any(1), self.count - free[:, ::-1].argmax(1), 1)
        self.stop = (before + ends).astype(np.int32)
        self.slot = np.full(sequences, before, np.int32)
        self.runs = np.zeros(sequences, np.int32)
        self.turn, self.noise = RUNS, np.zeros(self._noise_shape(sequences), np.float32)

    @property
    def counts(self) -> np.ndarray:
        """Tokens of each sequence that are final: (N,). After the last free one all are."""
        return np.where(self.slot < self.stop, self.slot + 1 - self.prompt_slots, self.count)

    @property
    def forwards(self) -> np.ndarray:
        """Runs of the network for each sequence, the prompt's not counted: (N,)."""
        return self.runs

    def choose(self, logits: Tensor) -> None:
        """Take the first token from logits (N, V)."""
        super().choose(logits)
        self.slot = self.slot + 1

    def advance(self, count: int) -> None:
        """Run the window up to `count` times, less when the cache has to grow."""
        self._make_room(int(self.slot.max()) + self.kind.window)
        if self.turn == RUNS:
            self.turn = 0
            parts = [g.random(self._noise_shape(1), np.float32) for g in self.generators]
            self.noise = np.concatenate(parts, -1)
        moved = self.current.block(*self._arguments(min(self.turn + count, RUNS)))
        self.slot, self.runs, (self.turn,) = (part.asnumpy() for part in moved)
        self._read()

    def _noise_shape(self, sequences: int) -> tuple[int, int, int]:
        return RUNS, UNIFORMS, sequences * self.kind.window

    def _arguments(self, end: int) -> tuple[Tensor, ...]:
        """What a block takes to go on up to run `end`."""
        state = (Tensor(self.slot), Tensor(self.runs), number(self.turn), number(end))
        return (*state, Tensor(self.stop), Tensor(self.noise), *self.scalars)

    def _no_steps(self) -> tuple[Tensor, ...]:
        return self._arguments(0)

    def _enter(self, slots: int) -> None:
        previous = self.current
        super()._enter(slots)
        step = self.current.step
        self._write(step.keys, self.keys)
        step.rule.begin(previous.step.rule if previous else None)


def drafts(forced: np.ndarray, streams: list[tuple[int, int]], first: int, stop: int) -> np.ndarray:
    """Forced ids, and where a token is free a random one of first..stop-1: (N, n) int32."""
    guesses = [random(*s, USE_DRAFTS).integers(first, stop, forced.shape[1]) for s in streams]
    return np.where(forced == FREE, np.stack(guesses), forced).astype(np.int32)
