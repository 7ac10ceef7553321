"""Captioned images to features for text to image: `python -m train.prepare_vision_data`.

Records: {"name", "text", "image"}; see docs/training_data.md.
"""

if not __package__:  # started by its path
    import by_path

    by_path.run_as_module(__file__)

from dataclasses import dataclass

from emu3.cli.shell import leave
from emu3.options import group
from train.data.options import Encoding, Files, files_of, preparing_command


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    files: Files = files_of("t2i")
    encoding: Encoding = group()


build_parser, main = preparing_command(
    "prepare_vision_data", "Encode captioned images for training text to image.", Options, "t2i"
)

if __name__ == "__main__":
    leave(main())
