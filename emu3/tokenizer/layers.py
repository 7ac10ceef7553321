"""Building blocks of the vision tokenizer (VQGAN family, Esser et al. 2021; MoVQ norms, 2022).

Shapes: b batch (times frames where a block is per frame), c channels, t frames, h w rows and
columns. Attribute names are the published tensor names.
"""

import itertools

import mindspore as ms
from mindspore import Tensor, nn, ops

from emu3.nn.conv import CausalConv3d, conv2d
from emu3.nn.dropout import Dropout
from emu3.nn.norms import BatchNorm3d, GroupNorm, swish

SCORES_AT_ONCE = 2**24  # 64 MB of float32: attention never holds a larger matrix


class SpatialNorm(nn.Cell):
    """Group norm whose scale and shift come from the codes (MoVQ, Zheng et al. 2022).

    The 1x1 convolutions run at latent size and are enlarged afterwards: exact, and much cheaper.
    """

    def __init__(self, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.norm_layer = GroupNorm(channels)
        self.conv_y = conv2d(latent_channels, channels, 1)
        self.conv_b = conv2d(latent_channels, channels, 1)

    def construct(self, x: Tensor, latent: Tensor, active: bool = False) -> Tensor:
        """`x` (b, c, h, w), `latent` (b, z, h / f, w / f) -> (b, c, h, w); swish if `active`."""
        return self.norm_layer.normalise(x, self.conv_y(latent), self.conv_b(latent), active)


class PlainNorm(GroupNorm):
    """Group norm with the call of `SpatialNorm`, for the encoder: the latent is ignored."""

    def construct(self, x: Tensor, latent: Tensor | None = None, active: bool = False) -> Tensor:
        """Normalise `x` (b, c, h, w); swish if `active`."""
        return self.normalise(x, None, None, active)


def make_norm(channels: int, latent_channels: int | None) -> nn.Cell:
    """The encoder's norm, or the decoder's when the latent width is given."""
    return SpatialNorm(channels, latent_channels) if latent_channels else PlainNorm(channels)


class ResnetBlock(nn.Cell):
    """norm, swish, 3x3 convolution, twice; 1x1 shortcut when the width changes."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        dropout: float = 0.0,
        latent_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = make_norm(channels_in, latent_channels)
        self.conv1 = conv2d(channels_in, channels_out)
        self.norm2 = make_norm(channels_out, latent_channels)
        self.dropout = Dropout(dropout)
        self.conv2 = conv2d(channels_out, channels_out)
        self.has_shortcut = channels_in != channels_out
        if self.has_shortcut:
            self.nin_shortcut = conv2d(channels_in, channels_out, 1)

    def construct(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        """(b, c, h, w) -> (b, c', h, w)."""
        y = self.conv1(self.norm1(x, latent, True))
        y = self.conv2(self.dropout(self.norm2(y, latent, True)))
        return (self.nin_shortcut(x) if self.has_shortcut else x) + y


class AttnBlock(nn.Cell):
    """Single-head self-attention over all h * w positions; softmax in float32.

    Queries go a few at a time where their scores would be large, which is exact.
    """

    def __init__(self, channels: int, latent_channels: int | None = None) -> None:
        super().__init__()
        self.norm = make_norm(channels, latent_channels)
        self.q = conv2d(channels, channels, 1)
        self.k = conv2d(channels, channels, 1)
        self.v = conv2d(channels, channels, 1)
        self.proj_out = conv2d(channels, channels, 1)
        self.scores = ops.BatchMatMul(transpose_a=True)
        self.mix = ops.BatchMatMul(transpose_b=True)

    def construct(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        b, c, h, w = x.shape
        y = self.norm(x, latent)
        q, k, v = (part(y).reshape(b, c, h * w) for part in (self.q, self.k, self.v))
        step = max(1, SCORES_AT_ONCE // (b * h * w))
        parts = [self._attend(q[:, :, i : i + step], k, v) for i in range(0, h * w, step)]
        mixed = parts[0] if len(parts) == 1 else ops.concat(parts, 2)
        return x + self.proj_out(mixed.reshape(b, c, h, w))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (b, c, n), k and v (b, c, h * w) -> (b, c, n)."""
        scores = ops.cast(self.scores(q, k), ms.float32) * (q.shape[1] ** -0.5)  # (b, n, h * w)
        weights = ops.cast(ops.softmax(scores, -1), v.dtype)
        return self.mix(v, weights)


class TemporalResnetBlock(nn.Cell):
    """Batch norm, swish, causal 3x3x3 convolution, twice, around an identity."""

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = BatchNorm3d(channels)
        self.conv1 = CausalConv3d(channels, channels, (3, 3, 3))
        self.norm2 = BatchNorm3d(channels)
        self.dropout = Dropout(dropout)
        self.conv2 = CausalConv3d(channels, channels, (3, 3, 3))

    def construct(self, x: Tensor) -> Tensor:
        """(b, c, t, h, w) -> the same shape."""
        y = self.conv1(swish(self.norm1(x)))
        return x + self.conv2(self.dropout(swish(self.norm2(y))))


class TemporalDownsample(nn.Cell):
    """Halve the number of frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, (4, 3, 3), (2, 1, 1))

    def construct(self, x: Tensor) -> Tensor:
        """(b, c, t, h, w) -> (b, c, t // 2, h, w)."""
        return self.conv(x)


class TemporalUpsample(nn.Cell):
    """Double the number of frames by nearest neighbour, then a causal convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, (3, 3, 3))

    def construct(self, x: Tensor) -> Tensor:
        """(b, c, t, h, w) -> (b, c, 2t, h, w)."""
        b, c, t, h, w = x.shape
        twice = ops.broadcast_to(x.reshape(b, c, t, 1, h * w), (b, c, t, 2, h * w))
        return self.conv(twice.reshape(b, c, 2 * t, h, w))


class Level(nn.Cell):
    """One resolution: residual blocks, attention after each where the config asks for it."""

    def __init__(
        self,
        widths: list[int],
        attention: bool,
        dropout: float = 0.0,
        latent_channels: int | None = None,
    ) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.block = nn.CellList([ResnetBlock(a, b, dropout, latent_channels) for a, b in pairs])
        self.has_attention = attention
        if attention:
            self.attn = nn.CellList([AttnBlock(b, latent_channels) for _, b in pairs])

    def construct(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        """(b, c, h, w) -> (b, c', h, w)."""
        for i, block in enumerate(self.block):
            x = block(x, latent)
            if self.has_attention:
                x = self.attn[i](x, latent)
        return x


class Middle(nn.Cell):
    """Residual block, attention, residual block, at the lowest resolution."""

    def __init__(self, channels: int, dropout: float, latent_channels: int | None = None) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, dropout, latent_channels)
        self.attn_1 = AttnBlock(channels, latent_channels)
        self.block_2 = ResnetBlock(channels, channels, dropout, latent_channels)

    def construct(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        """(b, c, h, w) -> the same shape."""
        return self.block_2(self.attn_1(self.block_1(x, latent), latent), latent)
