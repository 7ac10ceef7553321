"""Ascend's fused operators as this project calls them, one function each.

Documented and checked against doubles (tests/ascend), not run on a card; docs/ascend.md lists the
document of each. All but `swiglu` want 16 bits here. Graphs parse these functions.

Shapes: R rows, W places of each, H query heads, G key/value heads, N either, S slots, D head width.
"""

import mindspore as ms
from mindspore import Tensor, mint, nn, ops
from mindspore.ops import auto_generate

from emu3 import runtime

# A window's rows always see themselves, so no row needs correcting; the bit is for float16.
HIGH_PRECISION = 0
MOST_SHARED = 64  # query heads that a key head may serve
WIDEST = 65535  # rows and columns of a matrix of 8 bits


def fits(dtype: ms.Type, attention: str, heads: int, groups: int, width: int) -> bool:
    """Whether steps may be made of these operators: on Ascend, within what they are documented
    for. Other networks take the CPU's step there."""
    return (
        runtime.on_ascend()
        and dtype in (ms.bfloat16, ms.float16)
        and attention == "flash_attention_2"
        and width % 16 == 0
        and heads <= MOST_SHARED * groups
    )


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x (..., C), weight (C,) of x's dtype -> (..., C); statistics are float32 inside."""
    return ops.rms_norm(x, weight, eps)[0]


def add_rms_norm(x: Tensor, y: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x and y (..., C) of one dtype -> the norm of their sum, and the sum."""
    normed, _, total = ops.add_rms_norm(x, y, weight, eps)
    return normed, total


def swiglu(x: Tensor) -> Tensor:
    """x (..., 2 * C), gate before up -> silu(gate) * up (..., C)."""
    return ops.swiglu(x, -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (R, W, N, D) by cos and sin (R, W, 1, D) of its dtype, halves of D paired.

    Their BSND and BS1D layouts: with heads before places (BNSD) short rows are excluded.
    """
    return ops.rotary_position_embedding(x, cos, sin, 0)


def split(x: Tensor, sizes: tuple[int, ...], axis: int) -> tuple[Tensor, ...]:
    """x in pieces of `sizes` along `axis`, by one kernel."""
    return mint.split(x, sizes, axis)


def attend(
    query: Tensor, keys: Tensor, values: Tensor, drop: Tensor, heads: int, groups: int
) -> Tensor:
    """Attention on a cache, without gradient: query (R, W, H*D) -> the same shape.

    keys and values (R, S, G*D); drop uint8, 1 = drop, (R, 1, W, S), or (W, S) where R = 1. In this
    layout, BSH, nothing is transposed on the way in or out.
    """
    out, _ = ops.fused_infer_attention_score(
        query,
        keys,
        values,
        atten_mask=drop,
        num_heads=heads,
        num_key_value_heads=groups,
        scale=(query.shape[2] // heads) ** -0.5,
        input_layout="BSH",
        inner_precise=HIGH_PRECISION,
    )
    return out


class CacheWrite(nn.Cell):
    """Write new keys or values into a cache, in place."""

    def __init__(self, consecutive: bool) -> None:
        super().__init__(auto_prefix=False)
        self.consecutive = consecutive
        self.kv_cache_scatter_update = auto_generate.KVCacheScatterUpdate()
        self.scatter_nd_update = ops.ScatterNdUpdate()

    def construct(self, cache: Tensor, places: Tensor, new: Tensor) -> Tensor:
        """cache (R, 1, S, G*D), new (R, 1, W, G*D) -> the cache.

        `places` are the slot (R,) of each row's first place, where the others follow on it, or
        the indices (R, 1, W, 3) of all.
        """
        if self.consecutive:
            return self.kv_cache_scatter_update(cache, places, new, -2, "update")
        return self.scatter_nd_update(cache, places, new)


class Int8Product(nn.Cell):
    """x (R, K) times a matrix of 8 bits -> (R, N) in x's dtype.

    weight (K, N) int8, scales (K / group, N) of x's dtype: weight[k, n] * scales[k // group, n];
    K and N at most WIDEST, group a multiple of 32 below K. Not transposed, as CANN recommends.
    """

    def __init__(self, group: int) -> None:
        super().__init__(auto_prefix=False)
        self.weight_quant_batch_matmul = auto_generate.WeightQuantBatchMatmul(False, False, group)

    def construct(self, x: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
        return self.weight_quant_batch_matmul(x, weight, scales, None, None, None, None)


def top_k(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest `count` of x (N, V) float32, falling, and their places, int32."""
    values, places = mint.topk(x, count)
    return values, places.astype(ms.int32)


def rising(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Each row of numbers (N, K) int32 sorted, and where its elements stood, int64."""
    return mint.sort(numbers, dim=-1)


def cumsum(x: Tensor) -> Tensor:
    """Running sums of x (N, V) float32 along its rows."""
    return mint.cumsum(x, -1)


def argmax(x: Tensor) -> Tensor:
    """The first largest of each row of x (N, V): (N,) int32."""
    return mint.argmax(x, -1).astype(ms.int32)


def last(x: Tensor) -> Tensor:
    """The last column of x (N, V): (N, 1)."""
    return mint.narrow(x, 1, x.shape[1] - 1, 1)
