"""Dropout in any dtype of the network."""

import mindspore as ms
from mindspore import Tensor, mint, nn, ops

from emu3 import runtime
from emu3.nn.kernels.operators import drop_settings, on_cpu, operator


class Dropout(nn.Cell):
    """In training drop a share `p` of x and scale up the rest; same shape and dtype.

    Our kernel draws the chance from x itself and MindSpore's global seed: a layer that is computed
    again drops the same, and so does a run that is resumed. MindSpore's own cell is documented for
    float16 and float32; mint's, for Ascend, for any.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.native = p, runtime.on_ascend()
        self.kernel = dropout_kernel() if p > 0 else None
        self.settings = drop_settings(p)
        self.dropout = nn.Dropout(p=p)

    def construct(self, x: Tensor) -> Tensor:
        if self.kernel is not None and x.dtype == ms.float32:
            return self.kernel(x, self.settings)[0] if self.training else x
        if not self.native:
            return self.dropout(x)
        if self.training and self.p > 0:
            return mint.nn.functional.dropout(x, self.p)
        return x


@on_cpu
def dropout_kernel() -> ops.Custom | None:
    """Ours for float32 on CPU, where it can be compiled; gives the seed, too."""
    back = operator("dropout_grad", lambda slope, *_: slope, lambda slope, *_: slope)

    def bprop(x, settings, out, dout):
        return back(dout[0], settings, out[1]), ops.zeros_like(settings)

    def shapes(x, settings):
        return x, settings[:1]

    return operator("dropout", shapes, lambda x, settings: (x, settings), bprop)
