"""A feature folder with shards of many samples, or with a file each again: `train.pack_data DIR`.

Every list of the folder is copied into another folder; the first one stays as it is. The same
command goes on where it was stopped.
"""

if not __package__:  # started by its path
    import by_path

    by_path.run_as_module(__file__)

from dataclasses import dataclass
from pathlib import Path

from emu3.cli.shell import command, leave
from emu3.errors import InputError
from emu3.options import option, path_text
from train.data.options import shard_size


@dataclass(frozen=True)
class Options:
    """What is copied, where to, and in which form."""

    folder: str = option(
        "feature folder, with list/SPLIT.json in it", kind=path_text, positional=True, metavar="DIR"
    )
    output_path: str = option(
        "feature folder to write or go on with",
        "outputs/features/packed",
        path_text,
        metavar="FOLDER",
    )
    shard_size: int = shard_size(2000)

    def __post_init__(self) -> None:
        if Path(self.folder).resolve() == Path(self.output_path).resolve():
            raise InputError(f"{self.folder} is also to be written; change --output-path")


def run(options: Options) -> None:
    """Copy the lists and their features; prints each list with its number of samples."""
    from train.data.packing import copy_folder

    copy_folder(Path(options.folder), options.output_path, options.shard_size)


build_parser, main = command(
    "train.pack_data", "Copy a feature folder into shards, or back into files.", Options, run
)

if __name__ == "__main__":
    leave(main())
