"""Checkpoints of the original port into folders that load:

python -m emu3.cli.convert emu3-e1.ckpt --model BAAI/Emu3-Gen --output outputs/converted
"""

from dataclasses import dataclass

from emu3.cli import shell
from emu3.options import option, path_text


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    file: list[str] = option(
        "checkpoint of a fine-tuned language model (.ckpt); of ZeRO-3 those of all ranks",
        None,
        path_text,
        positional=True,
        nargs="+",
        metavar="FILE",
    )
    model: str = option(
        "folder or hub id that the training began with: its config.json and tokenizer stay",
        None,
        path_text,
        metavar="PATH",
        required=True,
    )
    output: str = option("the new folder", None, path_text, metavar="FOLDER", required=True)


def run(options: Options) -> None:
    """Write the folder and say how to use it."""
    from emu3.convert import convert

    print(f"use it as --model {convert(options.file, options.model, options.output)}")


build_parser, main = shell.command(
    "emu3.cli.convert", "Turn the original port's checkpoints into folders that load.", Options, run
)

if __name__ == "__main__":
    shell.leave(main())
