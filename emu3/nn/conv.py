"""Convolutions with the published names and the reference's padding and initialisation."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import HeNormal

from emu3 import runtime
from emu3.nn.kernels.operators import on_cpu, operator


def _init() -> HeNormal:
    return HeNormal(mode="fan_out", nonlinearity="relu")


class Conv2d(nn.Conv2d):
    """MindSpore's cell of stride 1 with a bias, by a kernel of ours where there is one."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__(
            channels_in,
            channels_out,
            kernel,
            pad_mode="pad",
            padding=kernel // 2,
            has_bias=True,
            weight_init=_init(),
            bias_init="zeros",
        )
        self.kernel = conv_kernel()

    def construct(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c', h, w)."""
        if self.kernel is None or x.dtype != ms.float32 or self.weight.dtype != ms.float32:
            return self.bias_add(self.conv2d(x, self.weight), self.bias)
        return self.kernel(x, self.weight, self.bias)


def conv2d(channels_in: int, channels_out: int, kernel: int = 3) -> Conv2d:
    """A biased stride-1 convolution of (b, c, h, w) that keeps h and w; kernel 1 or 3."""
    return Conv2d(channels_in, channels_out, kernel)


class Downsample(nn.Cell):
    """Halve h and w: zero-pad right and bottom by one, then a 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels,
            channels,
            3,
            stride=2,
            pad_mode="pad",
            padding=(0, 1, 0, 1),
            has_bias=True,
            weight_init=_init(),
            bias_init="zeros",
        )

    def construct(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h // 2, w // 2)."""
        return self.conv(x)


class Upsample(nn.Cell):
    """Double h and w by nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.double = DoublePixels()
        self.conv = conv2d(channels, channels)

    def construct(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, 2h, 2w)."""
        return self.conv(self.double(x))


class DoublePixels(nn.Cell):
    """`repeat_pixels` by 2, by a kernel of ours where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = double_kernel()

    def construct(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, 2h, 2w)."""
        if self.kernel is None or x.dtype != ms.float32:
            return repeat_pixels(x, 2)
        return self.kernel(x)


class CausalConv3d(nn.Cell):
    """A 3-D convolution that looks back in time: two zero frames in front, none behind.

    The reference pads time by two for every kernel size; rows and columns keep their length. On
    Ascend the product is taken in float16, the sum with the bias in x's dtype.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.half = runtime.on_ascend()
        side = kernel[1] // 2, kernel[2] // 2
        self.conv = nn.Conv3d(
            channels_in,
            channels_out,
            kernel,
            stride=stride,
            pad_mode="pad",
            padding=(2, 0, side[0], side[0], side[1], side[1]),
            has_bias=True,
            weight_init=_init(),
            bias_init="zeros",
        )

    def construct(self, x: Tensor) -> Tensor:
        """(b, c, t, h, w) -> (b, c', t', h, w)."""
        return self._in_half(x) if self.half else self.conv(x)

    def _in_half(self, x: Tensor) -> Tensor:
        """`construct` on Ascend, whose operator is documented for float16 alone."""
        product = self.conv.conv3d(x.astype(ms.float16), self.conv.weight.astype(ms.float16))
        return product.astype(x.dtype) + self.conv.bias.reshape((1, -1, 1, 1, 1))


@ops.constexpr
def _repeated(count: int, factor: int) -> Tensor:
    return Tensor(np.repeat(np.arange(count, dtype=np.int32), factor))


@ops.constexpr(reuse_result=False)
def _on_ascend() -> bool:
    return runtime.on_ascend()


def repeat_pixels(x: Tensor, factor: int) -> Tensor:
    """Nearest-neighbour enlargement: (b, c, h, w) -> (b, c, h * factor, w * factor).

    On CPU by gathering columns, then rows: broadcasting takes many times as long there. On Ascend
    by broadcasting, which is one kernel, while Gather along the last axis is slow.
    """
    if factor == 1:
        return x
    if _on_ascend():
        b, c, h, w = x.shape
        copies = ops.broadcast_to(x.reshape((b * c, h, 1, w, 1)), (b * c, h, factor, w, factor))
        return copies.reshape((b, c, h * factor, w * factor))
    wide = ops.gather(x, _repeated(x.shape[3], factor), 3)
    return ops.gather(wide, _repeated(x.shape[2], factor), 2)


@on_cpu
def double_kernel() -> ops.Custom | None:
    """Ours for float32 on CPU, where it can be compiled."""
    half = operator("double_pixels_grad", lambda d: (*d[:2], d[2] // 2, d[3] // 2), lambda d: d)

    def bprop(x, out, dout):
        return (half(dout),)

    return operator("double_pixels", lambda x: (*x[:2], 2 * x[2], 2 * x[3]), lambda x: x, bprop)


@on_cpu
def conv_kernel() -> ops.Custom | None:
    """Ours for float32 on CPU, where it can be compiled."""
    back = operator("conv_grad_x", lambda d, w: (d[0], w[1], d[2], d[3]), lambda d, w: d)
    learn = operator("conv_grad_weight", lambda x, w, d: (w, w[:1]), lambda x, w, d: (w, w))

    def bprop(x, weight, bias, out, dout):
        by_weight, by_bias = learn(x, weight, dout)
        return back(dout, weight), by_weight, by_bias

    return operator("conv", lambda x, w, b: (x[0], w[0], x[2], x[3]), lambda x, w, b: x, bprop)
