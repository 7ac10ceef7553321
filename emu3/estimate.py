"""What a generation needs, by arithmetic alone: parameters, cache, peak memory, bytes, seconds.

Counts of parameters and of the cache are exact. The peak adds up the largest arrays that live at
one time, operators run one by one; imports, the allocator's reserve and small arrays are left out.
Seconds are a floor: bytes over bandwidth, as if nothing but reading memory took time.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from emu3.configfields import GROUP
from emu3.errors import InputError, gib
from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.mllm.generation.choosing import TOKENS_AT_ONCE
from emu3.mllm.generation.decoder import (
    CACHE_BYTES_KEPT,
    cache_bytes,
    cache_form,
    cache_slots,
    skips_unused,
    token_bytes,
)
from emu3.mllm.generation.prefill import CHUNK
from emu3.mllm.generation.schemes import Plain, Scheme
from emu3.mllm.generation.step_weights import FUSE_BELOW_BYTES
from emu3.mllm.vocabulary import Vocabulary
from emu3.names import WEIGHTS
from emu3.nn.conv import conv_kernel
from emu3.tokenizer.configuration_emu3visionvq import Emu3VisionVQConfig
from emu3.tokenizer.layers import SCORES_AT_ONCE
from emu3.tokenizer.modeling_emu3visionvq import DISTANCES_AT_ONCE

WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}  # bytes a number
# Of matrices on CPU, scales included, see emu3.nn.forms; the width computed in is float32's there.
FORM_WIDTHS = {"float32": 4, "bfloat16": 2, "int8": 1 + 4 / GROUP}
FLOAT32 = WIDTHS["float32"]
PLAIN = Plain()
SCORE_COPIES = 3  # scores, scores with their bias, softmax
LOGIT_COPIES = 4  # logits, guided logits, probabilities, their running sum
MAPS = 6  # feature maps of the widest block that live together while it runs; measured
MAPS_OF_KERNELS = 3  # with our kernels, which need no room of their own; measured


@dataclass(frozen=True)
class Work:
    """What is asked of the models.

    `grid` is latent (rows, columns) of each picture, or of each of a clip's `frames` latent frames
    that are to be made, or None for answers of `answer` tokens; each is the `best_of` so many;
    `prompt` tokens come first; `scheme` says how many places are tried per step, of which
    `accepted` become tokens on average; `width` is bytes per number of weights, cache and
    activations; `weights` is the form of emu3.nn.forms that the language model's matrices have
    instead, with `layers_only` (on Ascend) those of its layers.
    """

    sequences: int = 1
    best_of: int = 1
    guided: bool = True
    prompt: int = 64
    grid: tuple[int, int] | None = (90, 90)
    frames: int = 1
    answer: int = 0
    scheme: Scheme = PLAIN
    accepted: float = 1.0
    width: int = 2
    weights: str | None = None
    layers_only: bool = False

    @property
    def end_width(self) -> float:
        """Bytes per number of embedding and head."""
        return self.width if self.layers_only else self.matrix_width

    @property
    def matrix_width(self) -> float:
        """Bytes per number of the language model's matrices."""
        return self.width if self.weights is None else FORM_WIDTHS[self.weights]

    @property
    def stored(self) -> bool:
        """Whether the matrices are stored in fewer bits than are computed in."""
        return self.weights not in (None, "float32")

    @property
    def rows(self) -> int:
        """Sequences in the network: each candidate once, or twice with guidance."""
        return self.sequences * self.best_of * (2 if self.guided else 1)

    @property
    def window(self) -> int:
        """Places of each sequence that one run of the network takes."""
        return self.scheme.places(*self.grid, self.frames) if self.grid else 1

    @property
    def new_tokens(self) -> int:
        """Tokens made one after another; what is forced after a picture's last code costs none."""
        if self.grid is None:
            return self.answer
        return Vocabulary.row_start(*self.grid, self.frames * self.grid[0]) - 2

    @property
    def steps(self) -> int:
        """Passes of the network after the prefill, which gives the first token."""
        return math.ceil((self.new_tokens - 1) / self.accepted)


