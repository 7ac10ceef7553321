"""Each operator that Ascend's arms are made of, against float64 on the host.

Inputs are rounded to the dtype first, so that what differs is the operator's own. Where there is
no card most of these have no kernel, and the check says so.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor

from emu3.arrays import as_numpy
from emu3.nn import ascend
from emu3.nn.attention import attend
from emu3.nn.conv import CausalConv3d, repeat_pixels
from emu3.nn.forms import GROUP, quantised
from emu3.nn.masked import MASKED
from emu3.tokenizer.layers import PlainNorm

ROWS, WINDOW, HEADS, GROUPS, SLOTS, WIDTH = 2, 4, 8, 2, 256, 64
EPS = 1e-5
# Largest error of a result, relative to its norm. bfloat16 keeps 8 bits: 2 ** -9 a rounding.
LIMITS = {ms.float32: 1e-5, ms.float16: 2e-3, ms.bfloat16: 1.2e-2}


@dataclass(frozen=True)
class Finding:
    """What one check gave: its error against its limit, or why there is none."""

    what: str
    error: float | None = None
    limit: float = 0.0
    seconds: float = 0.0
    note: str = ""

    @property
    def verdict(self) -> str:
        """ "ok", "WRONG", or "failed" where the operator itself raised."""
        if self.error is None:
            return "failed"
        return "ok" if self.error <= self.limit else "WRONG"


def distance(got, wanted: np.ndarray) -> float:
    """norm(got - wanted) / norm(wanted); infinite where got holds no numbers."""
    got = np.asarray(as_numpy(got), np.float64)
    gap = np.linalg.norm(got - wanted) / max(np.linalg.norm(wanted), 1e-30)
    return float(gap) if np.isfinite(gap) else float("inf")


class Inputs:
    """Random numbers of a dtype: as a tensor, and in float64 as it holds them."""

    def __init__(self, dtype: ms.Type) -> None:
        self.dtype, self.rng = dtype, np.random.default_rng(0)

    def __call__(self, *shape: int, low: float = -1.0) -> tuple[Tensor, np.ndarray]:
        values = self.rng.uniform(low, 1, shape).astype(np.float32)
        tensor = Tensor(values).astype(self.dtype)
        return tensor, as_numpy(tensor).astype(np.float64)


Check = Callable[[Inputs], Iterator[tuple[object, np.ndarray]]]


def _norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weight


def rms_norm(inputs: Inputs) -> Iterator:
    (x, x64), (weight, weight64) = inputs(ROWS, 512), inputs(512)
    yield ascend.rms_norm(x, weight, EPS), _norm(x64, weight64)


def add_rms_norm(inputs: Inputs) -> Iterator:
    (x, x64), (y, y64), (weight, weight64) = inputs(ROWS, 512), inputs(ROWS, 512), inputs(512)
    normed, total = ascend.add_rms_norm(x, y, weight, EPS)
    yield normed, _norm(x64 + y64, weight64)
    yield total, x64 + y64


def swiglu(inputs: Inputs) -> Iterator:
    x, x64 = inputs(ROWS, 1024)
    gate, up = np.split(x64, 2, -1)
    yield ascend.swiglu(x), gate / (1 + np.exp(-gate)) * up


def rotary(inputs: Inputs) -> Iterator:
    for window in (1, WINDOW):
        x, x64 = inputs(ROWS, window, HEADS, WIDTH)
        (cos, cos64), (sin, sin64) = (inputs(ROWS, window, 1, WIDTH) for _ in range(2))
        first, second = np.split(x64, 2, -1)
        turned = np.concatenate((-second, first), -1)
        yield ascend.rotate(x, cos, sin), x64 * cos64 + turned * sin64


def split(inputs: Inputs) -> Iterator:
    x, x64 = inputs(ROWS, 1024)
    yield from zip(ascend.split(x, (768, 256), 1), (x64[:, :768], x64[:, 768:]))


def _attended(q, k, v, drop) -> np.ndarray:
    """q (R, H, T, D), k and v (R, G, S, D), drop (.., T, S) in float64."""
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5 - drop * 1e30
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def _drop(rng: np.random.Generator, window: int) -> np.ndarray:
    """Which slots each place of each row does not see: (R, 1, W, S), never all of them."""
    drop = rng.random((ROWS, 1, window, SLOTS)) < 0.5
    drop[..., 7] = False
    return drop


def fused_infer_attention(inputs: Inputs) -> Iterator:
    for window in (1, WINDOW):
        query, query64 = inputs(ROWS, window, HEADS * WIDTH)
        (keys, keys64), (values, values64) = (inputs(ROWS, SLOTS, GROUPS * WIDTH) for _ in "kv")
        drop = _drop(inputs.rng, window)
        parts = (query64, HEADS), (keys64, GROUPS), (values64, GROUPS)
        q, k, v = (x.reshape(ROWS, -1, n, WIDTH).transpose(0, 2, 1, 3) for x, n in parts)
        wanted = _attended(q, k, v, drop).transpose(0, 2, 1, 3).reshape(query64.shape)
        mask = Tensor(drop.astype(np.uint8))
        yield ascend.attend(query, keys, values, mask, HEADS, GROUPS), wanted


def int8_product(inputs: Inputs) -> Iterator:
    x, x64 = inputs(ROWS, 512)
    weight, scales = quantised(inputs.rng.standard_normal((256, 512)).astype(np.float32))
    scales = Tensor(scales.T.copy()).astype(inputs.dtype)
    exact = weight.T * as_numpy(scales).astype(np.float64).repeat(GROUP, 0)
    product = ascend.Int8Product(GROUP)
    yield product(x, Tensor(weight.T.copy()), scales), x64 @ exact


def flash_attention(inputs: Inputs) -> Iterator:
    query, q = inputs(ROWS, HEADS, 128, WIDTH)
    (key, k), (value, v) = (inputs(ROWS, GROUPS, 128, WIDTH) for _ in "kv")
    drop = np.triu(np.ones((128, 128), bool), 1)
    bias = Tensor(np.where(drop, np.float32(MASKED), np.float32(0))[None, None])
    wanted = _attended(q, k, v, drop).transpose(0, 2, 1, 3).reshape(ROWS, 128, -1)
    yield attend(query, key, value, bias, "flash_attention_2"), wanted


def cache_write(inputs: Inputs) -> Iterator:
    width = GROUPS * WIDTH
    for consecutive in (True, False):
        (old, old64), (new, new64) = inputs(ROWS, 1, SLOTS, width), inputs(ROWS, 1, WINDOW, width)
        cache = Parameter(old, name=f"cache.{consecutive}", requires_grad=False)
        first = np.array([5, 9], np.int32)
        slots = first[:, None] + np.arange(WINDOW, dtype=np.int32)
        rows = np.broadcast_to(np.arange(ROWS, dtype=np.int32)[:, None], slots.shape)
        places = np.stack((rows, np.zeros_like(slots), slots), -1)[:, None]
        old64[np.arange(ROWS)[:, None], 0, slots] = new64[:, 0]
        write = ascend.CacheWrite(consecutive)
        yield write(cache, Tensor(first if consecutive else places), new), old64


def sampling(inputs: Inputs) -> Iterator:
    """In float32 whatever the dtype, as samplers are."""
    values = inputs.rng.standard_normal((ROWS, 32768)).astype(np.float32)
    falling = np.argsort(-values, -1)[:, :2048]
    x, order = Tensor(values), Tensor(falling.astype(np.int32))
    best, numbers = ascend.top_k(x, 2048)
    yield best, np.take_along_axis(values, falling, -1).astype(np.float64)
    yield numbers, falling.astype(np.float64)
    yield ascend.rising(order)[0], np.sort(falling, -1).astype(np.float64)
    chance = np.abs(values)
    sums = np.cumsum(chance.astype(np.float64), -1)
    yield ascend.cumsum(Tensor(chance)), sums
    yield ascend.last(x), values[:, -1:].astype(np.float64)
    yield ascend.argmax(x), values.argmax(-1).astype(np.float64)


def convolution_3d(inputs: Inputs) -> Iterator:
    x, x64 = inputs(1, 8, 4, 6, 6)
    cell = CausalConv3d(8, 8, (3, 1, 1))
    weight, bias = (as_numpy(p).astype(np.float64) for p in (cell.conv.weight, cell.conv.bias))
    padded = np.pad(x64, ((0, 0), (0, 0), (2, 0), (0, 0), (0, 0)))
    taps = [
        np.einsum("oc,bcthw->bothw", weight[:, :, k, 0, 0], padded[:, :, k : k + 4])
        for k in range(3)
    ]
    for parameter in (cell.conv.weight, cell.conv.bias):
        parameter.set_dtype(inputs.dtype)
    yield cell(x), sum(taps) + bias.reshape(1, -1, 1, 1, 1)


def group_norm(inputs: Inputs) -> Iterator:
    x, x64 = inputs(1, 64, 8, 8)
    grouped = x64.reshape(1, 32, -1)
    centred = grouped - grouped.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    yield PlainNorm(64)(x), normal.reshape(x64.shape)


def enlargement(inputs: Inputs) -> Iterator:
    x, x64 = inputs(1, 8, 6, 5)
    yield repeat_pixels(x, 2), x64.repeat(2, 2).repeat(2, 3)


CHECKS: dict[str, Check] = {
    "RmsNorm": rms_norm,
    "AddRmsNorm": add_rms_norm,
    "Swiglu": swiglu,
    "RotaryPositionEmbedding": rotary,
    "SplitWithSize": split,
    "FusedInferAttentionScore": fused_infer_attention,
    "FlashAttentionScore": flash_attention,
    "WeightQuantBatchMatmul": int8_product,
    "KVCacheScatterUpdate, ScatterNdUpdate": cache_write,
    "topk, sort, cumsum, narrow, argmax": sampling,
    "Conv3D": convolution_3d,
    "GroupNorm": group_norm,
    "enlargement by BroadcastTo": enlargement,
}


def findings(dtype: ms.Type) -> Iterator[Finding]:
    """Every check in turn; an operator that raises is a finding, too."""
    for name, check in CHECKS.items():
        what, began = f"{name}, {str(dtype).lower()}", time.perf_counter()
        try:
            error = max(distance(got, wanted) for got, wanted in check(Inputs(dtype)))
        except Exception as problem:  # whatever a card's operators raise
            reason = str(problem).strip().splitlines()
            yield Finding(what, note=reason[0] if reason else type(problem).__name__)
            continue
        yield Finding(what, error, LIMITS[dtype], time.perf_counter() - began)
