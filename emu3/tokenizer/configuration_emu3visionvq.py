"""Configuration of the vision tokenizer."""

from math import ceil

from transformers import PretrainedConfig

from emu3.configfields import extra_fields
from emu3.errors import InputError, shown


class Emu3VisionVQConfig(PretrainedConfig):
    """Sizes of the vision tokenizer; the defaults are those of BAAI/Emu3-VisionTokenizer.

    Args:
        codebook_size: number of codes.
        embed_dim: width of a code vector.
        z_channels: encoder output and decoder input channels.
        double_z: doubles the encoder's output only; nothing downstream supports True.
        in_channels, out_channels: colour channels.
        temporal_downsample_factor: frames per latent frame, a power of two.
        ch: base width, a multiple of 32 (group norm has 32 groups).
        ch_mult: width multipliers, one a level; each level but the last halves the picture.
        num_res_blocks: encoder blocks per level; the decoder has one more.
        attn_resolutions: indices of the levels that have attention; by default 3, if it exists.
        dropout: dropout inside residual blocks, in training.
        clip_frames: frames of a clip coded together; where they are more than those of one latent
            frame, the default, each is drawn with those before it in view. Ours; no sizes depend
            on it.

    Raises:
        InputError: a value is impossible.
    """

    model_type = "Emu3VisionVQ"

    def __init__(
        self,
        codebook_size: int = 32768,
        embed_dim: int = 4,
        z_channels: int = 4,
        double_z: bool = False,
        in_channels: int = 3,
        out_channels: int = 3,
        temporal_downsample_factor: int = 4,
        ch: int = 256,
        ch_mult: list[int] | None = None,
        num_res_blocks: int = 2,
        attn_resolutions: list[int] | None = None,
        dropout: float = 0.0,
        clip_frames: int | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(**extra_fields(type(self), kwargs))
        self.codebook_size = codebook_size
        self.embed_dim = embed_dim
        self.z_channels = z_channels
        self.double_z = double_z
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.temporal_downsample_factor = temporal_downsample_factor
        self.ch = ch
        self.ch_mult = [1, 2, 2, 4] if ch_mult is None else ch_mult
        self.num_res_blocks = num_res_blocks
        self.attn_resolutions = attn_resolutions
        self.dropout = dropout
        self.clip_frames = clip_frames
        self._validate_sizes()
        self._validate_levels()

    @property
    def spatial_scale_factor(self) -> int:
        """Pixels per code along each side."""
        return 2 ** (len(self.ch_mult) - 1)

    @property
    def temporal_stages(self) -> int:
        """How often time is halved."""
        return self.temporal_downsample_factor.bit_length() - 1

    @property
    def latents_back(self) -> int:
        """How many latent frames before its own the decoder sees of a frame.

        Kernels over time hold three, so each looks two back: one before the residual blocks, two
        in each, and one a doubling, whose frames are 1/2, 1/4, ... of a latent frame.
        """
        doubled = sum(2 / 2**stage for stage in range(1, self.temporal_stages + 1))
        return 2 + 4 * self.num_res_blocks + ceil(doubled)

    @property
    def least_tensors(self) -> int:
        """A lower bound of the tensors of a model: eight a residual block, two a step in time."""
        blocks = len(self.ch_mult) * (2 * self.num_res_blocks + 1)
        return 8 * blocks + 4 * self.temporal_stages

    @property
    def widths(self) -> list[int]:
        """Channels of each level."""
        return [self.ch * m for m in self.ch_mult]

    def _validate_sizes(self) -> None:
        sizes = "codebook_size embed_dim z_channels in_channels out_channels num_res_blocks"
        for name in sizes.split():
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{name} is {shown(value)}; it must be a whole number >= 1")
        if not isinstance(self.ch, int) or self.ch < 32 or self.ch % 32:
            raise InputError(f"ch is {shown(self.ch)}; it must be a positive multiple of 32")
        factor = self.temporal_downsample_factor
        if not isinstance(factor, int) or factor < 1 or factor & (factor - 1):
            raise InputError(
                f"temporal_downsample_factor is {shown(factor)}; it must be a power of 2"
            )
        together = factor if self.clip_frames is None else self.clip_frames
        if type(together) is not int or together < 1 or together % factor:
            raise InputError(
                f"clip_frames is {shown(together)}; it must be a multiple of {factor} frames"
            )
        if self.double_z:
            raise InputError("double_z is True; only False is supported")
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {shown(self.dropout)}; it must be a number in [0, 1)")

    def _validate_levels(self) -> None:
        if not self.ch_mult or not _whole_numbers(self.ch_mult, 1):
            raise InputError(f"ch_mult is {shown(self.ch_mult)}; it must list whole numbers >= 1")
        self.ch_mult = list(self.ch_mult)
        last = len(self.ch_mult) - 1
        if self.attn_resolutions is None:
            self.attn_resolutions = [3] if last >= 3 else []
        levels = self.attn_resolutions
        if not _whole_numbers(levels, 0) or any(level > last for level in levels):
            raise InputError(
                f"attn_resolutions is {shown(levels)}; it must list levels of ch_mult, 0..{last}"
            )
        self.attn_resolutions = list(levels)


def _whole_numbers(values: object, least: int) -> bool:
    """Whether `values` is a list of whole numbers from `least`."""
    return isinstance(values, list | tuple) and all(type(v) is int and v >= least for v in values)
