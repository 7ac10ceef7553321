"""Benchmarks: `python -m emu3.cli.benchmark decode [--peer torch]`, and so for each subject.

Times are medians of repeats after one that is not counted. A peer runs in a process of its own, in
turns with ours, so that both see the same machine: read the ratio, not the seconds.
"""

import argparse
from collections.abc import Callable, Sequence

from emu3.benchmarks import decode, pictures, training, vision, windows
from emu3.cli import common

SUBJECTS: dict[str, tuple[str, Callable, Callable]] = {
    "decode": (
        "decoding steps of a net with random weights",
        decode.add_decode_options,
        decode.run_decode,
    ),
    "prefill": ("prompts into the cache", decode.add_prefill_options, decode.run_prefill),
    "t2i": ("whole pictures by batch size", pictures.add_picture_options, pictures.run_pictures),
    "jacobi": ("pictures by window of Jacobi decoding", windows.add_options, windows.run),
    "vqa": ("answers by batch size", pictures.add_answer_options, pictures.run_answers),
    "vq-image": ("a picture to codes and back", vision.add_options, vision.run_image),
    "vq-clip": ("a clip of 4 frames to codes and back", vision.add_options, vision.run_clip),
    "sft": ("a fine-tuning step", training.add_options, training.run),
    "startup": (
        "a fresh process up to its first token",
        pictures.add_startup_options,
        pictures.run_startup,
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """The command's options, a set for each subject."""
    parser = common.make_parser("benchmark", "Measure speed.")
    subjects = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, (what, add_options, run_subject) in SUBJECTS.items():
        subject = subjects.add_parser(name, help=what, description=f"Measure {what}.")
        add_options(subject)
        subject.set_defaults(run=run_subject)
    return parser


def run(options: argparse.Namespace) -> None:
    """Measure the subject and print."""
    options.run(options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.run_command(run, build_parser(), arguments)


if __name__ == "__main__":
    common.leave(main())
