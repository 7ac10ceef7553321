"""The head and its cross-entropy where a label counts, in chunks: exact, without whole logits.

Shapes: N labels, C hidden width, V vocabulary. A chunk's gradients are taken while its logits
exist (Hsu et al. 2024, Liger Kernel, arXiv:2410.10989), so that nothing is computed twice.
"""

from typing import TYPE_CHECKING

import mindspore as ms
from mindspore import Tensor, nn, ops

from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.nn.cross_entropy import CrossEntropy

if TYPE_CHECKING:
    from emu3.nn.short_products import Products

LOGITS_AT_ONCE = 2**25  # 128 MB of float32


def in_chunks(hidden: Tensor, labels: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """hidden (N, C), labels (N,) -> (chunks, rows, C), (chunks, rows); the last one filled up."""
    chunks = -(-hidden.shape[0] // rows)
    missing = chunks * rows - hidden.shape[0]
    if missing:
        hidden = ops.concat((hidden, ops.zeros((missing, hidden.shape[1]), hidden.dtype)))
        labels = ops.concat((labels, ops.full((missing,), IGNORED_LABEL, dtype=labels.dtype)))
    return hidden.reshape((chunks, rows, -1)), labels.reshape((chunks, rows))


class HeadLoss(nn.Cell):
    """Sum of the labels' cross-entropies, and its gradients."""

    def __init__(self, logits_at_once: int = LOGITS_AT_ONCE) -> None:
        super().__init__()
        self.logits_at_once = logits_at_once
        self.matmul_transpose_b = ops.MatMul(transpose_b=True)
        self.matmul = ops.MatMul()
        self.matmul_transpose_a = ops.MatMul(transpose_a=True)
        self.cross_entropy = CrossEntropy()

    def take_products(self, products: "Products") -> None:
        """Make the products by these."""
        self.matmul_transpose_b, self.matmul = products.nt, products.nn
        self.matmul_transpose_a = products.tn

    def construct(
        self, hidden: Tensor, weight: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """hidden (N, C), weight (V, C), labels (N,) int32, -100 = none.

        Returns the sum () float32 and, for the backward pass, its gradients by hidden and weight
        in their dtypes. Softmax and sums are in float32.
        """
        rows = max(1, self.logits_at_once // weight.shape[0])
        count = hidden.shape[0]
        if count <= rows:
            loss, slope = self._chunk(hidden, weight, labels)
            return loss, self.matmul(slope, weight), self.matmul_transpose_a(slope, hidden)
        split, labels = in_chunks(hidden, labels, rows)
        total, by_hidden, by_weight = ops.zeros((), ms.float32), split * 0, weight * 0
        # A loop whose condition is a tensor: compiled, its passes share their memory.
        i = ops.zeros((1,), ms.int32)
        while i < split.shape[0]:
            chunk = ops.gather(split, i, 0)[0]
            loss, slope = self._chunk(chunk, weight, ops.gather(labels, i, 0)[0])
            total = total + loss
            by_weight = by_weight + self.matmul_transpose_a(slope, chunk)
            part = self.matmul(slope, weight).expand_dims(0)
            by_hidden = ops.tensor_scatter_update(by_hidden, i.expand_dims(1), part)
            i = i + 1
        return total, by_hidden.reshape((-1, hidden.shape[1]))[:count], by_weight

    def _chunk(self, hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of a chunk and its slope by the logits (n, V), in hidden's dtype."""
        logits = self.matmul_transpose_b(hidden, weight).astype(ms.float32)
        loss, slope = self.cross_entropy(logits, labels)
        return loss, slope.astype(hidden.dtype)

    def bprop(self, hidden, weight, labels, out, dout):
        """The gradients that the forward pass took, by the slope of the sum."""
        slope = dout[0].astype(hidden.dtype)
        return out[1] * slope, out[2] * slope, ops.zeros_like(labels)


class HeadScores(nn.Cell):
    """How well the head foretells labels, for evaluation: no gradients."""

    def __init__(self, logits_at_once: int = LOGITS_AT_ONCE) -> None:
        super().__init__()
        self.logits_at_once = logits_at_once
        self.matmul_transpose_b = ops.MatMul(transpose_b=True)
        self.cross_entropy = CrossEntropy()

    def construct(self, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        """hidden (N, C), weight (V, C), labels (N,) int32, -100 = none -> (2,) float32.

        They are the sum of the labels' cross-entropies, and how many labels were the likeliest id.
        """
        rows = max(1, self.logits_at_once // weight.shape[0])
        if hidden.shape[0] <= rows:
            return self._chunk(hidden, weight, labels)
        split, labels = in_chunks(hidden, labels, rows)
        total, i = ops.zeros((2,), ms.float32), ops.zeros((1,), ms.int32)
        while i < split.shape[0]:
            chunk, wanted = ops.gather(split, i, 0)[0], ops.gather(labels, i, 0)[0]
            total = total + self._chunk(chunk, weight, wanted)
            i = i + 1
        return total

    def _chunk(self, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        logits = self.matmul_transpose_b(hidden, weight).astype(ms.float32)
        right = (ops.argmax(logits, 1).astype(ms.int32) == labels).astype(ms.float32).sum()
        return ops.stack((self.cross_entropy(logits, labels)[0], right))
