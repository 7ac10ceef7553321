"""Captioned images to features for text to image: `python -m train.prepare_vision_data`.

Records: {"name", "text", "image"}; see docs/training_data.md.
"""

import argparse
from collections.abc import Sequence

from emu3.cli import common
from train import preparing


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = preparing.make_parser(
        "prepare_vision_data", "Encode captioned images for training text to image.", "t2i"
    )
    preparing.add_image_options(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Write the feature folder; returns the exit code."""
    from train.data.records import caption_record

    return preparing.prepare(options, caption_record)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.run_command(run, build_parser(), arguments)


if __name__ == "__main__":
    common.leave(main())
