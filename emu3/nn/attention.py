"""Rotary positions and grouped-query attention, with one arm per device side by side.

Shapes: B batch, T new tokens, S tokens in all (cached and new), H query heads, G key/value heads,
D head width.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops

from emu3.nn.kernels.operators import drop_settings, on_cpu, operator
from emu3.nn.masked import dropped


class Rotary(nn.Cell):
    """Rows x (B, T, H * D), cos and sin (B or 1, T, D) -> rotated heads (B, H, T, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = rotary_kernel()

    def construct(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if self.kernel is None or x.dtype != ms.float32:
            return rotate(heads(x, cos.shape[-1]), cos.expand_dims(1), sin.expand_dims(1))
        return self.kernel(x, cos, sin)


class Heads(nn.Cell):
    """`heads` of x (B, T, H * D), D as in cos (B or 1, T, D): MindSpore's transposes of them
    take longer than the attention."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = heads_kernel()

    def construct(self, x: Tensor, cos: Tensor) -> Tensor:
        if self.kernel is None or x.dtype != ms.float32:
            return heads(x, cos.shape[-1])
        return self.kernel(x, cos)


class Attend(nn.Cell):
    """`attend`, for many rows at a time, by a kernel of ours where there is one.

    In training a share `dropout` of the weights is dropped.
    """

    def __init__(self, attention: str, dropout: float) -> None:
        super().__init__()
        self.attention, self.dropout = attention, dropout
        self.kernel = attention_kernel() if attention == "eager" else None
        self.dropping = dropped_attention_kernel() if self.kernel and dropout > 0 else None
        self.settings = drop_settings(dropout)

    def construct(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """As `attend`; the kernel gives 0 where a row sees nothing."""
        dropout = self.dropout if self.training else 0.0
        if self.kernel is None or query.dtype != ms.float32:
            return attend(query, key, value, bias, self.attention, dropout)
        if dropout > 0:
            return self.dropping(query, key, value, bias, self.settings)[0]
        return self.kernel(query, key, value, bias)


def heads(x: Tensor, head_dim: int) -> Tensor:
    """(B, T, H * D) -> (B, H, T, D)."""
    b, t, width = x.shape
    return x.reshape((b, t, width // head_dim, head_dim)).transpose((0, 2, 1, 3))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (B, H, T, D) by cos, sin (B or 1, 1, T, D), halves of D paired."""
    first, second = ops.split(x, x.shape[-1] // 2, -1)
    return x * cos + ops.cat((-second, first), -1) * sin


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, attention: str, dropout: float = 0.0
) -> Tensor:
    """Grouped-query attention, scores and softmax in float32.

    query (B, H, T, D), key and value (B, G, S, D), bias (B or 1, 1, T, S) float32, added ->
    (B, T, H * D). `dropout` is the share of weights that the eager arm drops. The fused arm is
    Ascend's and has not been run on a card; it drops none, since the mask would have to be made
    anew wherever layers are recomputed. It takes 16 bits: float32 goes the eager way.
    """
    b, h, t, d = query.shape
    g, s = key.shape[1], key.shape[2]
    if attention == "flash_attention_2" and query.dtype != ms.float32:
        out = ops.flash_attention_score(
            query,
            key,
            value,
            h,
            attn_mask=dropped(bias),
            scalar_value=d**-0.5,
            input_layout="BNSD",
        )
    else:
        # Each key head serves h / g consecutive query heads: fold those into the rows.
        q = (query * d**-0.5).reshape((b * g, -1, d))
        scores = ops.BatchMatMul(transpose_b=True)(q, key.reshape((b * g, s, d)))
        scores = scores.reshape((b, h, t, s)).astype(ms.float32) + bias
        weights = ops.softmax(scores, -1).astype(value.dtype)
        if dropout > 0:
            weights = ops.dropout(weights, dropout)
        out = ops.BatchMatMul()(weights.reshape((b * g, -1, s)), value.reshape((b * g, s, d)))
    return out.reshape((b, h, t, d)).transpose((0, 2, 1, 3)).reshape((b, t, h * d))


@on_cpu
def rotary_kernel() -> ops.Custom | None:
    """Ours for float32 on CPU, where it can be compiled."""
    back = operator("rotary_grad", lambda d, *_: (d[0], d[2], d[1] * d[3]), lambda slope, *_: slope)

    def bprop(x, cos, sin, out, dout):
        return back(dout, cos, sin), ops.zeros_like(cos), ops.zeros_like(sin)

    return operator("rotary", _by_heads, lambda x, *_: x, bprop)


@on_cpu
def heads_kernel() -> ops.Custom | None:
    """The same without turning."""
    back = operator("heads_grad", lambda d: (d[0], d[2], d[1] * d[3]), lambda slope: slope)

    def bprop(x, cos, out, dout):
        return back(dout), ops.zeros_like(cos)

    return operator("heads", _by_heads, lambda x, _: x, bprop)


def _by_heads(x: tuple[int, ...], cos: tuple[int, ...], *_: object) -> tuple[int, ...]:
    """Shape (B, H, T, D) of x (B, T, H * D) for cos (..., D)."""
    return x[0], x[2] // cos[-1], x[1], cos[-1]


@on_cpu
def attention_kernel() -> ops.Custom | None:
    """Ours for float32 on CPU, where it can be compiled."""
    back = operator("attention_grad", lambda q, k, v, *_: (q, k, v), lambda q, k, v, *_: (q, k, v))

    def bprop(query, key, value, bias, out, dout):
        by_query, by_key, by_value = back(query, key, value, bias, dout)
        return by_query, by_key, by_value, ops.zeros_like(bias)

    return operator("attention", lambda q, *_: (q[0], q[2], q[1] * q[3]), lambda q, *_: q, bprop)


@on_cpu
def dropped_attention_kernel() -> ops.Custom | None:
    """The same that drops weights; gives the seed, too."""
    back = operator(
        "dropped_attention_grad", lambda q, k, v, *_: (q, k, v), lambda q, k, v, *_: (q, k, v)
    )

    def bprop(query, key, value, bias, settings, out, dout):
        by_query, by_key, by_value = back(query, key, value, bias, settings, out[1], dout[0])
        return by_query, by_key, by_value, ops.zeros_like(bias), ops.zeros_like(settings)

    def shapes(q, k, v, bias, settings):
        return (q[0], q[2], q[1] * q[3]), settings[:1]

    return operator("dropped_attention", shapes, lambda q, k, v, b, s: (q, s), bprop)
