"""Matrices stored in 32, 16 or 8 bits and their product with rows computed in float32, on CPU.

Shapes: R rows, K input columns, N output columns, G groups of GROUP input columns, the last one
perhaps shorter.

    float32    weight (N, K) float32
    bfloat16   weight (N, K) bfloat16, its exact value counts
    int8       weight (N, K) int8, scales (N, G) float32: weight[n, k] * scales[n, k // GROUP]
"""

from functools import cache

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from emu3.nn.kernels.operators import operator

GROUP = 64  # emu3/nn/kernels/product.cpp has it, too
NAMES = {ms.float32: "float32", ms.bfloat16: "bfloat16", ms.int8: "int8"}


class Product(nn.Cell):
    """x (R, K) float32 times the transpose of a stored matrix -> (R, N) float32.

    Our kernel, which reads a weight once for all rows; without it the matrix is converted whole
    and multiplied by MindSpore's operators: slower, and equal but for the order of the sums.
    """

    def __init__(self, dtype: ms.Type) -> None:
        super().__init__(auto_prefix=False)
        self.int8 = dtype == ms.int8
        self.kernel = kernel(NAMES[dtype])
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x: Tensor, weight: Tensor, scales: Tensor | None = None) -> Tensor:
        if self.kernel is None:
            return self.matmul(x, widened(weight, scales))
        if self.int8:
            return self.kernel(x, weight, scales)
        return self.kernel(x, weight)


@cache
def kernel(form: str) -> ops.Custom | None:
    """The kernel for weights of a form, where there is one."""
    return operator(f"product_{form}", lambda x, weight, *_: (x[0], weight[0]), lambda x, *_: x)


def widened(weight: Tensor, scales: Tensor | None) -> Tensor:
    """The float32 values of a stored matrix: (N, K)."""
    values = weight.astype(ms.float32)
    if scales is None:
        return values
    size, columns = values.shape
    groups = scales.shape[1]
    if columns == groups * GROUP:
        grouped = values.reshape((size, groups, GROUP)) * scales.expand_dims(2)
        return grouped.reshape((size, columns))
    each = ops.repeat_elements(scales, GROUP, 1)
    return values * each[:, :columns]


def quantised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (N, K) -> int8 (N, K) and scales (N, G), symmetric: the largest of a group is 127."""
    size, columns = values.shape
    groups = -(-columns // GROUP)
    padded = np.zeros((size, groups * GROUP), np.float32)
    padded[:, :columns] = values
    padded = padded.reshape(size, groups, GROUP)
    scales = np.abs(padded).max(-1) / np.float32(127)
    steps = np.rint(padded / np.where(scales > 0, scales, 1)[..., None])
    return steps.astype(np.int8).reshape(size, -1)[:, :columns].copy(), scales