@dataclass(frozen=True)
class Estimate:
    """Bytes, unless a name says otherwise; `step` is what one decoding step reads on average.

    Of the cache `cache_kept` is there while codes become pixels; a `narrow_cache` is in bfloat16
    beside numbers of more bytes.
    """

    language_parameters: int
    vision_parameters: int
    weights: int
    copies: int
    cache: int
    cache_kept: int
    narrow_cache: bool
    prefill: int
    decoding: int
    choosing: int
    picture: int
    step_weights: int
    step_cache: int
    steps: int

    @property
    def peak(self) -> int:
        """Most memory in use at one time."""
        stages = (
            self.prefill,
            self.cache + max(self.decoding, self.choosing),
            self.cache_kept + self.picture,
        )
        return self.weights + self.copies + max(stages)

    @property
    def step(self) -> int:
        """Bytes read per decoding step, a mean over the generation."""
        return self.step_weights + self.step_cache

    def seconds(self, bandwidth: float) -> float:
        """Decoding time at `bandwidth` bytes per second."""
        return self.steps * self.step / bandwidth


def estimate(config: Emu3Config, vision: Emu3VisionVQConfig, work: Work) -> Estimate:
    """The needs of `work` with a language model and a vision tokenizer of these sizes."""
    candidates = head_candidates(config, work)
    norms, layers = language_norms(config), block_matrices(config)
    ends = language_parameters(config) - norms - layers
    layer_bytes = int(layers * work.matrix_width)
    filled = work.prompt + work.new_tokens / 2
    return Estimate(
        language_parameters=language_parameters(config),
        vision_parameters=vision_parameters(vision),
        weights=layer_bytes
        + int(ends * work.end_width)
        + (norms + vision_parameters(vision)) * work.width,
        copies=copied_bytes(config, work),
        cache=cache_peak(config, work),
        cache_kept=min(cache_peak(config, work), CACHE_BYTES_KEPT),
        narrow_cache=cache_width(config, work) < work.width,
        prefill=prefill_bytes(config, work),
        choosing=choosing_bytes(config, work),
        decoding=decoding_bytes(config, work),
        picture=picture_bytes(vision, work),
        step_weights=layer_bytes
        + int(candidates * config.hidden_size * work.end_width)
        + norms * work.width,
        step_cache=int(work.rows * filled * token_bytes(config, cache_width(config, work))),
        steps=work.steps,
    )


def block_parameters(config: Emu3Config) -> int:
    """Parameters of all decoder layers and of the final norm."""
    width, groups = config.hidden_size, config.num_key_value_heads * config.head_dim
    attention = 2 * width * width + 2 * width * groups
    layer = attention + 3 * width * config.intermediate_size + 2 * width
    return config.num_hidden_layers * layer + width


def language_norms(config: Emu3Config) -> int:
    """Parameters of the norms."""
    return (2 * config.num_hidden_layers + 1) * config.hidden_size


def block_matrices(config: Emu3Config) -> int:
    """Parameters of the matrices of all decoder layers."""
    return block_parameters(config) - language_norms(config)


def language_parameters(config: Emu3Config) -> int:
    """Parameters of the language model, embedding and untied head included."""
    return block_parameters(config) + 2 * config.vocab_size * config.hidden_size


def head_candidates(config: Emu3Config, work: Work) -> int:
    """Rows of the head a step reads: the visual ids for pictures, all for answers."""
    return Vocabulary.from_config(config).visual_count if work.grid else config.vocab_size


def cache_sizes(work: Work) -> list[int]:
    """Slots of the caches that the work goes through."""
    spare = work.scheme.spare_slots(work.window)
    known = work.grid is not None
    return cache_slots(work.prompt, work.new_tokens, spare, known, skips_unused(work.stored))


def cache_width(config: Emu3Config, work: Work) -> int:
    """Bytes per number of the cache."""
    form = cache_form(config, work.stored, work.rows, cache_sizes(work)[-1])
    return WIDTHS[form] if form != "float32" else work.width


def cache_peak(config: Emu3Config, work: Work) -> int:
    """The largest cache, with the one before it from which it is filled."""
    width, sizes = cache_width(config, work), cache_sizes(work)
    return sum(cache_bytes(config, work.rows, slots, width) for slots in sizes[-2:])


