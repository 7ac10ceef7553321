"""The step that learns from judged candidates: each label's cross-entropy has a share of its own.

The gradient is that of Williams 1992 (REINFORCE), the share being how much better a candidate is
than the others of its prompt, as in Shao et al. 2024 (GRPO), arXiv 2402.03300.

Shapes: B rows of T tokens, N labels, C hidden width, V vocabulary.
"""

from typing import TYPE_CHECKING

import mindspore as ms
from mindspore import Tensor, nn, ops

from emu3.mllm import Emu3ForCausalLM
from emu3.nn.cross_entropy import CrossEntropy
from train.tuning.step import PackedRows

if TYPE_CHECKING:
    from emu3.nn.short_products import Products


class WeighedHeadLoss(nn.Cell):
    """The sum of the labels' cross-entropies, each times its share, and its gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.matmul_transpose_b = ops.MatMul(transpose_b=True)
        self.matmul = ops.MatMul()
        self.matmul_transpose_a = ops.MatMul(transpose_a=True)
        self.cross_entropy = CrossEntropy()

    def take_products(self, products: "Products") -> None:
        """Make the products by these."""
        self.matmul_transpose_b, self.matmul = products.nt, products.nn
        self.matmul_transpose_a = products.tn

    def construct(
        self, hidden: Tensor, weight: Tensor, labels: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """hidden (N, C), weight (V, C), labels (N,) int32, -100 = none, shares (N,) float32.

        Returns the sum () and, for the backward pass, its gradients by hidden and weight.
        """
        logits = self.matmul_transpose_b(hidden, weight).astype(ms.float32)
        losses, slope = self.cross_entropy(logits, labels)
        slope = (slope * shares.expand_dims(1)).astype(hidden.dtype)
        by_weight = self.matmul_transpose_a(slope, hidden)
        return (losses * shares).sum(), self.matmul(slope, weight), by_weight

    def bprop(self, hidden, weight, labels, shares, out, dout):
        """The gradients that the forward pass took, by the slope of the sum."""
        slope = dout[0].astype(hidden.dtype)
        return out[1] * slope, out[2] * slope, ops.zeros_like(labels), ops.zeros_like(shares)


class WeighedLoss(PackedRows):
    """The loss of a batch of candidates and samples."""

    def __init__(self, model: Emu3ForCausalLM, length: int) -> None:
        super().__init__(model, length)
        self.head_loss = WeighedHeadLoss()

    def construct(
        self,
        ids: Tensor,
        positions: Tensor,
        branches: Tensor,
        places: Tensor,
        labels: Tensor,
        shares: Tensor,
    ) -> Tensor:
        """The arrays of `train.data.samples.Batch`, shares (N,) float32 -> () float32."""
        hidden = self.hidden_at(ids, positions, branches, places)
        return self.head_loss(hidden, self.model.lm_head.whole(), labels, shares)[0]
