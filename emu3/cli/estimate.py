"""What a generation needs, before anything is allocated: `python -m emu3.cli.estimate`.

Sizes come from a folder's config.json, from a JSON file, or are those of the released models.
"""

import argparse
from collections.abc import Sequence

from emu3.cli import common, flags
from emu3.errors import InputError

RELEASED = "released"
WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = common.make_parser("estimate", "Say what a generation needs in memory and time.")
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
        choices=list(WIDTHS),
        default="bfloat16",
        help="of weights, cache and activations (default: %(default)s)",
    )
    parser.add_argument(
        "--bandwidth",
        type=flags.non_negative_float,
        action="append",
        metavar="GB/S",
        help="how fast the device reads memory, in 10^9 bytes a second; may be given several "
        "times (default: 1600, an Ascend 910B2)",
    )
    return parser


def _add_work_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--ratio", default="1:1", metavar="W:H", help="of the picture (default: %(default)s)"
    )
    group.add_argument(
        "--image-area",
        type=flags.positive_int,
        metavar="PIXELS",
        help="of the picture (default: the configuration's)",
    )
    for side in ("height", "width"):
        group.add_argument(
            f"--{side}",
            type=flags.positive_int,
            metavar="PIXELS",
            help=f"{side} of the picture, instead of ratio and area",
        )
    group.add_argument(
        "--answer-tokens",
        type=flags.positive_int,
        metavar="N",
        help="answers of so many tokens instead of pictures",
    )
    flags.add_numbers(
        group,
        ("--prompt-tokens", 64, "tokens of the prompt; an image in it counts too"),
        ("--batch-size", 1, "pictures or answers made together"),
        ("--window", 1, "places each step tries at once; 1 is plain decoding"),
    )
    group.add_argument(
        "--tokens-per-step",
        type=flags.non_negative_float,
        default=1.0,
        metavar="X",
        help="tokens a step accepts on average, from 1 to --window (default: %(default)s)",
    )
    group.add_argument(
        "--guidance",
        type=flags.non_negative_float,
        default=3.0,
        metavar="G",
        help="1 runs one row per picture, anything else two; answers have no guidance "
        "(default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    """Print the estimate."""
    from emu3.estimate import estimate

    config, vision = read_configs(options.model, options.vq_model)
    work = work_of(options, config, vision)
    needed = estimate(config, vision, work)
    for line in lines(needed, work, vision, options):
        print(line)


def read_configs(model: str, vq_model: str):
    """Emu3Config and Emu3VisionVQConfig of two places."""
    from emu3.mllm import Emu3Config
    from emu3.tokenizer import Emu3VisionVQConfig

    return _read(Emu3Config, model, "--model"), _read(Emu3VisionVQConfig, vq_model, "--vq-model")


def _read(config_class: type, place: str, flag: str):
    """The configuration at `place`.

    Raises:
        InputError: there is none, or its values are impossible.
    """
    from emu3.configfile import CONFIG, config_of_sizes, read_config
    from emu3.hub import checkpoint_folder

    if place == RELEASED:
        return config_class()
    if place.endswith(".json"):
        return config_of_sizes(config_class, place, flag)
    return read_config(config_class, checkpoint_folder(place, [CONFIG], flag), {}, flag)


def work_of(options: argparse.Namespace, config, vision):
    """What the options ask for.

    Raises:
        InputError: a size or a number of tokens per step that cannot be.
    """
    from emu3.cli.img_gen import latent_sizes
    from emu3.estimate import Work

    if not 1 <= options.tokens_per_step <= options.window:
        raise InputError(
            f"{options.tokens_per_step:g} tokens per step with a window of {options.window}; "
            f"allowed: 1 to {options.window}; change --tokens-per-step or --window"
        )
    grid = None
    if options.answer_tokens is None:
        area = options.image_area or config.image_area
        size = {"ratio": [options.ratio], "image_area": area}
        if options.height or options.width:
            size["ratio"] = None
        asked = argparse.Namespace(**{**vars(options), **size})
        (grid,) = latent_sizes(asked, 1, vision.spatial_scale_factor)
    return Work(
        sequences=options.batch_size,
        guided=options.guidance != 1 and grid is not None,
        prompt=options.prompt_tokens,
        grid=grid,
        answer=options.answer_tokens or 0,
        window=options.window,
        accepted=options.tokens_per_step,
        width=WIDTHS[options.dtype],
    )


def lines(needed, work, vision, options: argparse.Namespace) -> list[str]:
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
    return common.run_command(run, build_parser(), arguments)


if __name__ == "__main__":
    common.leave(main())
