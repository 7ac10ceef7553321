"""The product that the network is made of, of rows with a matrix."""

from functools import cache

import mindspore as ms
from mindspore import Tensor, nn, ops

from emu3.nn.kernels.operators import operator

FEWEST = 16  # rows that our kernel, which rearranges the matrix first, is worth while for


class MatMul(nn.Cell):
    """x (M, K), weight (N, K) -> x times weight's transpose (M, N).

    Training, where several operators run at a time, is faster with MindSpore's.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.kernel = kernel()
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        narrow = x.dtype != ms.float32 or weight.dtype != ms.float32
        if self.kernel is None or self.training or narrow or x.shape[0] < FEWEST:
            return self.matmul(x, weight)
        return self.kernel(x, weight)


@cache
def kernel() -> ops.Custom | None:
    """Ours for float32 on CPU, where it can be compiled."""
    matmul, matmul_transpose_a = ops.MatMul(), ops.MatMul(transpose_a=True)

    def bprop(x, weight, out, dout):
        return matmul(dout, weight), matmul_transpose_a(dout, x)

    return operator("matmul", lambda x, w: (x[0], w[0]), lambda x, _: x, bprop)
