"""Convolutions with the published names and the reference's padding and initialisation."""

import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import HeNormal


def _init() -> HeNormal:
    return HeNormal(mode="fan_out", nonlinearity="relu")


def conv2d(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Conv2d:
    """A biased stride-1 convolution of (b, c, h, w) that keeps h and w; kernel 1 or 3."""
    return nn.Conv2d(
        channels_in,
        channels_out,
        kernel,
        pad_mode="pad",
        padding=kernel // 2,
        has_bias=True,
        weight_init=_init(),
        bias_init="zeros",
    )


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
        self.conv = conv2d(channels, channels)

    def construct(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, 2h, 2w)."""
        return self.conv(repeat_pixels(x, 2))


class CausalConv3d(nn.Cell):
    """A 3-D convolution that looks back in time: two zero frames in front, none behind.

    The reference pads time by two for every kernel size; rows and columns keep their length.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
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
        return self.conv(x)


@ops.constexpr
def _repeated(count: int, factor: int) -> Tensor:
    return Tensor(np.repeat(np.arange(count, dtype=np.int32), factor))


def repeat_pixels(x: Tensor, factor: int) -> Tensor:
    """Nearest-neighbour enlargement: (b, c, h, w) -> (b, c, h * factor, w * factor).

    By gathering columns, then rows: broadcasting over six axes takes many times as long on CPU.
    """
    if factor == 1:
        return x
    wide = ops.gather(x, _repeated(x.shape[3], factor), 3)
    return ops.gather(wide, _repeated(x.shape[2], factor), 2)
