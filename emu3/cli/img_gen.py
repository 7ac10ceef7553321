"""Text to image: `python -m emu3.cli.img_gen --prompt "a red circle above a blue square"`.

Each picture has a seed of its own (--seed, --seed + 1, ...), so any of them can be made again
alone. Its codes are in an .npz file from the start on, its PNG carries prompt and settings.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emu3.cli import common, decoding, flags
from emu3.cli.outputs import NOT_MADE
from emu3.cli.progress import Progress
from emu3.cli.studio import Picture, Studio
from emu3.errors import InputError
from emu3.files import writable_folder


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = common.make_parser("img_gen", "Make pictures from text.")
    common.add_language_option(parser)
    common.add_vision_option(parser)
    _add_prompt_options(parser.add_argument_group("prompt"))
    _add_size_options(parser.add_argument_group("size"))
    common.add_sampling_options(parser, greedy=False)
    decoding.add_options(parser)
    _add_output_options(parser.add_argument_group("output"))
    common.add_device_options(parser)
    return parser


def _add_prompt_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="what to draw; may be given several times (default: the checkpoint's example)",
    )
    group.add_argument("--prompt-file", metavar="FILE", help="a text file with a prompt a line")
    group.add_argument(
        "--suffix",
        metavar="TEXT",
        help='added to every prompt as it is; "" for none (default: the checkpoint\'s)',
    )
    group.add_argument(
        "--negative-prompt",
        metavar="TEXT",
        help="what to steer away from (default: the checkpoint's)",
    )
    group.add_argument(
        "--guidance",
        type=flags.non_negative_float,
        metavar="G",
        help="how strongly the prompt steers; 1 is without guidance, at half the cost "
        "(default: the checkpoint's)",
    )


def _add_size_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--ratio",
        action="append",
        metavar="W:H",
        help="width to height, one for all prompts or one a prompt (default: 1:1)",
    )
    group.add_argument(
        "--image-area",
        type=flags.positive_int,
        metavar="PIXELS",
        help="size of the picture in pixels, for --ratio (default: the checkpoint's)",
    )
    for side in ("height", "width"):
        group.add_argument(
            f"--{side}",
            type=flags.positive_int,
            metavar="PIXELS",
            help=f"{side} of the picture instead of ratio and area, snapped to the grid of codes",
        )


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output",
        default="outputs",
        metavar="FOLDER",
        help="folder for pictures and codes, numbered image_0000 ... (default: %(default)s)",
    )
    flags.add_numbers(
        group, ("--images-per-prompt", 1, "pictures of each prompt, each with a seed of its own")
    )
    flags.add_numbers(group, ("--batch-size", 4, "pictures made together"))
    group.add_argument(
        "--preview",
        type=flags.non_negative_int,
        default=0,
        metavar="ROWS",
        help="show the unfinished picture every so many rows, 0 for never (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    """Make every picture."""
    prompts = read_prompts(options)
    folder = writable_folder(options.output)
    common.start_device(options)
    from emu3.mllm.defaults import CheckpointDefaults

    checkpoint = CheckpointDefaults.from_pretrained(options.model)
    common.fill_in(options, defaults_of(checkpoint))
    vars(options).update(decoding.filled_in(options, checkpoint))
    chosen = decoding.chosen(options)
    check_memory(options, len(prompts or options.prompt))
    model, tokenizer = common.load_language(options)
    vision, image_processor = common.load_vision(options)
    common.check_same_codes(model, vision)
    pictures = plan_pictures(options, prompts or options.prompt, vision, chosen.label)
    studio = Studio(options, model, tokenizer, vision, image_processor)
    starts = range(0, len(pictures), options.batch_size)
    batches = [pictures[start : start + options.batch_size] for start in starts]
    studio.check(batches)
    watch = common.Stopwatch()
    with Progress(sum(len(picture.codes) for picture in pictures), "row") as progress:
        for batch in batches:
            studio.make(batch, folder, progress)
    for path in studio.finished:
        print(path)
    forwards = studio.forwards
    print(
        f"decoding {chosen.label}: {forwards / len(pictures):.1f} runs of the network a picture, "
        f"{progress.tokens / max(forwards, 1):.2f} tokens a run"
    )
    print(watch.closing_line(f"{len(pictures)} picture(s)", progress.tokens))


def read_prompts(options: argparse.Namespace) -> list[str]:
    """The prompts of --prompt and --prompt-file, in this order.

    Raises:
        InputError: the file cannot be read or holds no prompt.
    """
    prompts = list(options.prompt or [])
    if options.prompt_file:
        try:
            lines = Path(options.prompt_file).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{options.prompt_file} is not UTF-8 text: {error}; change --prompt-file"
            ) from None
        found = [line.strip() for line in lines if line.strip()]
        if not found:
            raise InputError(f"{options.prompt_file} holds no prompt; change --prompt-file")
        prompts += found
    return prompts


def check_memory(options: argparse.Namespace, prompts: int) -> None:
    """Refuse a batch that cannot fit, before anything is loaded.

    Raises:
        InputError: gives the estimate and what fits.
    """
    from emu3 import runtime
    from emu3.cli.estimate import WIDTHS, read_configs
    from emu3.estimate import Work, check_fits

    config, vision = read_configs(options.model, options.vq_model)
    work = Work(
        sequences=min(options.batch_size, prompts * options.images_per_prompt),
        guided=options.guidance != 1,
        grid=max(latent_sizes(options, prompts, vision.spatial_scale_factor), key=math.prod),
        width=WIDTHS[str(runtime.resolve_dtype(options.dtype)).lower()],
    )
    check_fits(config, vision, work, runtime.available_memory_bytes())


def defaults_of(checkpoint) -> dict:
    """The options a checkpoint has defaults for."""
    return {
        "suffix": checkpoint.positive_prompt,
        "negative_prompt": checkpoint.negative_prompt,
        "guidance": checkpoint.guidance_scale,
        "temperature": checkpoint.temperature,
        "top_k": checkpoint.top_k,
        "top_p": checkpoint.top_p,
        "image_area": checkpoint.image_area,
        "prompt": [checkpoint.example_prompt],
    }


def plan_pictures(
    options: argparse.Namespace, prompts: list[str], vision, label: str
) -> list[Picture]:
    """The pictures to make, in order, each with its size, seed and settings.

    Raises:
        InputError: sizes or counts that do not fit.
    """
    sizes = latent_sizes(options, len(prompts), vision.spatial_scale_factor)
    pictures = []
    for prompt, (rows, columns) in zip(prompts, sizes):
        for _ in range(options.images_per_prompt):
            codes = np.full((rows, columns), NOT_MADE, np.int32)
            seed = options.seed + len(pictures)
            settings = picture_settings(options, prompt, seed) | {"decoding": label}
            pictures.append(Picture(prompt, codes, seed, settings))
    return pictures


def latent_sizes(options: argparse.Namespace, count: int, factor: int) -> list[tuple[int, int]]:
    """Latent (rows, columns) of each prompt's picture; says what it snapped.

    Raises:
        InputError: height without width, or as many ratios as fit no rule.
    """
    from emu3.mllm.prompts import latent_size

    height, width = options.height, options.width
    if (height is None) != (width is None):
        raise InputError("--height and --width belong together; give both or neither")
    if height is not None:
        if options.ratio:
            raise InputError("--ratio and --height, --width exclude each other; give one of them")
        return [_snapped(height, width, factor)] * count
    ratios = options.ratio or ["1:1"]
    if len(ratios) not in (1, count):
        raise InputError(
            f"{len(ratios)} ratios for {count} prompts; allowed: one, or one a prompt; "
            "change --ratio"
        )
    return [
        latent_size(ratio, options.image_area, factor) for ratio in ratios * (count // len(ratios))
    ]


def _snapped(height: int, width: int, factor: int) -> tuple[int, int]:
    """Latent (rows, columns) nearest to a size in pixels.

    Raises:
        InputError: a side no picture can have.
    """
    from emu3.mllm.vocabulary import MAX_GRID_SIDE
    from emu3.runtime import notice

    rows, columns = (max(1, round(side / factor)) for side in (height, width))
    if max(rows, columns) > MAX_GRID_SIDE:
        raise InputError(
            f"height {height}, width {width}; allowed: up to {MAX_GRID_SIDE * factor} pixels; "
            "change --height or --width"
        )
    if (rows * factor, columns * factor) != (height, width):
        notice(
            f"height {height}, width {width} become {rows * factor}, {columns * factor}: "
            f"sides are multiples of {factor} pixels"
        )
    return rows, columns


def picture_settings(options: argparse.Namespace, prompt: str, seed: int) -> dict:
    """What goes into the picture's metadata: enough to make it again."""
    names = (
        "suffix negative_prompt guidance temperature top_k top_p model vq_model dtype "
        "attn_implementation mode"
    )
    return {"prompt": prompt, "seed": seed} | {
        name: getattr(options, name) for name in names.split()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.run_command(run, build_parser(), arguments)


if __name__ == "__main__":
    common.leave(main())
