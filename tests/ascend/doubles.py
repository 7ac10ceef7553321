"""Ascend's operators as their documents have them: each refuses what it must, then computes.

Plain operators throughout, so that graphs parse them. No card is here: a CPU has no bfloat16, so
another dtype stands for it, `sixteen`, and what a document allows for bfloat16 is asked of that.
Rows of attention that drop everything give NaN, as nothing is documented of them.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, mint, nn, ops
from mindspore.ops import auto_generate

from emu3 import runtime


class Rules:
    """What stands for bfloat16 and float16 in a test."""

    sixteen = (ms.float16,)


def require(allowed: bool, text: str) -> None:
    """Refuse a call that the document excludes."""
    if not allowed:
        raise TypeError(text)


@ops.constexpr(reuse_result=False)
def sixteen(dtype) -> bool:
    """Whether a dtype stands for one of 16 bits."""
    return dtype in Rules.sixteen


@ops.constexpr(reuse_result=False)
def numbers(count: int) -> Tensor:
    """0..count-1, int32."""
    return Tensor(np.arange(count, dtype=np.int32))


def rms_norm(x, gamma, epsilon=1e-6):
    """ops.rms_norm: x and gamma of one dtype; rank of gamma at most x's."""
    require(x.dtype == gamma.dtype, "rms_norm: x and gamma differ in dtype")
    wide = x.astype(ms.float32)
    rate = ops.rsqrt(ops.ReduceMean(True)(wide * wide, -1) + epsilon)
    return (wide * rate * gamma.astype(ms.float32)).astype(x.dtype), rate


def add_rms_norm(x1, x2, gamma, epsilon=1e-6):
    """ops.add_rms_norm: shapes and dtypes of x1 and x2 alike; returns norm, rate, sum."""
    require(x1.shape == x2.shape, "add_rms_norm: x1 and x2 differ in shape")
    require(x1.dtype == x2.dtype and x1.dtype == gamma.dtype, "add_rms_norm: dtypes differ")
    total = x1 + x2
    normed, rate = rms_norm(total, gamma, epsilon)
    return normed, rate, total


