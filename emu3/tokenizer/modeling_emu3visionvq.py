"""The vision tokenizer: pixels to discrete codes and back, for pictures and clips.

Shapes: b batch, t frames, c channels, h w rows and columns of pixels; T, H, W the same counts in
codes (T = t / 4, H = h / 8, W = w / 8 in the released model). Pixels lie in about [-1, 1].
"""

from typing import ClassVar

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Uniform, initializer

from emu3.errors import InputError
from emu3.nn.conv import CausalConv3d, Downsample, Upsample, conv2d
from emu3.pretrained import PretrainedModel
from emu3.runtime import ONE_AT_A_TIME
from emu3.tokenizer.configuration_emu3visionvq import Emu3VisionVQConfig
from emu3.tokenizer.layers import (
    Level,
    Middle,
    TemporalDownsample,
    TemporalResnetBlock,
    TemporalUpsample,
    make_norm,
    swish,
)
from emu3.tokenizer.picture_options import PROCESSOR_FILE

DISTANCES_AT_ONCE = 2**22  # 16 MB of float32: the quantiser never holds a larger matrix
PIXELS_AT_ONCE = 2**18  # pixels that pass the 2-D nets together, if more than one frame


class Encoder(nn.Cell):
    """Frames to latents: a 2-D net per frame, then convolutions over time."""

    def __init__(self, config: Emu3VisionVQConfig) -> None:
        super().__init__()
        c, z, drop = config.widths, config.z_channels, config.dropout
        self.conv_in = conv2d(config.in_channels, config.ch)
        before = [config.ch, *c[:-1]]
        levels = []
        for i, width in enumerate(c):
            widths = [before[i]] + [width] * config.num_res_blocks
            level = Level(widths, i in config.attn_resolutions, drop)
            if i < len(c) - 1:
                level.downsample = Downsample(width)
            levels.append(level)
        self.down = nn.CellList(levels)
        self.mid = Middle(c[-1], drop)
        self.norm_out = make_norm(c[-1], None)
        self.conv_out = conv2d(c[-1], z)
        stages, blocks = range(config.temporal_stages), range(config.num_res_blocks)
        self.time_conv = nn.CellList([TemporalDownsample(z) for _ in stages])
        self.time_res_stack = nn.SequentialCell([TemporalResnetBlock(z, drop) for _ in blocks])

    def frames(self, x: Tensor) -> Tensor:
        """The 2-D part: (n, c, h, w) -> (n, z, H, W)."""
        x = self.conv_in(x)
        for i, level in enumerate(self.down):
            x = level(x)
            if i < len(self.down) - 1:
                x = level.downsample(x)
        return self.conv_out(self.norm_out(self.mid(x), None, True))

    def time(self, x: Tensor) -> Tensor:
        """The part over time: (b, z, t, H, W) -> (b, z, T, H, W)."""
        for conv in self.time_conv:
            x = swish(conv(x))
        return self.time_res_stack(x)


class Decoder(nn.Cell):
    """Latents to frames; every norm of the 2-D net is conditioned on the codes."""

    def __init__(self, config: Emu3VisionVQConfig) -> None:
        super().__init__()
        c, z, e, drop = config.widths, config.z_channels, config.embed_dim, config.dropout
        stages, blocks = range(config.temporal_stages), range(config.num_res_blocks)
        self.time_res_stack = nn.SequentialCell([TemporalResnetBlock(z, drop) for _ in blocks])
        self.time_conv = nn.CellList([TemporalUpsample(z) for _ in stages])
        self.conv_in = conv2d(z, c[-1])
        self.mid = Middle(c[-1], drop, e)
        after = [*c[1:], c[-1]]
        levels = []
        for i, width in enumerate(c):
            widths = [after[i]] + [width] * (config.num_res_blocks + 1)
            level = Level(widths, i in config.attn_resolutions, drop, e)
            if i > 0:
                level.upsample = Upsample(width)
            levels.append(level)
        self.up = nn.CellList(levels)
        self.norm_out = make_norm(c[0], e)
        self.conv_out = conv2d(c[0], config.out_channels)

    def time(self, x: Tensor) -> Tensor:
        """The part over time: (b, z, T, H, W) -> (b, z, t, H, W)."""
        x = self.time_res_stack(x)
        for conv in self.time_conv:
            x = swish(conv(x))
        return x

    def frames(self, x: Tensor, latent: Tensor) -> Tensor:
        """The 2-D part: two (n, z, H, W) -> (n, c, h, w)."""
        x = self.mid(self.conv_in(x), latent)
        for i in range(len(self.up) - 1, -1, -1):
            x = self.up[i](x, latent)
            if i > 0:
                x = self.up[i].upsample(x)
        return self.conv_out(self.norm_out(x, latent, True))


