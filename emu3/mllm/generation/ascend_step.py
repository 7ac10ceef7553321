"""The decoding step's layer on Ascend, of fused operators: what `step.StepLayer` is on CPU.

Documented and checked against doubles, not run on a card. Kernels are launched one by one there,
so their number counts: 14 a layer where weights are joined, 17 where they are not.

Shapes as in `step`: R rows, W places of each in a run, S slots, C hidden width, H query heads,
G key/value heads, D head width.
"""

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from emu3.configfields import GROUP
from emu3.mllm.generation.step_weights import StepWeights
from emu3.mllm.rotary import rope_table_of_steps
from emu3.nn import ascend
from emu3.nn.masked import dropped
from emu3.nn.parameters import table, zeros


class AscendGeometry(nn.Cell):
    """What the layers take of a run's slots and positions; `step.Geometry` is the CPU's."""

    def __init__(self, config, kind) -> None:
        super().__init__(auto_prefix=False)
        self.window, self.consecutive = kind.window, kind.scheme.consecutive
        self.shape = (kind.rows, kind.window, 1, config.head_dim)
        cos, sin = rope_table_of_steps(config, min(kind.slots, config.most_positions))
        self.cos, self.sin = table("step.cos", cos), table("step.sin", sin)
        self.gather, self.slice, self.concat = ops.Gather(), ops.Slice(), ops.Concat(-1)
        self.rows = Tensor(np.zeros(kind.rows, np.int32))
        row = np.arange(kind.rows, dtype=np.int32).reshape(-1, 1, 1, 1)
        corners = np.concatenate((row, np.zeros_like(row)), -1)
        self.corners = Tensor(np.tile(corners, (1, 1, kind.window, 1)))

    def construct(self, positions: Tensor, slots: Tensor, bias: Tensor, x: Tensor):
        """positions (R*W, 1), slots (R or 1, W, 1), bias (R, 1, W, S) float32, x (R*W, C).

        Returns cos and sin (R, W, 1, D) in x's dtype, which slots are dropped, (R, 1, W, S) or
        (W, S) uint8, and where new keys go, as `ascend.CacheWrite` takes it.
        """
        positions = positions.reshape((-1,))
        cos = self.gather(self.cos, positions, 0).astype(x.dtype).reshape(self.shape)
        sin = self.gather(self.sin, positions, 0).astype(x.dtype).reshape(self.shape)
        return cos, sin, dropped(bias), self._places(slots)

    def _places(self, slots: Tensor) -> Tensor:
        if not self.consecutive:
            return self.concat((self.corners, slots.reshape((-1, 1, self.window, 1))))
        if self.window > 1:
            slots = self.slice(slots, (0, 0, 0), (slots.shape[0], 1, 1))
        return self.rows + slots.reshape((-1,))


class Times(nn.Cell):
    """x (M, K) -> its product with a matrix (M, N): of (N, K) in x's dtype, or of 8 bits."""

    def __init__(self, parts: tuple[Parameter, ...]) -> None:
        super().__init__(auto_prefix=False)
        self.weight, self.scale = parts if len(parts) > 1 else (*parts, None)
        self.matmul = ops.MatMul(False, True)
        self.int8_product = None if self.scale is None else ascend.Int8Product(GROUP)

    def construct(self, x: Tensor) -> Tensor:
        if self.int8_product is None:
            return self.matmul(x, self.weight)
        return self.int8_product(x, self.weight, self.scale)


