"""Questions about images to features: `python -m train.prepare_vqa_data`.

Records: {"id", "image", "conversations": [{"from", "value"}, ...]}; see docs/training_data.md.
"""

if not __package__:  # started by its path
    import by_path

    by_path.run_as_module(__file__)

from collections.abc import Sequence
from dataclasses import dataclass

from emu3.cli.shell import Parser, leave, run_command
from emu3.options import group
from train.data.options import Encoding, Files, files_of, preparing_parser


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    files: Files = files_of("vqa")
    encoding: Encoding = group()


def build_parser() -> Parser:
    """The command's options."""
    about = "Encode conversations about images for training answers."
    return preparing_parser("prepare_vqa_data", about, Options)


def run(options: Options) -> int:
    """Write the feature folder; returns the exit code."""
    from train.data.preparing import prepare
    from train.data.records import conversation_record

    return prepare(options.files, conversation_record, options.encoding)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(run, Options, build_parser(), arguments)


if __name__ == "__main__":
    leave(main())
