"""Choosing the next token: temperature, top-k, top-p and an inverse CDF, on the device.

Shapes: N sequences, V candidates (the head's rows), K survivors of top-k.

The randomness is one uniform number per sequence and token, drawn on the host by Philox under
(seed, stream), so a picture depends neither on its batch nor on how the step runs.
"""

from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from emu3 import runtime
from emu3.nn import ascend

BELOW_ONE = 1 - 2.0**-23
# What a sequence needs random numbers for: the plain draws, and what Jacobi decoding adds.
USE_UNIFORM, USE_DRAFTS, USE_TESTS, USE_GUMBEL = range(4)


class CumSum(nn.Cell):
    """Running sums of x (N, V) along its rows."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.native, self.cumsum = runtime.on_ascend(), ops.CumSum()

    def construct(self, x: Tensor) -> Tensor:
        return ascend.cumsum(x) if self.native else self.cumsum(x, -1)


class Argmax(nn.Cell):
    """The first largest of each row of x (N, V): (N,) int32."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.native = runtime.on_ascend()
        self.argmax = ops.Argmax(axis=-1, output_type=ms.int32)

    def construct(self, x: Tensor) -> Tensor:
        return ascend.argmax(x) if self.native else self.argmax(x)


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
        self.native = runtime.on_ascend()
        self.argmax = Argmax()
        self.topk = ops.TopK(sorted=True)
        self.softmax = ops.Softmax(-1)
        self.cumsum = CumSum()
        self.reduce_sum = ops.ReduceSum(keep_dims=True)
        self.slice, self.gather_d, self.minimum = ops.Slice(), ops.GatherD(), ops.Minimum()
        self.tensor_scatter_elements, self.zeros_like = (
            ops.TensorScatterElements(1),
            ops.ZerosLike(),
        )

    def construct(
        self, logits: Tensor, uniform: Tensor, temperature: Tensor, top_p: Tensor
    ) -> Tensor:
        """uniform (N,) in [0, 1), temperature () > 0, top_p () in (0, 1]."""
        if self.greedy:
            return self.argmax(logits)
        chance, order = self.survivors(logits, temperature, top_p)
        place = self.draw(chance, uniform)
        if self.sorts:
            place = self.gather_d(order, 1, place)
        return place.reshape((-1,))

    def survivors(self, logits: Tensor, temperature: Tensor, top_p: Tensor):
        """Weights (N, K) of the candidates that top-k leaves, and their numbers (N, K), rising.

        Rising, since by falling weight two nearly equal ones change places with every rounding,
        and a draw with them. Without top-k and top-p the numbers are idle.
        """
        order = logits
        if self.sorts:
            logits, order = self._top(logits)
        chance = self.softmax(logits / temperature)
        if self.use_top_p:
            below = self.cumsum(chance) - chance
            chance = chance * (below < top_p).astype(ms.float32)
        if self.sorts:
            order, rising = self._rising(order)
            chance = self.gather_d(chance, 1, rising)
        return chance, order

    def _top(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of each row of logits (N, V), falling, and their numbers: (N, K) each."""
        if self.native:
            return ascend.top_k(logits, self.count)
        return self.topk(logits, self.count)

    def _rising(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers (N, K) int32 in rising order, and where each of them stood."""
        if self.native:
            return ascend.rising(order)
        _, rising = self.topk(-order.astype(ms.float32), self.count)
        return self.gather_d(order, 1, rising), rising

    def draw(self, weights: Tensor, uniform: Tensor) -> Tensor:
        """Inverse CDF of weights (N, K) >= 0, not all 0, at uniform (N,): places (N, 1)."""
        below = self.cumsum(weights)
        total = ascend.last(below) if self.native else self._last(below)
        # Rounding may push the target onto the total, past the last candidate with a weight.
        target = self.minimum(uniform.reshape((-1, 1)) * total, total * BELOW_ONE)
        return self.reduce_sum((below <= target).astype(ms.float32), -1).astype(ms.int32)

    def _last(self, x: Tensor) -> Tensor:
        return self.slice(x, (0, x.shape[1] - 1), (x.shape[0], 1))

    def distribution(self, logits: Tensor, temperature: Tensor, top_p: Tensor) -> Tensor:
        """What `construct` draws from, spelled out: probabilities (N, V)."""
        chance, order = self.survivors(logits, temperature, top_p)
        if self.use_top_p:
            chance = chance / self.reduce_sum(chance, -1)
        if self.sorts:
            chance = self.tensor_scatter_elements(self.zeros_like(logits), order, chance)
        return chance


def random(seed: int, stream: int, use: int = USE_UNIFORM) -> np.random.Generator:
    """A generator for one sequence (seed, stream) and one use, independent of all others."""
    key = np.array([seed % 2**64, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, use]))


def uniforms(seed: int, stream: int, count: int, first: int = 0) -> np.ndarray:
    """`count` numbers of a stream from number `first` on: float32 (count,) in [0, 1)."""
    return random(seed, stream).random(first + count, dtype=np.float32)[first:]
