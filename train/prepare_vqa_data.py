"""Questions about images to features: `python -m train.prepare_vqa_data`.

Records: {"id", "image", "conversations": [{"from", "value"}, ...]}; see docs/training_data.md.
"""

if not __package__:  # started by its path
    import by_path

    by_path.run_as_module(__file__)

from collections.abc import Sequence

from emu3.cli.shell import Parser, leave, run_command
from train.data.options import ImageOptions, add_image_options, make_parser


def build_parser() -> Parser:
    """The command's options."""
    parser = make_parser(
        "prepare_vqa_data", "Encode conversations about images for training answers.", "vqa"
    )
    add_image_options(parser)
    return parser


def run(options: ImageOptions) -> int:
    """Write the feature folder; returns the exit code."""
    from train.data.preparing import prepare
    from train.data.records import conversation_record

    return prepare(options.files, conversation_record, options.encoding)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(run, ImageOptions, build_parser(), arguments)


if __name__ == "__main__":
    leave(main())
