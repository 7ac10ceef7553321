"""Choosing the next token: temperature, top-k, top-p and an inverse CDF, on the device.

Shapes: N sequences, V candidates (the head's rows), K survivors of top-k.

The randomness is one uniform number per sequence and token, drawn on the host by Philox under
(seed, stream), so a picture depends neither on its batch nor on how the step runs.
"""

from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops


@dataclass(frozen=True)
class SamplerKind:
    """What of the sampling is fixed in a compiled step. `top_k` 0 keeps every candidate."""

    greedy: bool
    top_k: int
    use_top_p: bool


class Sampler(nn.Cell):
    """logits (N, V) float32 -> the chosen candidate of each row, (N,) int32."""

    def __init__(self, kind: SamplerKind, candidates: int) -> None:
        super().__init__(auto_prefix=False)
        self.greedy = kind.greedy
        self.use_top_p = kind.use_top_p
        limited = 0 < kind.top_k < candidates
        self.sorts = limited or kind.use_top_p
        self.count = kind.top_k if limited else candidates
        self.argmax = ops.Argmax(axis=-1, output_type=ms.int32)
        self.topk = ops.TopK(sorted=True)
        self.softmax = ops.Softmax(-1)
        self.cumsum = ops.CumSum()
        self.sum = ops.ReduceSum(keep_dims=True)
        self.slice, self.take, self.minimum = ops.Slice(), ops.GatherD(), ops.Minimum()

    def construct(
        self, logits: Tensor, uniform: Tensor, temperature: Tensor, top_p: Tensor
    ) -> Tensor:
        """uniform (N,) in [0, 1), temperature () > 0, top_p () in (0, 1]."""
        if self.greedy:
            return self.argmax(logits)
        order = logits
        if self.sorts:
            logits, order = self.topk(logits, self.count)
        chance = self.softmax(logits / temperature)
        below = self.cumsum(chance, -1)
        if self.use_top_p:
            chance = chance * (below - chance < top_p).astype(ms.float32)
            below = self.cumsum(chance, -1)
        total = self.slice(below, (0, self.count - 1), (logits.shape[0], 1))
        target = uniform.reshape((-1, 1)) * total
        place = self.sum((below <= target).astype(ms.float32), -1).astype(ms.int32)
        # Rounding may push the target onto the total; the last candidate is then as good as any.
        place = self.minimum(place, self.count - 1)
        if self.sorts:
            place = self.take(order, 1, place)
        return place.reshape((-1,))


def uniforms(seed: int, stream: int, count: int) -> np.ndarray:
    """The first `count` numbers of a stream: float32 (count,) in [0, 1)."""
    key = np.array([seed % 2**64, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count, dtype=np.float32)
