"""Root-mean-square norm, computed in float32 whatever the model's dtype."""

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from emu3 import runtime
from emu3.nn import ascend


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x (..., C), weight (C,) -> (..., C) in x's dtype; the product with weight is in float32."""
    # On two axes the CPU broadcasts four times faster than on three.
    rows = x.reshape((-1, x.shape[-1])).astype(ms.float32)
    scale = ops.rsqrt(ops.ReduceMean(True)(rows * rows, -1) + eps)
    return (rows * scale * weight.astype(ms.float32)).astype(x.dtype).reshape(x.shape)


class RMSNorm(nn.Cell):
    """x (..., C) -> x / rms(x) * weight, in x's dtype; on Ascend by its own operator."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps, self.native = eps, runtime.on_ascend()
        self.weight = Parameter(initializer("ones", (width,), ms.float32))

    def construct(self, x: Tensor) -> Tensor:
        norm = ascend.rms_norm if self.native else rms_norm
        return norm(x, self.weight, self.eps)
