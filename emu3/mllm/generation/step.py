"""The decoding step: one new token for every row, on a cache of fixed shape, compiled.

Shapes: N sequences, R rows of the network (N, or 2N with guidance), S slots, C hidden width,
H query heads, G key/value heads, D head width, V candidates; W places of each row in one run of
the network, 1 here, more in `window`.

Everything that changes from step to step is an argument of fixed shape or a Parameter written in
place, so one compiled graph runs a whole block of steps with no word to the host.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from emu3.mllm.generation import ascend_step
from emu3.mllm.generation.sampling import Sampler, SamplerKind
from emu3.mllm.generation.step_weights import StepWeights
from emu3.mllm.rotary import rope_table_of_steps
from emu3.nn import ascend
from emu3.nn.attention import attend
from emu3.nn.forms import MOST_ROWS, NAMES, Matrices
from emu3.nn.masked import MASKED
from emu3.nn.parameters import table, zeros
from emu3.nn.step_kernels import fill_kernel, step_attention, step_layer
from emu3.tensorfile import from_bfloat16, to_bfloat16

if TYPE_CHECKING:
    from emu3.mllm.generation.request import Request
    from emu3.mllm.generation.schemes import Scheme


@dataclass(frozen=True)
class StepKind:
    """What a compiled step is compiled for; equal kinds share it."""

    rows: int
    sequences: int
    slots: int
    candidates: tuple[int, int]  # ids that may be sampled: first, last + 1
    sampler: SamplerKind
    scheme: "Scheme"
    window: int = 1  # places of each row that one run of the network takes
    cache: str = "float32"  # what keys and values are stored as on CPU
    log_probs: bool = False  # mix log-probabilities, as logits processors expect of guidance
    floor: float = 0.0  # `Settings.guidance_floor`

    @classmethod
    def of(cls, request: "Request", window: int) -> "StepKind":
        """What to compile for a request, slots apart."""
        settings = request.settings
        return cls(
            rows=len(request.rows.source),
            sequences=len(request.ids),
            slots=0,
            candidates=request.candidates,
            sampler=SamplerKind(
                greedy=not settings.do_sample,
                top_k=settings.top_k if settings.do_sample else 0,
                use_top_p=settings.do_sample and settings.top_p < 1,
            ),
            scheme=settings.scheme,
            window=window,
            log_probs=request.needs_host,
            floor=settings.guidance_floor,
        )

    @property
    def guided(self) -> bool:
        """Whether each sequence has an unconditional row besides its own."""
        return self.rows > self.sequences

    @property
    def spare(self) -> int:
        """Slots needed beyond the last token's."""
        return self.scheme.spare_slots(self.window)


