"""Running steps: buckets of the cache, compilation, reading tokens back in blocks.

Shapes: N sequences, R rows of the network, P prompt slots, S slots, V candidates.
"""

import time
from dataclasses import dataclass, replace

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from emu3.mllm.generation.cache import capacities
from emu3.mllm.generation.prefill import prefill, prompt_slots
from emu3.mllm.generation.rows import Rows
from emu3.mllm.generation.step import Step, StepKind
from emu3.mllm.generation.weights import StepWeights
from emu3.nn.attention import MASKED

STEPS_KEPT = 8
CACHE_BYTES_KEPT = 2**28


class CompiledStep:
    """A step and its compiled functions: `run` for blocks of steps, `next_logits` for one."""

    def __init__(self, model, weights: StepWeights, kind: StepKind, jit: bool) -> None:
        self.kind, self.jit = kind, jit
        self.step = Step(model, weights, kind).set_train(False)
        self.block = ms.jit(self.step.construct) if jit else None
        self.next_logits = ms.jit(self.step.logits) if jit else self.step.logits
        self.compiled = not jit

    def run(self, token: Tensor, start: int, stop: int, scalars: tuple[Tensor, ...]) -> Tensor:
        """Steps at slots start..stop-1; token (N,) stands at `start`; the token at `stop`."""
        if self.jit:
            return self.block(token, _slot(start), _slot(stop), *scalars)
        guidance, *choice = scalars
        for slot in map(_slot, range(start, stop)):
            token = self.step.choose(self.step.logits(token, slot, guidance), slot, *choice)
        return token

    def compile(self, token: Tensor, scalars: tuple[Tensor, ...]) -> None:
        """Compile by running no step at all."""
        if not self.compiled:
            self.run(token, 0, 0, scalars)
            self.compiled = True


def _slot(number: int) -> Tensor:
    return Tensor(np.array([number], np.int32))


class StepStore:
    """Compiled steps of one model, kept between generations; the longest unused go first.

    A generation takes its step out and gives it back, so that two at a time share no cache.
    """

    def __init__(self, model) -> None:
        self.model = model
        self.weights: StepWeights | None = None
        self.steps: list[CompiledStep] = []

    def take(self, kind: StepKind, jit: bool) -> CompiledStep:
        """The step for `kind`, made if there is none at hand."""
        for step in self.steps:
            if (step.kind, step.jit) == (kind, jit):
                self.steps.remove(step)
                return step
        return CompiledStep(self.model, self.weights, kind, jit)

    def give(self, step: CompiledStep) -> None:
        """Keep a step for the next generation, within a number and a size."""
        self.steps.append(step)
        while len(self.steps) > STEPS_KEPT or (
            len(self.steps) > 1
            and sum(kept.step.cache_bytes for kept in self.steps) > CACHE_BYTES_KEPT
        ):
            self.steps.pop(0)

    def refresh(self) -> None:
        """Bring joined weights up to date with the model."""
        if self.weights is None:
            self.weights = StepWeights(self.model)
        else:
            self.weights.refresh()


@dataclass(frozen=True)
class Tables:
    """What is known of each new token in advance: forced ids and uniforms, (N, n) each."""

    forced: np.ndarray
    uniform: np.ndarray