class AscendLayer(nn.Cell):
    """One decoder layer on the cache; its weights are the model's own Parameters or joined.

    `modeling_emu3.DecoderLayer` is the same layer for training and prompts.
    """

    def __init__(self, layer, weights: StepWeights, index: int, config, kind) -> None:
        super().__init__(auto_prefix=False)
        self.rows, self.window, self.slots = kind.rows, kind.window, kind.slots
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.eps = config.head_dim, config.rms_norm_eps
        self.fused = weights.fused
        attention, mlp = layer.self_attn, layer.mlp
        self.input_norm = layer.input_layernorm.weight
        self.post_norm = layer.post_attention_layernorm.weight
        if self.fused:
            self.qkv, self.gate_up = Times(*weights.qkv[index]), Times(*weights.gate_up[index])
        else:
            self.query, self.key, self.value = (Times(parts) for parts in weights.qkv[index])
            self.gate, self.up = (Times(parts) for parts in weights.gate_up[index])
        self.output, self.down = Times(attention.o_proj.parts()), Times(mlp.down_proj.parts())
        shape = (self.rows, 1, self.slots, self.groups * self.head_dim)
        name, dtype = f"cache.{index}", self.input_norm.dtype
        self.keys = zeros(f"{name}.keys", shape, dtype)
        self.values = zeros(f"{name}.values", shape, dtype)
        self.cache_write = ascend.CacheWrite(kind.scheme.consecutive)

    def construct(self, x: Tensor, cos: Tensor, sin: Tensor, drop: Tensor, places: Tensor):
        """x (R*W, C), the rest as `AscendGeometry` gives it -> (R*W, C)."""
        query, key, value = self._project(ascend.rms_norm(x, self.input_norm, self.eps), cos, sin)
        keys = self._write(self.keys, places, key)
        values = self._write(self.values, places, value)
        query = query.reshape((self.rows, self.window, -1))
        out = ascend.attend(query, keys, values, drop, self.heads, self.groups)
        out = self.output(out.reshape((-1, self.heads * self.head_dim)))
        normed, x = ascend.add_rms_norm(x, out, self.post_norm, self.eps)
        return x + self.down(self._widen(normed))

    def _project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (R*W, C) -> query (R, W, H, D) and key (R, W, G, D), turned, and value (R*W, G*D)."""
        heads, groups, width = self.heads, self.groups, self.head_dim
        if self.fused:
            sizes = ((heads + groups) * width, groups * width)
            both, value = ascend.split(self.qkv(x), sizes, 1)
            both = ascend.rotate(self._as_heads(both, heads + groups), cos, sin)
            query, key = ascend.split(both, (heads, groups), 2)
        else:
            query = self._as_heads(self.query(x), heads)
            key = self._as_heads(self.key(x), groups)
            query, key = ascend.rotate(query, cos, sin), ascend.rotate(key, cos, sin)
            value = self.value(x)
        return query, key, value

    def _as_heads(self, x: Tensor, count: int) -> Tensor:
        return x.reshape((self.rows, self.window, count, self.head_dim))

    def _write(self, cache: Tensor, places: Tensor, new: Tensor) -> Tensor:
        """Keys or values of the places, in any shape, into a cache -> (R, S, G*D)."""
        width = self.groups * self.head_dim
        new = new.reshape((self.rows, 1, self.window, width))
        return self.cache_write(cache, places, new).reshape((self.rows, self.slots, width))

    def _widen(self, x: Tensor) -> Tensor:
        """x (R*W, C) -> silu(gate) * up (R*W, inner)."""
        if self.fused:
            return ascend.swiglu(self.gate_up(x))
        return ops.silu(self.gate(x)) * self.up(x)

    def load(self, keys: Tensor, values: Tensor) -> None:
        """Fill the first slots from keys and values (R, G, T, D), T <= S."""
        for target, source in ((self.keys, keys), (self.values, values)):
            rest = (*source.shape[:2], self.slots - source.shape[2], self.head_dim)
            full = ops.concat((source, Tensor(np.zeros(rest, np.float32), source.dtype)), 2)
            full = full.transpose((0, 2, 1, 3)).reshape(target.shape)
            ops.assign(target, full.astype(target.dtype))

    def saved(self) -> tuple[Tensor, Tensor]:
        """Keys and values (R, G, S, D) as they stand."""
        return self._saved(self.keys), self._saved(self.values)

    def _saved(self, cache) -> Tensor:
        shape = (self.rows, self.slots, self.groups, self.head_dim)
        return cache.value().reshape(shape).transpose((0, 2, 1, 3))
