"""What a generation needs, before anything is allocated: `python -m emu3.cli.estimate`.

Sizes come from a folder's config.json, from a JSON file, or are those of the released models.
"""

from dataclasses import dataclass

from emu3.cli import shell
from emu3.errors import InputError
from emu3.loading import RELEASED, read_configs
from emu3.names import WEIGHTS
from emu3.options import (
    MOST_CANDIDATES,
    group,
    guidance_number,
    non_negative_float,
    option,
    path_text,
    positive_int,
    whole,
)
from emu3.pipeline import PictureSize

PLACES = f"a folder, a hub id, a JSON file of sizes, or {RELEASED}"


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    model: str = option(f"language model: {PLACES}", RELEASED, path_text, metavar="PATH")
    vq_model: str = option(f"vision tokenizer: {PLACES}", RELEASED, path_text, metavar="PATH")
    size: PictureSize = group()
    answer_tokens: int | None = option(
        "answers of so many tokens instead of pictures (default: pictures)", None, positive_int
    )
    prompt_tokens: int = option("tokens of the prompt; an image in it counts too", 64, positive_int)
    batch_size: int = option("pictures or answers made together", 1, positive_int)
    best_of: int = option("candidates of each picture", 1, whole(1, MOST_CANDIDATES), metavar="N")
    window: int = option("places each step tries at once; 1 is plain decoding", 1, positive_int)
    tokens_per_step: float = option(
        "tokens a step accepts on average, from 1 to --window", 1.0, non_negative_float
    )
    guidance: float = option(
        "1 runs one row per picture, anything else two; answers have no guidance",
        3.0,
        guidance_number,
    )
    dtype: str = option(
        "of weights, cache and activations", "bfloat16", choices=("float32", "float16", "bfloat16")
    )
    weights: str | None = option(
        "what the language model's matrices are stored as on CPU: float32, bfloat16, or int8, "
        "approximate; --dtype is float32 then (default: as --dtype)",
        None,
        choices=WEIGHTS,
    )
    bandwidth: list[float] | None = option(
        "how fast the device reads memory, in 10^9 bytes a second; may be given several times "
        "(default: 1600, an Ascend 910B2)",
        None,
        non_negative_float,
        metavar="GB/S",
    )

    def __post_init__(self) -> None:
        if not 1 <= self.tokens_per_step <= self.window:
            raise InputError(
                f"{self.tokens_per_step:g} tokens per step with a window of {self.window}; "
                f"allowed: 1 to {self.window}; change --tokens-per-step or --window"
            )


def run(options: Options) -> None:
    """Print the estimate."""
    from emu3.estimate import estimate

    config, vision = read_configs(options.model, options.vq_model)
    work = work_of(options, config, vision)
    for line in lines(estimate(config, vision, work), work, vision, options):
        print(line)


def work_of(options: Options, config, vision):
    """What the options ask for.

    Raises:
        InputError: a size that cannot be.
    """
    from emu3.estimate import WIDTHS, Work
    from emu3.mllm.generation.schemes import Jacobi, Plain

    grid = None
    if options.answer_tokens is None:
        (grid,) = options.size.grids(1, config.image_area, vision.spatial_scale_factor)
    return Work(
        sequences=options.batch_size,
        best_of=options.best_of if grid else 1,
        guided=options.guidance != 1 and grid is not None,
        prompt=options.prompt_tokens,
        grid=grid,
        answer=options.answer_tokens or 0,
        scheme=Jacobi(options.window) if options.window > 1 else Plain(),
        accepted=options.tokens_per_step,
        width=WIDTHS["float32" if options.weights else options.dtype],
        weights=options.weights,
    )


def lines(needed, work, vision, options: Options) -> list[str]:
    """The estimate in words, a line a quantity."""
    from emu3.estimate import gib

    what = f"{work.new_tokens} tokens"
    if work.grid:
        rows, columns = work.grid
        factor = vision.spatial_scale_factor
        what = f"{columns * factor}x{rows * factor} pixels, {rows}x{columns} codes, {what}"
    text = [
        ("language model", f"{needed.language_parameters:,} parameters"),
        ("vision tokenizer", f"{needed.vision_parameters:,} parameters"),
        ("work", f"{work.sequences} x {what} after {work.prompt} of the prompt"),
        ("rows in the network", f"{work.rows} x window {work.window}"),
        ("weights", f"{gib(needed.weights)} in {options.weights or options.dtype}"),
        ("copies for decoding", f"{gib(needed.copies)}"),
        ("cache", f"{gib(needed.cache)}{', kept in bfloat16' if needed.narrow_cache else ''}"),
        ("prefill", f"{gib(needed.prefill)} beside the weights"),
        ("decoding step", f"{gib(needed.decoding)} beside weights and cache"),
        ("judging candidates", f"{gib(needed.choosing)} beside weights and cache"),
        ("pixels from codes", f"{gib(needed.picture)} beside the weights"),
        ("peak memory", f"{gib(needed.peak)}"),
        (
            "read per step",
            f"{needed.step / 1e9:.3f} GB: weights {needed.step_weights / 1e9:.3f}, "
            f"cache {needed.step_cache / 1e9:.3f} on average",
        ),
        ("steps", f"{needed.steps} after the prefill"),
    ]
    for bandwidth in options.bandwidth or [1600.0]:
        seconds = needed.seconds(max(bandwidth, 1e-9) * 1e9)
        per_step = seconds / max(needed.steps, 1)
        text.append(
            (f"at {bandwidth:g} GB/s", f"{per_step * 1e3:.3f} ms a step, {seconds:.1f} s at least")
        )
    return [f"{name:<22}{value}" for name, value in text]


build_parser, main = shell.command(
    "emu3.cli.estimate", "Say what a generation needs in memory and time.", Options, run
)

if __name__ == "__main__":
    shell.leave(main())
