"""Linear and Embedding under the published parameter names (`weight`, `bias`).

Both call the kernels that are fast on CPU and exist on Ascend: MatMul(transpose_b=True) on two
axes, and Gather. Weights of Linear are stored (out, in).
"""

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Initializer, Normal, initializer


class PaddedNormal(Initializer):
    """normal(0, sigma) whose row `pad` is zero; an index outside the table zeroes nothing."""

    def __init__(self, sigma: float, pad: int | None) -> None:
        super().__init__(sigma=sigma, pad=pad)
        self.sigma = sigma
        self.pad = pad

    def _initialize(self, arr) -> None:
        Normal(self.sigma)(arr)
        if self.pad is not None and 0 <= self.pad < arr.shape[0]:
            arr[self.pad] = 0


class Weighted(nn.Cell):
    """What Linear and Embedding share: a weight that this process may hold in another form."""

    def __init__(self) -> None:
        super().__init__()
        self.gather = None  # set where `weight` is this process's share of it: the whole again
        self.rows = None  # set where a cell changes rows of the weight

    def whole(self) -> Tensor:
        """The weight (out or count, width) that counts."""
        weight = self.weight if self.gather is None else self.gather(self.weight)
        return weight if self.rows is None else self.rows(weight)


class Linear(Weighted):
    """x (..., in) -> (..., out): x @ weight^T + bias; weight (out, in), bias (out,) or absent."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        has_bias: bool = False,
        sigma: float = 0.02,
        dtype: ms.Type = ms.float32,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        self.weight = Parameter(initializer(Normal(sigma), (out_features, in_features), dtype))
        self.bias = Parameter(initializer("zeros", (out_features,), dtype)) if has_bias else None
        self.adapter = None  # set where a cell adds to what the weight gives
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x: Tensor) -> Tensor:
        rows = x.reshape((-1, x.shape[-1]))
        y = self.matmul(rows, self.whole())
        if self.bias is not None:
            y = ops.bias_add(y, self.bias)
        if self.adapter is not None:
            y = y + self.adapter(rows)
        return y.reshape((*x.shape[:-1], self.out_features))


class Embedding(Weighted):
    """ids (...) int -> rows (..., width) of weight (count, width)."""

    def __init__(
        self,
        count: int,
        width: int,
        sigma: float = 0.02,
        pad: int | None = None,
        dtype: ms.Type = ms.float32,
    ) -> None:
        super().__init__()
        self.weight = Parameter(initializer(PaddedNormal(sigma, pad), (count, width), dtype))

    def construct(self, ids: Tensor) -> Tensor:
        return ops.gather(self.whole(), ids, 0)
