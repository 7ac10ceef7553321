"""Matrices stored in 32, 16 or 8 bits and their product with rows computed in float32, on CPU.

Shapes: R rows, K input columns, N output columns, G groups of GROUP input columns, the last one
perhaps shorter.

    float32    weight (N, K) float32
    bfloat16   weight (N, K) bfloat16, its exact value counts
    int8       weight (N, K) int8, scales (N, G) float32: weight[n, k] * scales[n, k // GROUP]

The kernels are in emu3/nn/kernels/product.cpp, and in matmul.cpp for many rows. Where they cannot
be compiled MindSpore's operators stand in: slower, and equal but for the order of the sums.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.common.np_dtype import bfloat16

from emu3.configfields import GROUP
from emu3.nn.kernels.operators import on_cpu, operator
from emu3.tensorfile import to_bfloat16

if TYPE_CHECKING:
    from emu3.nn.short_products import Products

DTYPES = {"float32": ms.float32, "bfloat16": ms.bfloat16, "int8": ms.int8}
NAMES = {dtype: form for form, dtype in DTYPES.items()}
MOST_ROWS = 64  # with more, converting a matrix costs less than the kernel's way through the rows
FEWEST_ROWS = 16  # that the kernel for many rows, which rearranges the matrix first, pays for
BLOCK = 2**24  # values converted at a time


def pays(kernel: Callable | None, x: Tensor, training: bool) -> bool:
    """Whether a kernel for many rows is to make a product of x (..., K): in float32 alone.

    Training, where several operators run at a time, is faster with MindSpore's.
    """
    many = x.size // x.shape[-1] >= FEWEST_ROWS
    return kernel is not None and many and x.dtype == ms.float32 and not training


class MatMul(nn.Cell):
    """x (M, K), weight (N, K) -> x times weight's transpose (M, N)."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.kernel = matmul_kernel()
        self.matmul = ops.MatMul(transpose_b=True)
        self.short = None  # makes the products of training where somebody said so

    def take_products(self, products: "Products") -> None:
        """Make the products of training, of float32, by these."""
        self.short = products.nt

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.short is not None and self.training and x.dtype == ms.float32:
            return self.short(x, weight)
        if pays(self.kernel, x, self.training) and weight.dtype == ms.float32:
            return self.kernel(x, weight)
        return self.matmul(x, weight)


