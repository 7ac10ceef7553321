"""Questions about images to features: `python -m train.prepare_vqa_data`.

Records: {"id", "image", "conversations": [{"from", "value"}, ...]}; see docs/training_data.md.
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

    files: Files = files_of("vqa")
    encoding: Encoding = group()


build_parser, main = preparing_command(
    "prepare_vqa_data", "Encode conversations about images for training answers.", Options, "vqa"
)

if __name__ == "__main__":
    leave(main())