class StepLayer(nn.Cell):
    """One decoder layer on the cache; its weights are the model's own Parameters or joined.

    `modeling_emu3.DecoderLayer` is the same layer for training and prompts, and
    `ascend_step.AscendLayer` on Ascend; tests hold them against each other.

    Primitives rather than tensor methods and slices: each of those costs parsing at compile time
    and a kernel more in every step.
    """

    def __init__(self, layer, weights: StepWeights, index: int, config, kind: StepKind) -> None:
        super().__init__(auto_prefix=False)
        self.rows, self.window, self.slots = kind.rows, kind.window, kind.slots
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.inner = config.head_dim, config.intermediate_size
        self.attention = layer.self_attn.attention
        self.input_norm, self.post_norm = layer.input_layernorm, layer.post_attention_layernorm
        # With stored weights what is between the products is a kernel, too, or the whole layer is.
        stored = layer.mlp.down_proj.stored is not None
        self.kernel = step_attention(kind.cache) if stored else None
        self.whole = None
        if self.kernel is not None and self.rows * self.window <= MOST_ROWS:
            self.whole = step_layer(NAMES[layer.mlp.down_proj.weight.dtype], kind.cache)
        self.parts = ParameterTuple(_parts(layer)) if stored else ()
        self.project = Matrices(weights.qkv[index], stored)
        self.widen = Matrices(weights.gate_up[index], stored)
        self.output = Matrices([layer.self_attn.o_proj.parts()], stored)
        self.down = Matrices([layer.mlp.down_proj.parts()], stored)
        shape = (self.rows * self.groups * self.slots, self.head_dim)
        name, dtype = f"cache.{index}", self.input_norm.weight.dtype
        if kind.cache != "float32":
            dtype = ms.uint16  # the bits of bfloat16, which MindSpore's Assign does not take
        self.keys = zeros(f"{name}.keys", shape, dtype)
        self.values = zeros(f"{name}.values", shape, dtype)
        half = np.arange(self.head_dim // 2, dtype=np.int32)
        self.swapped = Tensor(np.concatenate((half + len(half), half)))
        self.gather, self.scatter_update = ops.Gather(), ops.ScatterUpdate()
        self.slice, self.split = ops.Slice(), ops.Split(1, 2)

    def construct(self, x: Tensor, cos: Tensor, sin: Tensor, bias: Tensor, places: Tensor):
        """x (R*W, C), cos and sin (R*W, H+2G, D), bias (R, 1, W, S), places (R*W*G,) -> (R*W, C).

        cos and sin are `Geometry`'s: sin carries the sign of the turned half, and value heads have
        cos 1, sin 0, so that all heads turn at once. The kernels take one head's, (R*W, 1, D), and
        write the cache themselves.
        """
        if self.whole is not None:
            cache, norms = (self.keys, self.values), (self.input_norm, self.post_norm)
            eps = self.input_norm.eps_tensor
            weights = (norms[0].weight, norms[1].weight, eps, *self.parts)
            return self.whole(x, cos, sin, bias, places, *cache, *weights)
        heads = self.project(self.input_norm(x))
        if self.kernel is not None:
            x = x + self.output(self.kernel(heads, cos, sin, bias, places, self.keys, self.values))
            return self._mlp(x)
        heads = heads.reshape((-1, self.heads + 2 * self.groups, self.head_dim))
        heads = heads * cos + self.gather(heads, self.swapped, 2) * sin
        query, key, value = self._cut(heads)
        cache = (self.rows, self.groups, self.slots, self.head_dim)
        lines = self.rows * self.window
        flat = (lines * self.groups, self.head_dim)
        keys = self.scatter_update(self.keys, places, key.reshape(flat)).reshape(cache)
        values = self.scatter_update(self.values, places, value.reshape(flat)).reshape(cache)
        if self.window == 1:
            query = query.reshape((self.rows, self.heads, 1, self.head_dim))
        else:
            query = query.reshape((self.rows, self.window, self.heads, self.head_dim))
            query = query.transpose((0, 2, 1, 3))
        out = attend(query, keys, values, bias, self.attention)
        width = self.heads * self.head_dim
        return self._mlp(x + self.output(out.reshape((lines, width))))

    def _mlp(self, x: Tensor) -> Tensor:
        """x (R*W, C) -> (R*W, C)."""
        gate, up = self.split(self.widen(self.post_norm(x)))
        return x + self.down(ops.silu(gate) * up)

    def _cut(self, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(R*W, H+2G, D) -> query (R*W, H, D), key and value (R*W, G, D)."""
        lines = self.rows * self.window
        query = (lines, self.heads, self.head_dim)
        group = (lines, self.groups, self.head_dim)
        first, second = self.heads, self.heads + self.groups
        return (
            self.slice(heads, (0, 0, 0), query),
            self.slice(heads, (0, first, 0), group),
            self.slice(heads, (0, second, 0), group),
        )

    def load(self, keys: Tensor, values: Tensor) -> None:
        """Fill the first slots from keys and values (R, G, T, D), T <= S."""
        fill = fill_kernel()
        if fill is not None and {keys.dtype, self.keys.dtype} == {ms.float32}:
            fill(keys, values, self.keys, self.values)
            return
        for target, source in ((self.keys, keys), (self.values, values)):
            if target.dtype == ms.uint16:
                full = np.zeros((*source.shape[:2], self.slots, self.head_dim), np.uint16)
                full[:, :, : source.shape[2]] = to_bfloat16(source.asnumpy())
                ops.assign(target, Tensor(full.reshape(target.shape)))
                continue
            rest = (*source.shape[:2], self.slots - source.shape[2], self.head_dim)
            full = ops.concat((source, Tensor(np.zeros(rest, np.float32), source.dtype)), 2)
            ops.assign(target, full.reshape(target.shape).astype(target.dtype))

    def saved(self) -> tuple[Tensor, Tensor]:
        """Keys and values (R, G, S, D) as they stand."""
        shape = (self.rows, self.groups, self.slots, self.head_dim)
        if self.keys.dtype == ms.uint16:
            parts = (from_bfloat16(part.asnumpy()) for part in (self.keys, self.values))
            return tuple(Tensor(part.reshape(shape)) for part in parts)
        return self.keys.value().reshape(shape), self.values.value().reshape(shape)


def _parts(layer) -> list[Parameter]:
    """A layer's stored matrices as the kernel for all of it takes them, then their scales."""
    attention, mlp = layer.self_attn, layer.mlp
    linears = (
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    )
    return [part for kind in zip(*(linear.parts() for linear in linears)) for part in kind]


class Geometry(nn.Cell):
    """What the layers take of a run's slots and positions, the same for all of them."""

    def __init__(self, config, kind: StepKind, whole: bool) -> None:
        super().__init__(auto_prefix=False)
        self.whole = whole  # for all heads of a place, or for one
        cos, sin = rope_table_of_steps(config, min(kind.slots, config.most_positions))
        sin = sin * np.where(np.arange(config.head_dim) < config.head_dim // 2, -1, 1)
        self.cos, self.sin = table("step.cos", cos), table("step.sin", sin)
        counts = (
            config.num_attention_heads + config.num_key_value_heads,
            config.num_key_value_heads,
        )
        turning = np.repeat(np.array([1, 0], np.float32), counts).reshape(1, -1, 1)
        self.turning, self.still = Tensor(turning), Tensor(1 - turning)
        groups = kind.rows * config.num_key_value_heads
        first = np.arange(groups, dtype=np.int32) * kind.slots
        self.first_places = Tensor(first.reshape(kind.rows, 1, -1))
        self.gather = ops.Gather()

    def construct(self, positions: Tensor, slots: Tensor, bias: Tensor, x: Tensor):
        """positions (R*W, 1), slots (R or 1, W, 1), x (R*W, C) -> what `StepLayer` takes."""
        cos, sin = self.gather(self.cos, positions, 0), self.gather(self.sin, positions, 0)
        if self.whole:
            cos = (cos * self.turning + self.still).astype(x.dtype)
            sin = (sin * self.turning).astype(x.dtype)
        return cos, sin, bias, (self.first_places + slots).reshape((-1,))


class StepNetwork(nn.Cell):
    """The network around its layers, guidance and sampling: what every way of decoding shares."""

    def __init__(self, model, weights: StepWeights, kind: StepKind) -> None:
        super().__init__(auto_prefix=False)
        config = model.config
        self.kind = kind
        self.guided, self.first_id = kind.guided, kind.candidates[0]
        self.embedding, self.norm = model.model.embed_tokens, model.model.norm
        stored = model.lm_head.stored is not None
        self.head = Matrices([weights.head(*kind.candidates)], stored)
        self.fused = model.has_fused_step(model.model.norm.weight.dtype)
        self.eps = config.rms_norm_eps
        if self.fused:
            form, self.geometry = ascend_step.AscendLayer, ascend_step.AscendGeometry(config, kind)
        else:
            whole = not (stored and step_attention(kind.cache) is not None)
            form, self.geometry = StepLayer, Geometry(config, kind, whole)
        layers = [
            form(layer, weights, i, config, kind) for i, layer in enumerate(model.model.layers)
        ]
        self.layers = nn.CellList(layers, auto_prefix=False)
        self.last_position = min(kind.slots, config.most_positions) - 1
        self.sampler = Sampler(kind.sampler, kind.candidates[1] - kind.candidates[0])
        self.gather = ops.Gather()
        self.scatter_update, self.concat = ops.ScatterUpdate(), ops.Concat(0)
        self.split, self.select, self.minimum = ops.Split(0, 2), ops.Select(), ops.Minimum()
        self.log_probs, self.log_softmax = kind.log_probs, ops.LogSoftmax(-1)
        self.floor = float(np.log(kind.floor)) if kind.floor else None
        self.largest = ops.ReduceMax(keep_dims=True)
        numbers = np.arange(kind.slots, dtype=np.int32)
        self.slot_numbers = Tensor(np.tile(numbers, (kind.rows, 1, 1, 1)))
        seen = (kind.rows, 1, kind.window, kind.slots)
        self.masked = Tensor(np.full(seen, MASKED, np.float32))
        # Written by the decoder for each generation, by slot where it makes sense.
        self.offset = zeros("step.offset", (kind.rows, 1, 1), ms.int32)
        self.padding = zeros("step.padding", seen, ms.float32)
        by_slot = (kind.slots, kind.sequences)
        self.forced = zeros("step.forced", by_slot, ms.int32)
        self.uniform = zeros("step.uniform", by_slot, ms.float32)
        self.tokens = zeros("step.tokens", by_slot, ms.int32)

    @property
    def cache_bytes(self) -> int:
        """Memory of keys and values."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    def run(self, token: Tensor, slots: Tensor, bias: Tensor, guidance: Tensor) -> Tensor:
        """Run token (N*W,) at slots (R*W,), or (1,) for all: guided logits (N*W, V) float32.

        Keys and values go into the cache; bias (R, 1, W, S) says which slots each place sees.
        """
        ids = self.concat((token, token)) if self.guided else token
        x = self.embedding(ids)
        slots = slots.reshape((-1, self.kind.window, 1))
        positions = (self.offset + slots).reshape((-1, 1))
        if self.kind.spare:  # spare slots may lie beyond the last position
            positions = self.minimum(positions, self.last_position)
        cos, sin, seen, places = self.geometry(positions, slots, bias, x)
        for layer in self.layers:
            x = layer(x, cos, sin, seen, places)
        x = ascend.rms_norm(x, self.norm.weight, self.eps) if self.fused else self.norm(x)
        return self.score(x, guidance)

    def score(self, hidden: Tensor, guidance: Tensor) -> Tensor:
        """Normed hidden (R*W, C) -> guided logits (N*W, V) float32.

        With a floor, what the prompt alone makes unlikely is out, however much likelier guidance
        would make it: the plausibility constraint of contrastive decoding (Li et al., 2022).
        """
        logits = self.head(hidden).astype(ms.float32)
        if self.guided:
            logits = self.log_softmax(logits) if self.log_probs else logits
            wanted, unwanted = self.split(logits)
            logits = unwanted + guidance * (wanted - unwanted)
            if self.floor is not None:
                unlikely = wanted < self.largest(wanted, -1) + self.floor
                logits = logits + unlikely.astype(ms.float32) * MASKED
        return logits

    def choose(self, logits: Tensor, slot: Tensor, temperature: Tensor, top_p: Tensor) -> Tensor:
        """Forced or sampled token (N,) for the slot after `slot`, written down and returned."""
        following = slot + 1
        uniform = self.gather(self.uniform, following, 0).reshape((-1,))
        forced = self.gather(self.forced, following, 0).reshape((-1,))
        sampled = self.sampler(logits, uniform, temperature, top_p) + self.first_id
        token = self.select(forced < 0, sampled, forced)
        self.scatter_update(self.tokens, following, token.reshape((1, -1)))
        return token


class Step(StepNetwork):
    """Plain decoding: one token of each sequence after the other, a block at a time."""

    def construct(self, token, slot, end, guidance, temperature, top_p):
        """Steps from `slot` to `end`, (1,) each; token (N,) stands at `slot`. -> token at `end`."""
        while slot < end:
            token, slot = self.once(token, slot, guidance, temperature, top_p)
        return token

    def once(self, token, slot, guidance, temperature, top_p):
        """One step from token (N,) at slot (1,): the next token and its slot."""
        token = self.choose(self.logits(token, slot, guidance), slot, temperature, top_p)
        return token, slot + 1

    def one_by_one(self, once, token, slot, end, *scalars):
        """As `construct`, the loop in Python: token and slot stay on the device."""
        for _ in range(int(end) - int(slot)):
            token, slot = once(token, slot, *scalars)
        return token

    def logits(self, token: Tensor, slot: Tensor, guidance: Tensor) -> Tensor:
        """Run token (N,) at slot (1,): guided logits (N, V) float32 for the slot after it."""
        bias = self.select(self.slot_numbers <= slot, self.padding, self.masked)
        return self.run(token, slot, bias, guidance)
