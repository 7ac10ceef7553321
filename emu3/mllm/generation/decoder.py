"""Running steps: sizes of the cache, compilation, reading tokens back in blocks.

Shapes: N sequences, R rows of the network, P prompt slots, S slots, V candidates, n new tokens.

    slot     0 ......... P-1 | P ...................... P+n-1 | spare
    holds    - - a a a a a a | new tokens in raster order     | a window's drafts, idle places

A slot holds one token of every row. Sizes come in buckets; a step compiled for one serves every
generation that fits it. A cache grows in steps where unused slots cost reading time. Where our
kernel decodes, which skips them, a picture's has its last size from the start, and a large one is
stored in bfloat16.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from emu3 import runtime
from emu3.mllm.generation.blocks import OneByOne
from emu3.mllm.generation.prefill import Prefill, prefill
from emu3.mllm.generation.sampling import uniforms
from emu3.mllm.generation.schemes import part
from emu3.mllm.generation.step import StepKind
from emu3.mllm.generation.step_weights import StepWeights
from emu3.nn.graphs import kept
from emu3.nn.masked import MASKED
from emu3.nn.step_kernels import marks_kernel, step_attention

if TYPE_CHECKING:
    from emu3.mllm.configuration_emu3 import Emu3Config
    from emu3.mllm.generation.request import Request

SMALLEST = 128
FIRST_TOKENS = 8  # the first cache has room for, where more may follow
CACHE_BYTES_KEPT = 2**28  # between generations
LARGEST_WIDE = 2**30  # bytes of a cache in float32, of stored weights
STEPS_KEPT = 8


def bucket(slots: int) -> int:
    """The smallest bucket with at least `slots` slots: 8 sizes per doubling, at most 1/8 waste."""
    step = SMALLEST
    while slots > 16 * step:
        step *= 2
    return -(-slots // step) * step


def skips_unused(stored: bool) -> bool:
    """Whether steps of a model with `stored` weights of 16 or 8 bits skip slots not in use."""
    return stored and step_attention("float32") is not None


def capacities(first: int, last: int, known: bool, skips: bool = False) -> list[int]:
    """Cache sizes to go through, from one that holds `first` slots to one that holds `last`.

    With `known` the last slot is sure to be reached: a short way needs one size only, and on
    Ascend, where each size costs minutes of compiling, any way does, as it does where a step
    `skips` what is not in use. Otherwise sizes double, since an answer may end at any time and
    unused slots cost reading time.
    """
    if known and skips:
        return [-(-last // SMALLEST) * SMALLEST]
    final = bucket(last)
    sizes = [bucket(first)]
    if known and (runtime.on_ascend() or final <= 8 * SMALLEST):
        return [final]
    while sizes[-1] < final:
        sizes.append(min(2 * sizes[-1], final))
    return sizes


def cache_slots(prompt: int, new: int, spare: int, known: bool, skips: bool = False) -> list[int]:
    """Cache sizes for a prompt, new tokens behind it and spare slots; see `capacities`."""
    total = prompt + new + spare
    return capacities(min(total, prompt + spare + FIRST_TOKENS), total, known, skips)


def token_bytes(config: "Emu3Config", width: int) -> int:
    """Cache of one token of one row: key and value of every layer."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * width


def cache_bytes(config: "Emu3Config", rows: int, slots: int, width: int) -> int:
    """Cache of `slots` slots."""
    return rows * slots * token_bytes(config, width)


def cache_form(config: "Emu3Config", stored: bool, rows: int, slots: int) -> str:
    """What a cache that grows to `slots` slots is stored as on CPU: "float32" or "bfloat16"."""
    large = cache_bytes(config, rows, slots, 4) > LARGEST_WIDE
    return "bfloat16" if large and skips_unused(stored) else "float32"


class Scalars(NamedTuple):
    """What changes between generations without compiling again: () float32 each."""

    guidance: Tensor
    temperature: Tensor
    top_p: Tensor


class CompiledStep:
    """A step and its compiled functions: `block` for many steps, `next_logits` for a plain one."""

    def __init__(self, model, weights: StepWeights, kind: StepKind, jit: bool) -> None:
        self.kind, self.jit = kind, jit
        self.step = part(kind.scheme.step)(model, weights, kind).set_train(False)
        if runtime.on_ascend():
            self.block = OneByOne(self.step, jit)
        else:
            self.block = runtime.compiled(self.step.construct, jit)
        if hasattr(self.step, "logits"):
            self.next_logits = runtime.compiled(self.step.logits, jit)
        self.compiled = not jit

    def compile(self, arguments: tuple[Tensor, ...]) -> None:
        """Compile by running the block with arguments that make it run no step at all."""
        if not self.compiled:
            with kept(self.step, arguments):
                self.block(*arguments)
            self.compiled = True

    def forget(self) -> None:
        """Give back the memory of what the step was compiled to."""
        for method in (self.block, getattr(self, "next_logits", None)):
            runtime.forget(method)


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

    def give(self, step: CompiledStep) -> bool:
        """Keep a step for the next generation, within a number and a size; False for one that is
        too large alone, since pixels may want its memory next."""
        if step.step.cache_bytes > CACHE_BYTES_KEPT:
            return False
        self.steps.append(step)
        while len(self.steps) > STEPS_KEPT or (
            sum(kept.step.cache_bytes for kept in self.steps) > CACHE_BYTES_KEPT
        ):
            self.steps.pop(0).forget()
        return True

    def refresh(self) -> None:
        """Bring joined weights up to date with the model."""
        if self.weights is None:
            self.weights = StepWeights(self.model)
        else:
            self.weights.refresh(marks_kernel())


