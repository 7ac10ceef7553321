"""Rotary positions and grouped-query attention, with one arm per device side by side.

Shapes: B batch, T new tokens, S tokens in all (cached and new), H query heads, G key/value heads,
D head width.
"""

import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

# Added to dropped scores. Finite, so that a row which drops everything stays free of NaN.
MASKED = float(np.finfo(np.float32).min) / 2


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (B, H, T, D) by cos, sin (B or 1, 1, T, D), halves of D paired."""
    first, second = ops.split(x, x.shape[-1] // 2, -1)
    return x * cos + ops.cat((-second, first), -1) * sin


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, attention: str, dropout: float = 0.0
) -> Tensor:
    """Grouped-query attention, scores and softmax in float32.

    query (B, H, T, D), key and value (B, G, S, D), bias (B or 1, 1, T, S) float32, added ->
    (B, T, H * D). The fused arm has not been run: it needs an Ascend device; its `dropout` needs
    S to be a multiple of 8, and is left out otherwise.
    """
    b, h, t, d = query.shape
    g, s = key.shape[1], key.shape[2]
    if attention == "flash_attention_2":
        wide = query.dtype == ms.float32  # the fused operator has 16-bit kernels only
        q, k, v = (x.astype(ms.bfloat16) if wide else x for x in (query, key, value))
        drop = (bias < MASKED / 2).astype(ms.uint8)
        drop = drop.reshape((t, s)) if bias.shape[0] == 1 else drop
        out = _fused(q, k, v, drop, dropout if s % 8 == 0 else 0.0).astype(query.dtype)
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


def _fused(q: Tensor, k: Tensor, v: Tensor, drop: Tensor, dropout: float) -> Tensor:
    """Ascend's attention: q (B, H, T, D), k and v (B, G, S, D), drop (.., T, S) uint8, 1 = drop."""
    kept = None
    if dropout > 0:
        shape = (*q.shape[:3], k.shape[2])
        bits = ops.DropoutGenMask()(shape, Tensor(1 - dropout, q.dtype))
        kept = bits[: math.prod(shape) // 8].reshape((*shape[:3], shape[3] // 8))
    return ops.flash_attention_score(
        q,
        k,
        v,
        q.shape[1],
        drop_mask=kept,
        attn_mask=drop,
        keep_prob=1.0 - dropout,
        scalar_value=q.shape[3] ** -0.5,
        input_layout="BNSD",
    )
