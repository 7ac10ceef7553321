"""Running steps: buckets of the cache, compilation, reading tokens back in blocks.

Shapes: N sequences, R rows of the network, P prompt slots, S slots, V candidates.
"""

import time
from dataclasses import dataclass, replace

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from emu3.mllm.generation.cache import capacities
from emu3.mllm.generation.prefill import prefill, prompt_slots
from emu3.mllm.generation.rows import Rows
from emu3.mllm.generation.step import Step, StepKind, StepNetwork
from emu3.mllm.generation.weights import StepWeights
from emu3.mllm.generation.window import JacobiStep
from emu3.mllm.generation.zipar import ZipStep
from emu3.nn.attention import MASKED

STEPS_KEPT = 8
CACHE_BYTES_KEPT = 2**28


class CompiledStep:
    """A step and its compiled functions: `block` for many steps, `next_logits` for a plain one."""

    def __init__(self, model, weights: StepWeights, kind: StepKind, jit: bool) -> None:
        self.kind, self.jit = kind, jit
        self.step = make_step(model, weights, kind).set_train(False)
        self.block = self._function(self.step.construct)
        if kind.scheme == "plain":
            self.next_logits = self._function(self.step.logits)
        self.compiled = not jit

    def compile(self, arguments: tuple[Tensor, ...]) -> None:
        """Compile by running the block with arguments that make it run no step at all."""
        if not self.compiled:
            self.block(*arguments)
            self.compiled = True

    def _function(self, method):
        return ms.jit(method) if self.jit else method


def make_step(model, weights: StepWeights, kind: StepKind) -> StepNetwork:
    """The step that decodes as `kind.scheme` says."""
    classes = {"plain": Step, "jacobi": JacobiStep, "zipar": ZipStep}
    return classes[kind.scheme](model, weights, kind)


def number(value: int) -> Tensor:
    """A whole number as steps take it: (1,) int32."""
    return Tensor(np.array([value], np.int32))


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
    """What is known of each new token in advance: forced ids and uniforms, (N, n) each.

    `streams` are seed and stream of each sequence, where more randomness comes from.
    """

    forced: np.ndarray
    uniform: np.ndarray
    streams: tuple[tuple[int, int], ...] = ()


class Decoder:
    """One generation in progress: the cache, the place reached, the tokens made so far.

    This is plain decoding; those in `window_decoder` take several places at a time.
    """

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
        total = self.prompt_slots + self.count + kind.spare
        first = min(total, self.prompt_slots + kind.spare + 8)
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
        slot = number(self._slot_reached)
        self.token = self.current.step.choose(logits, slot, *self.scalars[1:])
        self._read()

    def next_logits(self) -> Tensor:
        """Run the last token: logits (N, V) of the next one."""
        self._make_room(self._slot_reached + 1)
        step = self.current
        return step.next_logits(self.token, number(self._slot_reached), self.scalars[0])

    def advance(self, count: int) -> None:
        """Make up to `count` more tokens, as many as the tables know."""
        target = min(self.tokens.shape[1] + count, self.count)
        while self.tokens.shape[1] < target:
            self._make_room(self._slot_reached + 1)
            start = number(self._slot_reached)
            stop = min(self.prompt_slots + target, self.kind.slots) - 1
            self.token = self.current.block(self.token, start, number(stop), *self.scalars)
            self._read(stop + 1 - self.prompt_slots)

    def close(self) -> None:
        """Give the step back; the tokens made stay."""
        if self.current is not None:
            self.store.give(self.current)
            self.current = None

    @property
    def counts(self) -> np.ndarray:
        """Tokens of each sequence that are final: (N,)."""
        return np.full(self.kind.sequences, self.tokens.shape[1])

    @property
    def forwards(self) -> np.ndarray:
        """Runs of the network for each sequence, the prompt's not counted: (N,)."""
        return self.counts - 1

    @property
    def _slot_reached(self) -> int:
        """Slot of the last token that is known."""
        return self.prompt_slots + int(self.counts.max()) - 1

    def _read(self, count: int | None = None) -> None:
        count = self.tokens.shape[1] + 1 if count is None else count
        written = self.current.step.tokens.asnumpy()
        new = written[self._slot_reached + 1 : self.prompt_slots + count].T
        self.tokens = np.concatenate([self.tokens, new], 1)

    def _make_room(self, slot: int) -> None:
        """Move to a larger cache when this one does not have `slot`."""
        while slot >= self.kind.slots:
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
        bias = np.where(hidden, np.float32(MASKED), np.float32(0))[:, None, None]
        ops.assign(step.padding, Tensor(np.broadcast_to(bias, step.padding.shape).copy()))
        ops.assign(step.offset, Tensor(-padding.astype(np.int32).reshape(step.offset.shape)))
        self._write(step.forced, self.tables.forced)
        self._write(step.uniform, self.tables.uniform)
        if not self.kind.log_probs:
            began = time.perf_counter()
            self.current.compile(self._no_steps())
            self.compile_seconds += time.perf_counter() - began

    def _no_steps(self) -> tuple[Tensor, ...]:
        """Arguments with which a block runs no step."""
        token = Tensor(np.zeros(self.kind.sequences, np.int32))
        return (token, number(0), number(0), *self.scalars)

    def _write(self, target: Parameter, table: np.ndarray) -> None:
        """Write a table (N, n, ...) into a step's Parameter (S, N, ...)."""
        full = np.zeros(target.shape, table.dtype)
        known = min(self.count, self.kind.slots - self.prompt_slots)
        full[self.prompt_slots : self.prompt_slots + known] = table[:, :known].swapaxes(0, 1)
        ops.assign(target, Tensor(full))

    def _load(self, cache: list[Tensor]) -> None:
        for i, layer in enumerate(self.current.step.layers):
            layer.load(cache[2 * i], cache[2 * i + 1])
