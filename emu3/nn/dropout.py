"""Dropout in any dtype of the network."""

from mindspore import Tensor, mint, nn

from emu3 import runtime


class Dropout(nn.Cell):
    """In training drop a share `p` of x and scale up the rest; same shape and dtype.

    MindSpore's own cell is documented for float16 and float32; mint's, for Ascend, for any.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.native = p, runtime.on_ascend()
        self.dropout = nn.Dropout(p=p)

    def construct(self, x: Tensor) -> Tensor:
        if not self.native:
            return self.dropout(x)
        if self.training and self.p > 0:
            return mint.nn.functional.dropout(x, self.p)
        return x