def copied_bytes(config: Emu3Config, work: Work) -> int:
    """Weights the decoding step keeps a second time: joined matrices, cut-out rows of the head."""
    width, groups = config.hidden_size, config.num_key_value_heads * config.head_dim
    joined = width * (width + 2 * groups) + 2 * width * config.intermediate_size
    blocks = (block_parameters(config) - width) * work.width
    fused = blocks <= FUSE_BELOW_BYTES and work.matrix_width == work.width
    copies = config.num_hidden_layers * joined * work.width if fused else 0
    candidates = head_candidates(config, work)
    if candidates < config.vocab_size:
        copies += candidates * width * work.end_width
    return int(copies)


def prefill_bytes(config: Emu3Config, work: Work) -> int:
    """Largest arrays while the prompts run: each layer's input, cache, scores, inside of the MLP.

    Every prompt counts as different; equal ones, such as one negative prompt for all, run once.
    """
    rows, chunk = work.rows, min(work.prompt, CHUNK)
    states = config.num_hidden_layers * rows * chunk * config.hidden_size * work.width
    scores = rows * config.num_attention_heads * chunk * work.prompt * FLOAT32 * SCORE_COPIES
    inside = 3 * rows * chunk * config.intermediate_size * work.width
    cache = cache_bytes(config, rows, work.prompt, work.width)
    return states + max(scores, inside) + 2 * cache


