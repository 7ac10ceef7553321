"""Questions and answers in text alone to features: `python -m train.prepare_text_data`.

Records: {"id", "texts", "response"} or "conversations"; see docs/training_data.md.
"""

if not __package__:  # started by its path
    import by_path

    by_path.run_as_module(__file__)

from dataclasses import dataclass

from emu3.cli.shell import leave
from train.data.options import Files, files_of, preparing_command


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    files: Files = files_of("text")


build_parser, main = preparing_command(
    "prepare_text_data",
    "Write text conversations as features for training answers.",
    Options,
    "text",
)

if __name__ == "__main__":
    leave(main())