class CodeEmbedding(nn.Cell):
    """The codebook's table: `weight` (codes, e)."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        table = initializer(Uniform(1 / codes), (codes, width), ms.float32)
        self.weight = Parameter(table, name="weight")

    def construct(self, codes: Tensor) -> Tensor:
        """int32 (...) -> (..., e)."""
        return ops.gather(self.weight, codes, 0)


class VectorQuantizer(nn.Cell):
    """Nearest codebook entry by squared distance, in float32."""

    def __init__(self, config: Emu3VisionVQConfig) -> None:
        super().__init__()
        self.embedding = CodeEmbedding(config.codebook_size, config.embed_dim)
        self.product = ops.MatMul(transpose_b=True)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Codes int32 (n,) of `vectors` (n, e); first of equals. |x|^2 is constant: left out."""
        table = ops.cast(self.embedding.weight, ms.float32)
        scores = self.product(ops.cast(vectors, ms.float32), table * -2.0)
        return ops.cast(ops.argmin(scores + (table * table).sum(-1), axis=-1), ms.int32)

    def construct(self, vectors: Tensor) -> Tensor:
        """`nearest` in chunks, so that no large distance matrix is ever held."""
        rows = max(1, DISTANCES_AT_ONCE // self.embedding.weight.shape[0])
        count = vectors.shape[0]
        parts = [self.nearest(vectors[i : i + rows]) for i in range(0, count, rows)]
        return parts[0] if len(parts) == 1 else ops.concat(parts)


class Emu3VisionVQModel(PretrainedModel):
    """Encode pixels to codes and decode codes to pixels (Emu3, Wang et al. 2024)."""

    config_class = Emu3VisionVQConfig
    main_input_name = "pixel_values"
    path_flag = "--vq-model"
    side_files = (PROCESSOR_FILE,)
    # Ascend's 3-D convolution takes 16 bits only.
    ascend_dtypes: ClassVar = {
        ms.bfloat16: "",
        ms.float16: "the vision tokenizer was seen to fail in float16 on Ascend: use bfloat16",
    }

    def __init__(self, config: Emu3VisionVQConfig) -> None:
        super().__init__(config)
        z, e = config.z_channels, config.embed_dim
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = VectorQuantizer(config)
        self.quant_conv = CausalConv3d(z, e, (3, 1, 1))
        self.post_quant_conv = CausalConv3d(e, z, (3, 1, 1))
        self.spatial_scale_factor = config.spatial_scale_factor

    @property
    def dtype(self) -> ms.Type:
        """Dtype the network computes in."""
        return self.encoder.conv_in.weight.dtype

    def construct(
        self, pixels: Tensor, quantised: float | Tensor = 1.0
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The training forward (VQ-VAE, van den Oord et al. 2017), straight through the codes.

        Args:
            pixels: as in `encode`.
            quantised: 1 passes code vectors to the decoder, 0 the encoder's own (warm-up).

        Returns:
            Reconstruction (shape of `pixels`, whose frames must be a multiple of 4), codes (n,),
            encoder vectors (n, e), commitment loss and codebook loss (scalars, float32).
        """
        latent = self.encode_latent(pixels)
        b, e, t, h, w = latent.shape
        vectors = latent.transpose(0, 2, 3, 4, 1).reshape(-1, e)
        codes = self.quantize(ops.stop_gradient(vectors))
        nearest = self.quantize.embedding(codes)
        commitment = ((vectors - ops.stop_gradient(nearest)) ** 2).mean()
        codebook = ((ops.stop_gradient(vectors) - nearest) ** 2).mean()
        mixed = vectors + quantised * ops.stop_gradient(nearest - vectors)
        passed = mixed.reshape(b, t, h, w, e).transpose(0, 4, 1, 2, 3)
        still = pixels.ndim == 4
        return self.decode_latent(passed, still), codes, vectors, commitment, codebook

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels to codes.

        Args:
            pixels: pictures (b, c, h, w) or clips (b, t, c, h, w), in about [-1, 1].

        Returns:
            int32 codes (b, H, W) or (b, T, H, W).

        Raises:
            InputError: wrong rank, channels, or too few rows, columns or frames.
        """
        self._check_pixels(pixels)
        with ONE_AT_A_TIME:
            latent = self.encode_latent(ops.cast(pixels, self.dtype))
            return self.codes_of(latent, pixels.ndim == 4)

    def codes_of(self, latent: Tensor, still: bool) -> Tensor:
        """Nearest codes of vectors (b, e, T, H, W): (b, H, W) if `still`, else (b, T, H, W)."""
        b, e, t, h, w = latent.shape
        codes = self.quantize(latent.transpose(0, 2, 3, 4, 1).reshape(-1, e))
        return codes.reshape((b, h, w) if still else (b, t, h, w))

    def decode(self, codes: Tensor, before: int = 0) -> Tensor:
        """Codes to pixels.

        Args:
            codes: integers (b, H, W) of pictures or (b, T, H, W) of clips, in [0, codebook_size).
            before: first latent frames of clips that are seen, but not drawn.

        Returns:
            float32 (b, c, h, w) or (b, t, c, h, w), not clamped.

        Raises:
            InputError: wrong rank or a code outside the codebook.
        """
        with ONE_AT_A_TIME:
            self._check_codes(codes)
            codes = ops.cast(codes, ms.int32)
            clip = codes if codes.ndim == 4 else codes.expand_dims(1)
            latent = self.quantize.embedding(clip).transpose(0, 4, 1, 2, 3)  # (b, e, T, H, W)
            pixels = self.decode_latent(latent, codes.ndim == 3, before)
            return ops.cast(pixels, ms.float32)

    def encode_latent(self, pixels: Tensor) -> Tensor:
        """Pixels as in `encode` -> vectors (b, e, T, H, W) before quantisation.

        A picture stands for a clip of equal frames: the 2-D net sees it once, which is exact.
        """
        factor = self.config.temporal_downsample_factor
        if pixels.ndim == 4:
            still = _in_chunks(self.encoder.frames, pixels).expand_dims(2)
            b, z, _, h, w = still.shape
            x = ops.broadcast_to(still, (b, z, factor, h, w))
        else:
            b, t = pixels.shape[:2]
            flat = _in_chunks(self.encoder.frames, pixels.reshape(-1, *pixels.shape[2:]))
            x = flat.reshape(b, t, *flat.shape[1:]).transpose(0, 2, 1, 3, 4)
        return self.quant_conv(self.encoder.time(x))

    def decode_latent(self, latent: Tensor, still: bool, before: int = 0) -> Tensor:
        """Quantised vectors (b, e, T, H, W) -> pixels (b, c, h, w) if `still`, else of a clip.

        The frames of the first `before` latent frames of a clip are left out.

        Of a picture only frame 0 is wanted, so the 2-D net sees that one alone, which is exact.
        """
        b = latent.shape[0]
        x = self.decoder.time(ops.concat((self.post_quant_conv(latent), latent)))
        x = x.transpose(0, 2, 1, 3, 4)  # (2b, t, z, H, W)
        scale = self.spatial_scale_factor**2
        if still:
            return _in_chunks(self.decoder.frames, x[:b, 0], x[b:, 0], scale=scale)
        x = x[:, before * self.config.temporal_downsample_factor :]
        t = x.shape[1]
        z, zq = (half.reshape(b * t, *x.shape[2:]) for half in (x[:b], x[b:]))
        frames = _in_chunks(self.decoder.frames, z, zq, scale=scale)
        return frames.reshape(b, t, *frames.shape[1:])

    def _check_pixels(self, pixels: Tensor) -> None:
        config, factor = self.config, self.spatial_scale_factor
        if pixels.ndim not in (4, 5) or pixels.shape[-3] != config.in_channels:
            raise InputError(
                f"pixels have shape {pixels.shape}; allowed: (b, {config.in_channels}, h, w) or "
                f"(b, t, {config.in_channels}, h, w)"
            )
        if min(pixels.shape[-2:]) < factor:
            raise InputError(f"pixels have shape {pixels.shape}; h and w must be >= {factor}")
        if pixels.ndim == 5 and pixels.shape[1] < config.temporal_downsample_factor:
            least = config.temporal_downsample_factor
            raise InputError(f"a clip of {pixels.shape[1]} frames; at least {least} are needed")

    def _check_codes(self, codes: Tensor) -> None:
        if codes.ndim not in (3, 4):
            raise InputError(f"codes have shape {codes.shape}; allowed: (b, H, W), (b, T, H, W)")
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.config.codebook_size:
            raise InputError(
                f"codes span {low}..{high}; allowed: 0..{self.config.codebook_size - 1}"
            )


def _in_chunks(net, *inputs: Tensor, scale: int = 1) -> Tensor:
    """Apply a per-frame net to (n, ...) tensors a few frames at a time; joins the results."""
    n, pixels = inputs[0].shape[0], inputs[0].shape[2] * inputs[0].shape[3] * scale
    size = max(1, PIXELS_AT_ONCE // pixels)
    if n <= size:
        return net(*inputs)
    return ops.concat([net(*(x[i : i + size] for x in inputs)) for i in range(0, n, size)])