class Decoder:
    """One generation in progress: the cache, the place reached, the tokens made so far.

    This is plain decoding; `window` is the base of those that take several places at a time.

    Args:
        store: the model's compiled steps.
        request: what to make.
        window: places of each sequence that a run takes.
    """

    def __init__(self, store: StepStore, request: "Request", window: int = 1) -> None:
        self.store, self.request, self.rows = store, request, request.rows
        self.kind = StepKind.of(request, window)
        settings = request.settings
        scalars = (settings.guidance_scale, settings.temperature, settings.top_p)
        self.scalars = Scalars(*(Tensor(value, ms.float32) for value in scalars))
        self.count = request.forced.shape[1]
        # By place in the grid: what goes on behind a part that was made is what was to come.
        firsts = np.zeros(len(request.seeds), int) if request.grid is None else request.grid.done
        streams = zip(request.seeds, request.streams, firsts)
        self.uniform = np.stack([uniforms(s, t, self.count, int(first)) for s, t, first in streams])
        self.prompt_slots = self.rows.slots
        known = request.grid is not None
        stored = store.model.lm_head.stored is not None
        slots = (self.prompt_slots, self.count, self.kind.spare)
        self.capacities = cache_slots(*slots, known, skips_unused(stored))
        form = cache_form(store.model.config, stored, self.kind.rows, self.capacities[-1])
        self.kind = replace(self.kind, cache=form)
        self.tokens = np.zeros((self.kind.sequences, 0), np.int32)
        self.current: CompiledStep | None = None
        self.prompted: Prefill | None = None
        self.store.refresh()

    def prefill(self) -> Iterator[tuple[int, int]]:
        """Run the prompts through the network; gives parts done and parts in all after each."""
        self.prompted = yield from prefill(self.store.model, self.rows, self.prompt_slots)

    def start(self) -> Tensor:
        """Prefill, if that is not done; returns the logits (N, V) of the first new token."""
        if self.prompted is None:
            for _ in self.prefill():
                pass
        done, self.prompted = self.prompted, None
        self._enter(self.capacities.pop(0))
        hidden, *cache = self.rows.copies((done.hidden, *done.cache))
        self._load(cache)
        return self.current.step.score(hidden, self.scalars.guidance)

    def choose(self, logits: Tensor) -> None:
        """Take the next token from logits (N, V)."""
        slot = number(self._slot_reached)
        self.token = self.current.step.choose(
            logits, slot, self.scalars.temperature, self.scalars.top_p
        )
        self._read()

    def next_logits(self) -> Tensor:
        """Run the last token: logits (N, V) of the next one."""
        self._make_room(self._slot_reached + 1)
        step = self.current
        return step.next_logits(self.token, number(self._slot_reached), self.scalars.guidance)

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
            step, self.current = self.current, None
            stays = self.store.give(step)
            del step  # before what it was compiled to is forgotten: else its memory stays
            if not stays:
                runtime.forget_compiled()

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
        """Fetch what the step has written: the next token, or all up to `count` tokens.

        written (S, N)   . . . . | t t t t t t T T T . .     rows are slots
                                 P         ^reached  ^P+count
        """
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
        """Take the step for a cache of `slots` slots and write its tables.

        padding (R, 1, W, S)   slots before a row's prompt are hidden: MASKED, then 0
        offset  (R, 1, 1)      position = slot - padding of the row
        forced, uniform (S, N) by slot, from the prompt's end on
        """
        self.kind = replace(self.kind, slots=slots)
        self.close()
        self.current = self.store.take(self.kind, self.request.jit)
        step = self.current.step
        padding = self.prompt_slots - self.rows.lengths
        hidden = np.arange(slots) < padding[:, None]
        bias = np.where(hidden, np.float32(MASKED), np.float32(0))[:, None, None]
        ops.assign(step.padding, Tensor(np.broadcast_to(bias, step.padding.shape).copy()))
        ops.assign(step.offset, Tensor(-padding.astype(np.int32).reshape(step.offset.shape)))
        self._write(step.forced, self.request.forced)
        self._write(step.uniform, self.uniform)
        if not self.kind.log_probs:
            self.current.compile(self._no_steps())

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