def choosing_bytes(config: Emu3Config, work: Work) -> int:
    """Largest arrays while candidates are judged, prompt and all; 0 where there is one."""
    if work.best_of == 1:
        return 0
    length = work.prompt + work.new_tokens
    rows = min(work.best_of, max(1, TOKENS_AT_ONCE // length))
    one = replace(work, sequences=rows, best_of=1, guided=False, prompt=length)
    return prefill_bytes(config, one)


def decoding_bytes(config: Emu3Config, work: Work) -> int:
    """Largest arrays of one step beside weights and cache."""
    rows = work.rows * work.window
    slots = work.prompt + work.new_tokens
    logits = rows * head_candidates(config, work) * FLOAT32 * LOGIT_COPIES
    scores = rows * config.num_attention_heads * slots * FLOAT32 * SCORE_COPIES
    return logits + scores + 3 * rows * config.intermediate_size * work.width


def picture_bytes(config: Emu3VisionVQConfig, work: Work) -> int:
    """Largest arrays while one picture's codes become pixels; 0 without pictures."""
    return vision_bytes(config, work.grid, work.width) if work.grid else 0


def vision_bytes(config: Emu3VisionVQConfig, grid: tuple[int, int], width: int) -> int:
    """Largest arrays of the vision tokenizer for one frame of latent (rows, columns)."""
    pixels = grid[0] * grid[1] * config.spatial_scale_factor**2
    after = [*config.widths[1:], config.widths[-1]]
    maps = max(
        max(channels, wide) * pixels // 4**level
        for level, (channels, wide) in enumerate(zip(config.widths, after))
    )
    scores = min((grid[0] * grid[1]) ** 2, SCORES_AT_ONCE)
    codes = min(grid[0] * grid[1] * config.codebook_size, DISTANCES_AT_ONCE)
    kernels = width == FLOAT32 and conv_kernel() is not None
    held = (MAPS_OF_KERNELS if kernels else MAPS) * maps * width
    return max(held, SCORE_COPIES * scores * FLOAT32, 2 * codes * FLOAT32)


def vision_parameters(config: Emu3VisionVQConfig) -> int:
    """Parameters of the vision tokenizer; running statistics are not among them."""
    z, e, wide = config.z_channels, config.embed_dim, config.widths
    n, stages = config.num_res_blocks, config.temporal_stages
    encoder = _conv(config.in_channels, config.ch) + _conv(wide[-1], z) + 2 * wide[-1]
    encoder += _levels(config, [config.ch, *wide[:-1]], n, None) + _middle(wide[-1], None)
    encoder += sum(_conv(c, c) for c in wide[:-1])
    decoder = _conv(z, wide[-1]) + _conv(config.ch * config.ch_mult[0], config.out_channels)
    decoder += _levels(config, [*wide[1:], wide[-1]], n + 1, e) + _middle(wide[-1], e)
    decoder += sum(_conv(c, c) for c in wide[1:]) + _norm(wide[0], e)
    temporal = n * 2 * (2 * z + _conv(z, z, 27))
    encoder += stages * _conv(z, z, 36) + temporal
    decoder += stages * _conv(z, z, 27) + temporal
    return encoder + decoder + config.codebook_size * e + _conv(z, e, 3) + _conv(e, z, 3)


def _conv(inputs: int, outputs: int, taps: int = 9) -> int:
    return inputs * outputs * taps + outputs


def _norm(channels: int, latent: int | None) -> int:
    return 2 * channels + (2 * _conv(latent, channels, 1) if latent else 0)


def _residual(inputs: int, outputs: int, latent: int | None) -> int:
    shortcut = _conv(inputs, outputs, 1) if inputs != outputs else 0
    norms = _norm(inputs, latent) + _norm(outputs, latent)
    return norms + _conv(inputs, outputs) + _conv(outputs, outputs) + shortcut


def _attention(channels: int, latent: int | None) -> int:
    return _norm(channels, latent) + 4 * _conv(channels, channels, 1)


def _middle(channels: int, latent: int | None) -> int:
    return 2 * _residual(channels, channels, latent) + _attention(channels, latent)


def _levels(config: Emu3VisionVQConfig, before: list[int], blocks: int, latent: int | None) -> int:
    total = 0
    for level, (first, wide) in enumerate(zip(before, config.widths)):
        pairs = pairwise([first] + [wide] * blocks)
        total += sum(_residual(a, b, latent) for a, b in pairs)
        if level in config.attn_resolutions:
            total += blocks * _attention(wide, latent)
    return total


def fitting_weights(
    config: Emu3Config,
    vision: Emu3VisionVQConfig,
    work: Work,
    available: int | None,
    asked: str | None,
    flags: str = "--image-area or --model",
) -> str:
    """The form for the language model's matrices on CPU with which `work` fits: the one asked for,
    or the first of float32, bfloat16, int8.

    Raises:
        InputError: gives the estimate, and the form that fits or, without one, the largest batch.
    """
    forms = ("int8",) if config.quantised else WEIGHTS
    needs = {f: estimate(config, vision, replace(work, weights=f)).peak for f in forms}
    fitting = [form for form in forms if available is None or needs[form] <= available]
    if asked is not None and asked not in forms:
        raise InputError(f"weights {asked}; allowed for this model: int8; change --weights")
    if asked in fitting:
        return asked
    if not fitting:
        check_fits(config, vision, replace(work, weights=asked or forms[-1]), available, flags)
    if asked is not None:
        raise InputError(
            f"weights in {asked} need about {gib(needs[asked])} of memory with all else, "
            f"{gib(available)} are free; allowed: {fitting[0]}, with about "
            f"{gib(needs[fitting[0]])}; change --weights"
        )
    return fitting[0]


def check_fits(
    config: Emu3Config,
    vision: Emu3VisionVQConfig,
    work: Work,
    available: int | None,
    flags: str = "--image-area or --model",
) -> None:
    """Refuse work whose peak exceeds `available` bytes; None means nobody knows, and passes.

    Raises:
        InputError: gives the estimate and the largest batch that fits.
    """
    needed = estimate(config, vision, work)
    if available is None or needed.peak <= available:
        return

    def most(name: str) -> int:
        """The largest smaller number of `name` with which it fits; 0 for none."""
        for number in range(getattr(work, name) - 1, 0, -1):
            smaller = replace(work, **{name: number})
            if estimate(config, vision, smaller).peak <= available:
                return number
        return 0

    if fitting := most("sequences"):
        allowed = f"up to {fitting} together; change --batch-size"
        more = {"--window": work.window > 1, "--best-of": work.best_of > 1}
        allowed += "".join(f" or {flag}" for flag, there in more.items() if there)
    elif fitting := most("best_of"):
        allowed = f"up to {fitting} candidates; change --best-of"
    else:
        allowed = f"a smaller picture, prompt or model, or more memory; change {flags}"
    raise InputError(
        f"{work.sequences} sequence(s) in {work.rows * work.window} rows need about "
        f"{gib(needed.peak)} of memory (weights {gib(needed.weights + needed.copies)}, cache "
        f"{gib(needed.cache)}), {gib(available)} are free; allowed: {allowed}"
    )
