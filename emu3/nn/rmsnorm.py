"""Root-mean-square norm, computed in float32 whatever the model's dtype."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from emu3 import runtime
from emu3.nn import ascend
from emu3.nn.kernels.operators import on_cpu, operator


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
        self.kernel, self.eps_tensor = kernel(), Tensor(np.array([eps], np.float32))

    def construct(self, x: Tensor) -> Tensor:
        if self.native:
            return ascend.rms_norm(x, self.weight, self.eps)
        if self.kernel is None or x.dtype != ms.float32:
            return rms_norm(x, self.weight, self.eps)
        return self.kernel(x, self.weight, self.eps_tensor)


@on_cpu
def kernel() -> ops.Custom | None:
    """Ours for float32 on CPU, where it can be compiled."""
    slopes = operator("rms_norm_grad", lambda x, w, *_: (x, w), lambda x, w, *_: (x, w))

    def bprop(x, weight, eps, out, dout):
        by_x, by_weight = slopes(x, weight, eps, dout)
        return by_x, by_weight, ops.zeros_like(eps)

    return operator("rms_norm", lambda x, *_: x, lambda x, *_: x, bprop)