def swiglu(input, dim=-1):
    """ops.swiglu of an even last axis."""
    require(input.shape[-1] % 2 == 0, "swiglu: the axis is odd")
    gate, up = ops.split(input, input.shape[-1] // 2, -1)
    return ops.silu(gate) * up


def rotary_position_embedding(x, cos, sin, mode=0):
    """ops.rotary_position_embedding, layout BSND with cos and sin BS1D, halves paired."""
    require(x.ndim == 4 and mode == 0, "rotary: four axes, halves")
    b, s, n, d = x.shape
    require(cos.shape == (b, s, 1, d) and sin.shape == cos.shape, "rotary: cos is not BS1D")
    require(x.dtype == cos.dtype and x.dtype == sin.dtype, "rotary: dtypes differ")
    require(d < 896 and d % 2 == 0 and b < 1000 and n < 1000, "rotary: sizes")
    first, second = ops.split(x, d // 2, -1)
    return x * cos + ops.cat((-second, first), -1) * sin


def fused_infer_attention_score(
    query,
    key,
    value,
    *,
    atten_mask=None,
    num_heads=1,
    num_key_value_heads=0,
    scale=1.0,
    input_layout="BSH",
    inner_precise=1,
):
    """ops.fused_infer_attention_score, layout BSH, with a mask of all keys."""
    require(input_layout == "BSH", "fused_infer: another layout than this double's")
    require(sixteen(query.dtype), "fused_infer: float16 or bfloat16")
    require(query.dtype == key.dtype and query.dtype == value.dtype, "fused_infer: dtypes differ")
    b, t, h = query.shape
    s, d = key.shape[1], h // num_heads
    shared = num_heads // num_key_value_heads
    require(shared * num_key_value_heads == num_heads and shared <= 64, "fused_infer: heads")
    require(d % 16 == 0 and d <= 512 and num_heads <= 256, "fused_infer: head width")
    require(t > 1 or inner_precise in (0, 1), "fused_infer: inner_precise of one query")
    mask = atten_mask
    require(mask.dtype == ms.uint8 or mask.dtype == ms.bool_, "fused_infer: dtype of the mask")
    if t == 1:
        require(mask.shape in ((b, s), (b, 1, s), (b, 1, 1, s)), "fused_infer: mask of one query")
    else:
        require(mask.shape in ((t, s), (b, t, s), (b, 1, t, s)), "fused_infer: mask of queries")
    q = query.reshape((b, t, num_heads, d)).transpose((0, 2, 1, 3))
    k, v = (x.reshape((b, s, num_key_value_heads, d)).transpose((0, 2, 1, 3)) for x in (key, value))
    out = documented_attention(q, k, v, mask, scale)
    return out.transpose((0, 2, 1, 3)).reshape((b, t, h)), ops.zeros((1,), ms.float32)


def documented_attention(q, k, v, drop, scale):
    """q (B, N, T, D), k and v (B, G, S, D), drop with S and T behind -> (B, N, T, D)."""
    b, n, t, d = q.shape
    g, s = k.shape[1], k.shape[2]
    wide = (q.astype(ms.float32) * scale).reshape((b * g, -1, d))
    scores = ops.BatchMatMul(transpose_b=True)(wide, k.astype(ms.float32).reshape((b * g, s, d)))
    scores = scores.reshape((b, n, t, s))
    drop = drop.reshape((-1, 1, t, s)).astype(ms.float32)
    weights = ops.softmax(scores - drop * 1e30, -1)
    nothing = ops.ReduceMin(True)(drop, -1)  # 1 where a row drops everything
    poison = 0 * ops.log(0.5 - nothing)
    weights = (weights + poison).reshape((b * g, -1, s))
    out = ops.BatchMatMul()(weights, v.astype(ms.float32).reshape((b * g, s, d)))
    return out.reshape((b, n, t, d)).astype(q.dtype)


def flash_attention_score(
    query,
    key,
    value,
    head_num,
    drop_mask=None,
    attn_mask=None,
    keep_prob=1.0,
    scalar_value=1.0,
    input_layout="BSH",
):
    """ops.flash_attention_score, layout BNSD, without dropout."""
    require(drop_mask is None and keep_prob == 1.0, "flash: this double drops nothing")
    require(input_layout == "BNSD", "flash: another layout than this double's")
    require(sixteen(query.dtype), "flash: float16 or bfloat16")
    require(query.dtype == key.dtype and query.dtype == value.dtype, "flash: dtypes differ")
    b, n, t, d = query.shape
    s = key.shape[2]
    require(n == head_num and n % key.shape[1] == 0 and d % 16 == 0, "flash: heads")
    require(attn_mask.dtype == ms.uint8 or attn_mask.dtype == ms.bool_, "flash: dtype of the mask")
    require(attn_mask.shape in ((t, s), (b, 1, t, s), (b, n, t, s)), "flash: shape of the mask")
    return documented_attention(query, key, value, attn_mask, scalar_value)


def tensor_scatter_elements(input_x, indices, updates, axis=0, reduction="none"):
    """ops.tensor_scatter_elements: reduction "none" alone, float16 and float32 alone."""
    require(reduction == "none", "tensor_scatter_elements: only none for now")
    allowed = input_x.dtype == ms.float32 or input_x.dtype == ms.float16
    require(allowed, "tensor_scatter_elements: float16 or float32")
    return ops.TensorScatterElements(axis, reduction)(input_x, indices, updates)


class KVCacheScatterUpdate(nn.Cell):
    """var[i, :, indices[i] + k] = updates[i, :, k], in place; axis -2, reduce "update"."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.scatter_nd_update = ops.ScatterNdUpdate()

    def construct(self, var, indices, updates, axis, reduce):
        require(axis == -2 and reduce == "update", "kv_cache_scatter_update: axis or reduce")
        require(var.ndim == 4 and updates.ndim == 4, "kv_cache_scatter_update: four axes")
        require(var.dtype == updates.dtype, "kv_cache_scatter_update: dtypes differ")
        a, b, _, d = var.shape
        count = updates.shape[2]
        require(updates.shape == (a, b, count, d), "kv_cache_scatter_update: shape of updates")
        require(indices.shape == (a,), "kv_cache_scatter_update: an index for each row")
        require(indices.dtype == ms.int32 or indices.dtype == ms.int64, "kv_cache: indices")
        shape = (a, b, count, 1)
        row = ops.broadcast_to(numbers(a).reshape((a, 1, 1, 1)), shape)
        head = ops.broadcast_to(numbers(b).reshape((1, b, 1, 1)), shape)
        slot = indices.reshape((a, 1, 1, 1)) + numbers(count).reshape((1, 1, count, 1))
        places = ops.concat((row, head, ops.broadcast_to(slot, shape)), -1)
        return self.scatter_nd_update(var, places, updates)


class WeightQuantBatchMatmul(nn.Cell):
    """x (m, k) @ (weight (k, n) int8 * scales (k / group, n)), in x's dtype."""

    def __init__(self, transpose_x=False, transpose_weight=False, antiquant_group_size=0):
        super().__init__(auto_prefix=False)
        require(not transpose_x and not transpose_weight, "weight_quant: this double's is plain")
        self.group = antiquant_group_size

    def construct(self, x, weight, scale, offset, quant_scale, quant_offset, bias):
        (k, n), group = weight.shape, self.group
        require(sixteen(x.dtype) and scale.dtype == x.dtype, "weight_quant: float16 or bfloat16")
        require(weight.dtype == ms.int8 and x.shape[1] == k, "weight_quant: int8, as wide as x")
        require(max(k, n) <= 65535, "weight_quant: k and n at most 65535")
        require(group % 32 == 0 and 32 <= group < k, "weight_quant: group")
        require(scale.shape == (-(-k // group), n), "weight_quant: a scale for each group")
        values = weight.astype(ms.float32) * ops.repeat_elements(scale, group, 0)[:k]
        return ops.MatMul()(x.astype(ms.float32), values).astype(x.dtype)


def split(tensor, split_size_or_sections, dim=0):
    """mint.split with sizes."""
    parts, start = (), 0
    for size in split_size_or_sections:
        parts += (ops.narrow(tensor, dim, start, size),)
        start += size
    require(start == tensor.shape[dim], "split: sizes do not add up")
    return parts


def topk(input, k, dim=-1, largest=True, sorted=True):
    """mint.topk: indices are int64."""
    values, places = ops.TopK(sorted=True)(input, k)
    return values, places.astype(ms.int64)


def sort(input, *, dim=-1, descending=False, stable=False):
    """mint.sort of whole numbers below 2 ** 24: indices are int64."""
    require(input.dtype == ms.int32, "sort: this double is for int32")
    _, places = ops.TopK(sorted=True)(-input.astype(ms.float32), input.shape[-1])
    return ops.gather_d(input, 1, places), places.astype(ms.int64)


def cumsum(input, dim, dtype=None):
    """mint.cumsum."""
    return ops.CumSum()(input, dim)


def argmax(input, dim=None, keepdim=False):
    """mint.argmax: int64."""
    return ops.Argmax(-1, ms.int32)(input).astype(ms.int64)


def narrow(input, dim, start, length):
    """mint.narrow along the last axis."""
    return ops.narrow(input, dim, start, length)


OPERATORS = {
    ops: (
        rms_norm,
        add_rms_norm,
        swiglu,
        rotary_position_embedding,
        fused_infer_attention_score,
        flash_attention_score,
        tensor_scatter_elements,
    ),
    mint: (split, topk, sort, cumsum, argmax, narrow),
    auto_generate: (KVCacheScatterUpdate, WeightQuantBatchMatmul),
}


def install(monkeypatch, *stand_ins) -> None:
    """Take every Ascend arm from here on, with these doubles behind it."""
    monkeypatch.setattr(runtime, "device_target", lambda: "Ascend")
    monkeypatch.setattr(Rules, "sixteen", stand_ins)
    for module, doubles in OPERATORS.items():
        for double in doubles:
            monkeypatch.setattr(module, double.__name__, double)
