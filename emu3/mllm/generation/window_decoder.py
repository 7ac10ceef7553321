"""Decoders that take several places of a picture at once: Jacobi decoding and ZipAR.

Shapes: N sequences, W places in the window, n new tokens, F runs in a block.
"""

import numpy as np
from mindspore import Tensor, ops

from emu3.mllm.generation.decoder import Decoder, StepStore, Tables, number
from emu3.mllm.generation.jacobi import UNIFORMS
from emu3.mllm.generation.rows import Rows
from emu3.mllm.generation.sampling import USE_DRAFTS, USE_GUMBEL, USE_TESTS, random
from emu3.mllm.generation.step import StepKind
from emu3.mllm.generation.zipar import IDLE, NEVER, Schedule
from emu3.mllm.vocabulary import FREE

RUNS = 16  # in a block, between two readings


class WindowDecoder(Decoder):
    """A Decoder whose `tokens` (N, n) are final in the first `counts` (N,) of each row only."""

    scratch = 0  # slots at the end of the cache that belong to no token

    def __init__(
        self, store: StepStore, rows: Rows, kind: StepKind, tables: Tables, scalars, jit: bool
    ) -> None:
        super().__init__(store, rows, kind, tables, scalars, jit, known_length=True)
        self.tokens = tables.forced.astype(np.int32)

    def _enter(self, slots: int) -> None:
        super()._enter(slots)
        self._write(self.current.step.tokens, self.tokens)

    def _read(self, count: int | None = None) -> None:
        known = min(self.count, self.kind.slots - self.prompt_slots - self.scratch)
        written = self.current.step.tokens.asnumpy()
        self.tokens[:, :known] = written[self.prompt_slots : self.prompt_slots + known].T


class JacobiDecoder(WindowDecoder):
    """Each sequence at its own pace; places that are not final hold drafts."""

    def __init__(
        self, store: StepStore, rows: Rows, kind: StepKind, tables: Tables, scalars, jit: bool
    ) -> None:
        super().__init__(store, rows, kind, tables, scalars, jit)
        self.tokens = drafts(tables, *kind.head_range)
        shape = (self.count, 2)
        keys = [random(*s, USE_GUMBEL).integers(0, 2**31, shape, np.int32) for s in tables.streams]
        self.keys = np.stack(keys)
        self.generators = [random(*stream, USE_TESTS) for stream in tables.streams]
        before = self.prompt_slots - 1
        free = tables.forced == FREE
        ends = np.where(free.any(1), self.count - free[:, ::-1].argmax(1), 1)
        self.stop = (before + ends).astype(np.int32)
        self.slot = np.full(kind.sequences, before, np.int32)
        self.runs = np.zeros(kind.sequences, np.int32)
        self.turn, self.noise = RUNS, np.zeros(self._noise_shape(kind.sequences), np.float32)

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


class ZipDecoder(WindowDecoder):
    """As many places of each picture as it has rows under way, by a schedule."""

    scratch = 2

    def __init__(
        self,
        store: StepStore,
        rows: Rows,
        kind: StepKind,
        tables: Tables,
        scalars,
        jit: bool,
        schedule: Schedule,
    ) -> None:
        super().__init__(store, rows, kind, tables, scalars, jit)
        self.schedule, self.turn = schedule, -1

    @property
    def counts(self) -> np.ndarray:
        """Tokens of each sequence that are final: (N,)."""
        return self.schedule.counts[self.turn + 1]

    @property
    def forwards(self) -> np.ndarray:
        """Runs of the network for each sequence, the prompt's not counted: (N,)."""
        return np.minimum(self.schedule.runs, self.turn)

    def choose(self, logits: Tensor) -> None:
        """Take the first token from logits (N, V)."""
        super().choose(logits)
        self.turn = 0

    def advance(self, count: int) -> None:
        """Run the schedule `count` times further, a block at most."""
        block = slice(self.turn, self.turn + min(count, RUNS))
        feeds, targets = self.schedule.feeds[block], self.schedule.targets[block]
        last = int(max(feeds.max(), targets.max()))
        self._make_room(self.prompt_slots + last + self.kind.spare)
        self.current.block(*self._arguments(feeds, targets))
        self.turn += len(feeds)
        self._read()

    def _arguments(self, feeds: np.ndarray, targets: np.ndarray) -> tuple[Tensor, ...]:
        """What a block takes to run places (F, N, W); idle ones go to the last two slots."""
        slots = []
        for places, idle in ((feeds, self.kind.slots - 2), (targets, self.kind.slots - 1)):
            table = np.full((RUNS, *places.shape[1:]), idle, np.int32)
            table[: len(places)] = np.where(places == IDLE, idle, places + self.prompt_slots)
            slots.append(Tensor(table.reshape(RUNS, -1)))
        return (number(0), number(len(feeds)), number(self.turn), *slots, *self.scalars)

    def _no_steps(self) -> tuple[Tensor, ...]:
        shape = (0, self.kind.sequences, self.kind.window)
        return self._arguments(np.zeros(shape, np.int32), np.zeros(shape, np.int32))

    def _enter(self, slots: int) -> None:
        super()._enter(slots)
        step = self.current.step
        born = np.full((slots, self.kind.sequences), NEVER, np.int32)
        born[: self.prompt_slots] = -1
        known = min(self.count, slots - self.prompt_slots)
        born[self.prompt_slots : self.prompt_slots + known] = self.schedule.born[:, :known].T
        rows = np.tile(born.T, (self.kind.rows // self.kind.sequences, 1))
        ops.assign(step.born, Tensor(rows.reshape(step.born.shape)))


def drafts(tables: Tables, first: int, stop: int) -> np.ndarray:
    """Forced ids, and where a token is free a random one of first..stop-1: (N, n) int32."""
    count = tables.forced.shape[1]
    guesses = [random(*s, USE_DRAFTS).integers(first, stop, count) for s in tables.streams]
    return np.where(tables.forced == FREE, np.stack(guesses), tables.forced).astype(np.int32)
