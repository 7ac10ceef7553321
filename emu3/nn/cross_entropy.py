"""Cross-entropy of rows of logits together with its slope, for losses that want both at once."""

import mindspore as ms
from mindspore import Tensor, nn, ops

from emu3.nn.kernels.operators import on_cpu, operator
from emu3.nn.log_sum_exp import shifted_exp


class CrossEntropy(nn.Cell):
    """logits (N, V) float32, labels (N,) int32, below 0 = none -> losses' sum, slope (N, V)."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = kernel()

    def construct(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.kernel is not None:
            losses, slope = self.kernel(logits, labels)
            return losses.sum(), slope
        logits, powers, sums = shifted_exp(logits)
        counted = (labels >= 0).astype(ms.float32)
        wanted = ops.maximum(labels, 0).expand_dims(1)
        chosen = ops.gather_elements(logits, 1, wanted)[:, 0]
        slope = powers * (counted / sums).expand_dims(1)
        # Written back whole: Ascend's operator adds nothing, and takes float16 and float32 only.
        there = ops.gather_elements(slope, 1, wanted) - counted.expand_dims(1)
        slope = ops.tensor_scatter_elements(slope, wanted, there, 1, "none")
        return ((ops.log(sums) - chosen) * counted).sum(), slope


@on_cpu
def kernel() -> ops.Custom | None:
    """Ours for float32 on CPU, where it can be compiled."""
    return operator("cross_entropy", lambda x, y: (y, x), lambda x, y: (x, x))
