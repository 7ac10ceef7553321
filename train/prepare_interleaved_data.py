"""Conversations and prompts with pictures and clips to features.

Records: {"id", "messages"} or {"id", "parts"}; see docs/training_data.md.
"""

if not __package__:  # started by its path
    import by_path

    by_path.run_as_module(__file__)

from dataclasses import dataclass

from emu3.cli.shell import leave
from emu3.options import group
from train.data.options import ClipCutting, Encoding, Files, files_of, preparing_command


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    files: Files = files_of("interleaved")
    encoding: Encoding = group(leave_out=("batch_size", "workers"))
    clips: ClipCutting = group()


build_parser, main = preparing_command(
    "prepare_interleaved_data",
    "Encode conversations and edits with pictures and clips for training.",
    Options,
    "interleaved",
)

if __name__ == "__main__":
    leave(main())