class Product(nn.Cell):
    """x (R, K) float32 times the transposes of stored matrices (N, K) -> (R, sum of N) float32.

    `parts` are the matrices' weights, then their scales, if any; all have one form and one K.
    """

    def __init__(self, dtype: ms.Type) -> None:
        super().__init__(auto_prefix=False)
        self.int8 = dtype == ms.int8
        self.kernel = product_kernel(NAMES[dtype])
        self.widen = widen_kernel(NAMES[dtype])
        self.matmul, self.slice = MatMul(), ops.Slice()

    def construct(self, x: Tensor, *parts: Tensor) -> Tensor:
        if self.kernel is not None and x.shape[0] <= MOST_ROWS:
            return self.kernel(x, *parts)
        count = len(parts) // 2 if self.int8 else len(parts)
        out = ()
        for i in range(count):
            weight, scales = parts[i], parts[count + i] if self.int8 else None
            size, columns = weight.shape
            lines = max(1, BLOCK // columns)
            for start in range(0, size, lines):
                block = self._block(weight, scales, start, min(lines, size - start))
                out += (self.matmul(x, block),)
        return out[0] if len(out) == 1 else ops.concat(out, 1)

    def _block(self, weight: Tensor, scales: Tensor | None, start: int, count: int) -> Tensor:
        """`count` lines of a stored matrix as float32: (count, K)."""
        if count < weight.shape[0]:
            weight = self.slice(weight, (start, 0), (count, weight.shape[1]))
            if scales is not None:
                scales = self.slice(scales, (start, 0), (count, scales.shape[1]))
        if self.widen is None:
            return widened(weight, scales)
        return self.widen(weight) if scales is None else self.widen(weight, scales)


class Lines(nn.Cell):
    """Lines of a stored matrix as float32: ids (...) int32 -> (..., K)."""

    def __init__(self, dtype: ms.Type) -> None:
        super().__init__(auto_prefix=False)
        self.int8 = dtype == ms.int8
        self.kernel = lines_kernel(NAMES[dtype])

    def construct(self, ids: Tensor, weight: Tensor, scales: Tensor | None = None) -> Tensor:
        if self.kernel is None:
            rows = ids.reshape((-1,))
            taken = None if scales is None else ops.gather(scales, rows, 0)
            lines = widened(ops.gather(weight, rows, 0), taken)
            return lines.reshape((*ids.shape, weight.shape[1]))
        if self.int8:
            return self.kernel(ids, weight, scales)
        return self.kernel(ids, weight)


class Matrices(nn.Cell):
    """x (R, K) -> its products with several matrices of one form, side by side: (R, sum of N).

    Where they are not `stored` in 16 or 8 bits on CPU, MindSpore's own product serves.
    """

    def __init__(self, matrices: list[tuple[Parameter, ...]], stored: bool) -> None:
        super().__init__(auto_prefix=False)
        self.parts = ParameterTuple([part for kind in zip(*matrices) for part in kind])
        self.product = Product(matrices[0][0].dtype) if stored else None
        self.matmul, self.concat = ops.MatMul(transpose_b=True), ops.Concat(1)

    def construct(self, x: Tensor) -> Tensor:
        if self.product is not None:
            return self.product(x, *self.parts)
        out = ()
        for weight in self.parts:
            out += (self.matmul(x, weight),)
        return out[0] if len(out) == 1 else self.concat(out)


@on_cpu
def matmul_kernel() -> ops.Custom | None:
    """Ours for float32 on CPU, where it can be compiled."""
    matmul, matmul_transpose_a = ops.MatMul(), ops.MatMul(transpose_a=True)

    def bprop(x, weight, out, dout):
        return matmul(dout, weight), matmul_transpose_a(dout, x)

    return operator("matmul", lambda x, w: (x[0], w[0]), lambda x, _: x, bprop)


@on_cpu
def product_kernel(form: str) -> ops.Custom | None:
    """The kernel for products with matrices of a form, where there is one."""
    scaled = 2 if form == "int8" else 1

    def shape(x, *parts):
        return (x[0], sum(part[0] for part in parts[: len(parts) // scaled]))

    return operator(f"product_{form}", shape, lambda x, *_: x)


@on_cpu
def lines_kernel(form: str) -> ops.Custom | None:
    """The kernel for lines of matrices of a form, where there is one."""
    shape = lambda ids, weight, *_: (*ids, weight[1])  # noqa: E731
    return operator(f"lines_{form}", shape, lambda *_: ms.float32)


@on_cpu
def widen_kernel(form: str) -> ops.Custom | None:
    """The kernel for the float32 values of matrices of a form, where there is one."""
    return operator(f"widen_{form}", lambda weight, *_: weight, lambda *_: ms.float32)


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


def form_bytes(shape: tuple[int, ...], form: str) -> int:
    """Memory of an array in a form, scales included."""
    if form != "int8":
        return math.prod(shape) * {"float32": 4, "bfloat16": 2}[form]
    size, columns = shape
    return size * columns + 4 * size * -(-columns // GROUP)


def encoded(values: np.ndarray, form: str) -> tuple[np.ndarray, ...]:
    """float32 (N, K) in a form: weight, and scales of int8; bfloat16 rounds to nearest even."""
    if form == "int8":
        return quantised(values)
    if form == "bfloat16":
        return (to_bfloat16(np.ascontiguousarray(values, np.float32)).view(bfloat16),)
    return (values.astype(np.float32, copy=False),)


def quantised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (N, K) -> int8 (N, K) and scales (N, G), symmetric: the largest of a group is 127."""
    size, columns = values.shape
    groups = -(-columns // GROUP)
    if columns < groups * GROUP:
        values = np.pad(values, ((0, 0), (0, groups * GROUP - columns)))
    grouped = values.reshape(size, groups, GROUP)
    scales = np.maximum(grouped.max(-1), -grouped.min(-1)) / np.float32(127)
    steps = grouped * (1 / np.where(scales > 0, scales, 1))[..., None]
    steps = np.rint(steps, out=steps).astype(np.int8).reshape(size, -1)
    return np.ascontiguousarray(steps[:, :columns]), scales
