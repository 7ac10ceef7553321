"""What a generation needs, before anything is allocated: `python -m emu3.cli.estimate`.

Sizes come from a folder's config.json, from a JSON file, or are those of the released models.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from emu3.cli import options as shared
from emu3.cli import shell
from emu3.errors import InputError
from emu3.loading import RELEASED, read_configs
from emu3.pipeline import PictureSize


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    model: str
    vq_model: str
    size: PictureSize
    answer_tokens: int | None
    prompt_tokens: int
    batch_size: int
    window: int
    tokens_per_step: float
    guidance: float
    dtype: str
    bandwidth: list[float] | None

    def __post_init__(self) -> None:
        if not 1 <= self.tokens_per_step <= self.window:
            raise InputError(
                f"{self.tokens_per_step:g} tokens per step with a window of {self.window}; "
                f"allowed: 1 to {self.window}; change --tokens-per-step or --window"
            )


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = shell.make_parser("estimate", "Say what a generation needs in memory and time.")
    for flag, what in (("--model", "language model"), ("--vq-model", "vision tokenizer")):
        parser.add_argument(
            flag,
            default=RELEASED,
            metavar="PATH",
            help=f"{what}: a folder, a hub id, a JSON file of sizes, or {RELEASED} "
            "(default: %(default)s)",
        )
    _add_work_options(parser.add_argument_group("work"))
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="bfloat16",
        help="of weights, cache and activations (default: %(default)s)",
    )
    parser.add_argument(
        "--bandwidth",
        type=shared.non_negative_float,
        action="append",
        metavar="GB/S",
        help="how fast the device reads memory, in 10^9 bytes a second; may be given several "
        "times (default: 1600, an Ascend 910B2)",
    )
    return parser


def _add_work_options(group: argparse._ArgumentGroup) -> None:
    shared.add_size_options(group)
    group.add_argument(
        "--answer-tokens",
        type=shared.positive_int,
        metavar="N",
        help="answers of so many tokens instead of pictures",
    )
    shared.add_numbers(
        group,
        ("--prompt-tokens", 64, "tokens of the prompt; an image in it counts too"),
        ("--batch-size", 1, "pictures or answers made together"),
        ("--window", 1, "places each step tries at once; 1 is plain decoding"),
    )
    group.add_argument(
        "--tokens-per-step",
        type=shared.non_negative_float,
        default=1.0,
        metavar="X",
        help="tokens a step accepts on average, from 1 to --window (default: %(default)s)",
    )
    shared.add_guidance_option(group, 3.0)


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
        guided=options.guidance != 1 and grid is not None,
        prompt=options.prompt_tokens,
        grid=grid,
        answer=options.answer_tokens or 0,
        scheme=Jacobi(options.window) if options.window > 1 else Plain(),
        accepted=options.tokens_per_step,
        width=WIDTHS[options.dtype],
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
        ("weights", f"{gib(needed.weights)} in {options.dtype}"),
        ("copies for decoding", f"{gib(needed.copies)}"),
        ("cache", f"{gib(needed.cache)}"),
        ("prefill", f"{gib(needed.prefill)} beside the weights"),
        ("decoding step", f"{gib(needed.decoding)} beside weights and cache"),
        ("pixels from codes", f"{gib(needed.picture)} beside weights and cache"),
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return shell.run_command(run, Options, build_parser(), arguments)


if __name__ == "__main__":
    shell.leave(main())
