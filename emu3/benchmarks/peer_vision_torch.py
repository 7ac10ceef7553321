"""PyTorch's side of the vision benchmarks: the same network under the published names.

It works the reference's way: a picture is a clip of four equal frames which all pass the whole
network, the conditioned norms enlarge the codes before their 1x1 convolutions, and distances to
all codes stand in one matrix.

Shapes: b batch, t frames, c channels, h w rows and columns; T, H, W the same counts in codes.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from emu3.benchmarks.measure import peak_above


def swish(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return x * torch.sigmoid(x)


class CausalConv3d(nn.Module):
    """Two zero frames in front, none behind; rows and columns keep their length."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple, stride: tuple = (1, 1, 1)) -> None:
        super().__init__()
        side_h, side_w = kernel[1] // 2, kernel[2] // 2
        self.padding = (side_w, side_w, side_h, side_h, 2, 0)
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.pad(x, self.padding))


class SpatialNorm(nn.Module):
    """Group norm scaled and shifted by the codes."""

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        self.norm_layer = nn.GroupNorm(32, channels, eps=1e-6)
        self.conv_y = nn.Conv2d(latent, channels, 1)
        self.conv_b = nn.Conv2d(latent, channels, 1)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        wide = functional.interpolate(latent, size=x.shape[-2:], mode="nearest")
        return self.norm_layer(x) * self.conv_y(wide) + self.conv_b(wide)