class Decoder:
    """One generation in progress: the cache, the place reached, the tokens made so far."""

    def __init__(
        self,
        store: StepStore,
        rows: Rows,
        kind: StepKind,
        tables: Tables,
        scalars: tuple[float, float, float],
        jit: bool,
        known_length: bool,
    ) -> None:
        self.store, self.rows, self.kind, self.tables, self.jit = store, rows, kind, tables, jit
        self.scalars = tuple(Tensor(value, ms.float32) for value in scalars)
        self.count = tables.forced.shape[1]
        self.prompt_slots = prompt_slots(rows)
        total = self.prompt_slots + self.count
        first = min(total, self.prompt_slots + 8)
        self.capacities = capacities(first, total, known_length)
        self.tokens = np.zeros((kind.sequences, 0), np.int32)
        self.compile_seconds = 0.0
        self.current: CompiledStep | None = None
        self.store.refresh()

    def start(self) -> Tensor:
        """Prefill; returns the logits (N, V) of the first new token."""
        done = prefill(self.store.model, self.rows, self.prompt_slots)
        source = Tensor(self.rows.source.astype(np.int32))
        self._enter(self.capacities.pop(0))
        self._load([ops.gather(tensor, source, 0) for tensor in done.cache])
        return self.current.step.score(ops.gather(done.hidden, source, 0), self.scalars[0])

    def choose(self, logits: Tensor) -> None:
        """Take the next token from logits (N, V)."""
        slot = _slot(self._slot_reached)
        self.token = self.current.step.choose(logits, slot, *self.scalars[1:])
        self._read()

    def next_logits(self) -> Tensor:
        """Run the last token: logits (N, V) of the next one."""
        self._make_room()
        step = self.current
        return step.next_logits(self.token, _slot(self._slot_reached), self.scalars[0])

    def advance(self, count: int) -> None:
        """Make up to `count` more tokens, as many as the tables know."""
        target = min(self.tokens.shape[1] + count, self.count)
        while self.tokens.shape[1] < target:
            self._make_room()
            start = self._slot_reached
            stop = min(self.prompt_slots + target, self.kind.slots) - 1
            self.token = self.current.run(self.token, start, stop, self.scalars)
            self._read(stop + 1 - self.prompt_slots)

    def close(self) -> None:
        """Give the step back; the tokens made stay."""
        if self.current is not None:
            self.store.give(self.current)
            self.current = None

    @property
    def _slot_reached(self) -> int:
        """Slot of the last token that is known."""
        return self.prompt_slots + self.tokens.shape[1] - 1

    def _read(self, count: int | None = None) -> None:
        count = self.tokens.shape[1] + 1 if count is None else count
        written = self.current.step.tokens.asnumpy()
        new = written[self._slot_reached + 1 : self.prompt_slots + count].T
        self.tokens = np.concatenate([self.tokens, new], 1)

    def _make_room(self) -> None:
        """Move to a larger cache when the next token has no slot in this one."""
        if self._slot_reached + 1 >= self.kind.slots:
            saved = [part for layer in self.current.step.layers for part in layer.saved()]
            self._enter(self.capacities.pop(0))
            self._load(saved)

    def _enter(self, slots: int) -> None:
        """Take the step for a cache of `slots` slots and write its tables."""
        self.kind = replace(self.kind, slots=slots)
        self.close()
        self.current = self.store.take(self.kind, self.jit)
        step = self.current.step
        padding = self.prompt_slots - self.rows.lengths
        hidden = np.arange(slots) < padding[:, None]
        bias = np.where(hidden, np.float32(MASKED), np.float32(0))
        ops.assign(step.padding, Tensor(bias.reshape(step.padding.shape)))
        ops.assign(step.offset, Tensor(-padding.astype(np.int32)))
        for target, table in (
            (step.forced, self.tables.forced),
            (step.uniform, self.tables.uniform),
        ):
            full = np.zeros((slots, self.kind.sequences), table.dtype)
            known = min(self.count, slots - self.prompt_slots)
            full[self.prompt_slots : self.prompt_slots + known] = table[:, :known].T
            ops.assign(target, Tensor(full))
        if not self.kind.log_probs:
            began = time.perf_counter()
            self.current.compile(Tensor(np.zeros(self.kind.sequences, np.int32)), self.scalars)
            self.compile_seconds += time.perf_counter() - began

    def _load(self, cache: list[Tensor]) -> None:
        for i, layer in enumerate(self.current.step.layers):
            layer.load(cache[2 * i], cache[2 * i + 1])
