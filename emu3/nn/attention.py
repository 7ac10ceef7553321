"""Rotary positions and grouped-query attention, with one arm per device side by side.

Shapes: B batch, T new tokens, S tokens in all (cached and new), H query heads, G key/value heads,
D head width.
"""

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


def dropped(bias: Tensor) -> Tensor:
    """What Ascend's attention wants of bias (B or 1, 1, T, S): uint8, 1 = drop, (B, 1, T, S) or
    (T, S)."""
    drop = (bias < MASKED / 2).astype(ms.uint8)
    return drop.reshape(drop.shape[2:]) if drop.shape[0] == 1 else drop