class PlainNorm(nn.GroupNorm):
    """Group norm with the call of SpatialNorm."""

    def forward(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        return super().forward(x)


def make_norm(channels: int, latent: int | None) -> nn.Module:
    """The encoder's norm, or the decoder's when the latent width is given."""
    return SpatialNorm(channels, latent) if latent else PlainNorm(32, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """norm, swish, 3x3 convolution, twice; 1x1 shortcut when the width changes."""

    def __init__(self, inputs: int, outputs: int, latent: int | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = make_norm(inputs, latent), make_norm(outputs, latent)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        y = self.conv1(swish(self.norm1(x, latent)))
        y = self.conv2(swish(self.norm2(y, latent)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + y


class AttnBlock(nn.Module):
    """Single-head self-attention over all places."""

    def __init__(self, channels: int, latent: int | None) -> None:
        super().__init__()
        self.norm = make_norm(channels, latent)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        y = self.norm(x, latent)
        q, k, v = (part(y).flatten(2) for part in (self.q, self.k, self.v))
        weights = (q.transpose(1, 2) @ k * x.shape[1] ** -0.5).softmax(-1)
        return x + self.proj_out((v @ weights.transpose(1, 2)).reshape(x.shape))


class TemporalResnetBlock(nn.Module):
    """Batch norm, swish, causal convolution, twice, around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm3d(channels), nn.BatchNorm3d(channels)
        self.conv1, self.conv2 = (CausalConv3d(channels, channels, (3, 3, 3)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(swish(self.norm1(x)))
        return x + self.conv2(swish(self.norm2(y)))


class TimeConv(nn.Module):
    """A convolution over time that halves it, or doubles it first."""

    def __init__(self, channels: int, down: bool) -> None:
        super().__init__()
        self.down = down
        size = ((4, 3, 3), (2, 1, 1)) if down else ((3, 3, 3), (1, 1, 1))
        self.conv = CausalConv3d(channels, channels, *size)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.down else x.repeat_interleave(2, dim=2))


class Resample(nn.Module):
    """Halve rows and columns, or double them."""

    def __init__(self, channels: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv = nn.Conv2d(channels, channels, 3, 2 if down else 1, 0 if down else 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            return self.conv(functional.pad(x, (0, 1, 0, 1)))
        return self.conv(functional.interpolate(x, scale_factor=2, mode="nearest"))


class Level(nn.Module):
    """One resolution."""

    def __init__(self, widths: list[int], attention: bool, latent: int | None) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.block = nn.ModuleList([ResnetBlock(a, b, latent) for a, b in pairs])
        self.attn = nn.ModuleList([AttnBlock(b, latent) for _, b in pairs if attention])

    def forward(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x, latent)
            if self.attn:
                x = self.attn[i](x, latent)
        return x


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, latent: int | None) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, latent)
        self.attn_1 = AttnBlock(channels, latent)
        self.block_2 = ResnetBlock(channels, channels, latent)

    def forward(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x, latent), latent), latent)


class Coder(nn.Module):
    """What encoder and decoder share: their temporal stack."""

    def __init__(self, config: dict, down: bool) -> None:
        super().__init__()
        z, stages = config["z_channels"], config["temporal_downsample_factor"].bit_length() - 1
        blocks = range(config["num_res_blocks"])
        self.time_conv = nn.ModuleList([TimeConv(z, down) for _ in range(stages)])
        self.time_res_stack = nn.Sequential(*(TemporalResnetBlock(z) for _ in blocks))


class Encoder(Coder):
    """Frames (b, t, c, h, w) to latents (b, z, T, H, W)."""

    def __init__(self, config: dict) -> None:
        super().__init__(config, down=True)
        wide = [config["ch"] * m for m in config["ch_mult"]]
        self.conv_in = nn.Conv2d(config["in_channels"], config["ch"], 3, padding=1)
        before, self.down = [config["ch"], *wide[:-1]], nn.ModuleList()
        for i, width in enumerate(wide):
            widths = [before[i]] + [width] * config["num_res_blocks"]
            level = Level(widths, i in config["attn_resolutions"], None)
            if i < len(wide) - 1:
                level.downsample = Resample(width, down=True)
            self.down.append(level)
        self.mid, self.norm_out = Middle(wide[-1], None), make_norm(wide[-1], None)
        self.conv_out = nn.Conv2d(wide[-1], config["z_channels"], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, t = x.shape[:2]
        x = self.conv_in(x.flatten(0, 1))
        for level in self.down:
            x = level(x)
            if hasattr(level, "downsample"):
                x = level.downsample(x)
        x = self.conv_out(swish(self.norm_out(self.mid(x))))
        x = x.unflatten(0, (b, t)).transpose(1, 2)
        for conv in self.time_conv:
            x = swish(conv(x))
        return self.time_res_stack(x)


class Decoder(Coder):
    """Latents and codes' vectors (b, z, T, H, W) to frames (b, t, c, h, w)."""

    def __init__(self, config: dict) -> None:
        super().__init__(config, down=False)
        wide, e = [config["ch"] * m for m in config["ch_mult"]], config["embed_dim"]
        self.conv_in = nn.Conv2d(config["z_channels"], wide[-1], 3, padding=1)
        self.mid, after, self.up = Middle(wide[-1], e), [*wide[1:], wide[-1]], nn.ModuleList()
        for i, width in enumerate(wide):
            widths = [after[i]] + [width] * (config["num_res_blocks"] + 1)
            level = Level(widths, i in config["attn_resolutions"], e)
            if i > 0:
                level.upsample = Resample(width, down=False)
            self.up.append(level)
        self.norm_out = make_norm(wide[0], e)
        self.conv_out = nn.Conv2d(wide[0], config["out_channels"], 3, padding=1)

    def forward(self, z: Tensor, latent: Tensor) -> Tensor:
        b = len(z)
        x = self.time_res_stack(torch.cat((z, latent)))
        for conv in self.time_conv:
            x = swish(conv(x))
        t = x.shape[2]
        x, latent = (half.transpose(1, 2).flatten(0, 1) for half in x.chunk(2))
        x = self.mid(self.conv_in(x), latent)
        for level in reversed(self.up):
            x = level(x, latent)
            if hasattr(level, "upsample"):
                x = level.upsample(x)
        return self.conv_out(swish(self.norm_out(x, latent))).unflatten(0, (b, t))


class Vision(nn.Module):
    """Pixels to codes and back."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        z, e = config["z_channels"], config["embed_dim"]
        self.factor = config["temporal_downsample_factor"]
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(config["codebook_size"], e)
        self.quant_conv = CausalConv3d(z, e, (3, 1, 1))
        self.post_quant_conv = CausalConv3d(e, z, (3, 1, 1))

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures (b, c, h, w) or clips (b, t, c, h, w) -> codes (b, H, W) or (b, T, H, W)."""
        still = pixels.ndim == 4
        clip = pixels[:, None].repeat(1, self.factor, 1, 1, 1) if still else pixels
        latent = self.quant_conv(self.encoder(clip)).permute(0, 2, 3, 4, 1)
        vectors, table = latent.reshape(-1, latent.shape[-1]), self.quantize.embedding.weight
        distances = (vectors**2).sum(1, keepdim=True) + (table**2).sum(1) - 2 * vectors @ table.T
        codes = distances.argmin(1).reshape(latent.shape[:-1])
        return codes[:, 0] if still else codes

    def decode(self, codes: Tensor) -> Tensor:
        """The reverse."""
        still = codes.ndim == 3
        latent = self.quantize.embedding(codes[:, None] if still else codes).permute(0, 4, 1, 2, 3)
        frames = self.decoder(self.post_quant_conv(latent), latent)
        return frames[:, 0] if still else frames


@torch.inference_mode()
def vision(settings: dict, folder: Path, turn: Callable[..., str]) -> None:
    """Answer "memory", "encode" and "decode" until nobody asks."""
    model = Vision(settings["config"])
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    model.eval()
    pixels = load_file(folder / "pixels.safetensors")["pixels"]
    codes = torch.zeros(0)

    def both() -> None:
        nonlocal codes
        codes = model.encode(pixels)
        model.decode(codes)

    word = turn(ready=True)
    while True:
        if word == "memory":
            word = turn(bytes=peak_above(both), codes=codes.flatten().tolist())
            continue
        began = time.perf_counter()
        model.encode(pixels) if word == "encode" else model.decode(codes)
        word = turn(seconds=time.perf_counter() - began)
