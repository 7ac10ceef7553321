"""A feature folder in shards of many samples, or in a file each again: `train.data.pack DIR`.

Every list of the folder is copied into another folder; the first one stays as it is. The same
command goes on where it was stopped.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emu3.cli.shell import command, leave
from emu3.errors import InputError
from emu3.options import option, path_text
from train.data.options import shard_size

if TYPE_CHECKING:
    from train.data.writing import FeatureWriter


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
    """Copy every list and its features; prints each list with its number of samples.

    What stands there already with the same content is kept.

    Raises:
        InputError: no lists, features that cannot be read, or several of one name.
    """
    from tqdm import tqdm

    from emu3.files import read_json
    from train.data.features import list_files
    from train.data.folders import ENCODING, claim_folder, lists_of, owned_folder
    from train.data.writing import FeatureWriter

    source = Path(options.folder)
    lists = {path: list_files(path, "DIR") for path in lists_of(source)}
    if not lists:
        raise InputError(f"{source} has no list/SPLIT.json; change DIR")
    _check_names([file for files in lists.values() for file in files])
    with owned_folder(options.output_path, "--output-path") as folder:
        if (source / ENCODING).is_file():
            claim_folder(folder, read_json(source / ENCODING, "change DIR"), "--output-path")
        for path, files in lists.items():
            with FeatureWriter.open(folder, options.shard_size) as features:
                for file in tqdm(files, desc=path.stem, unit="feature"):
                    _copy(file, features)
            made = features.write_list(path.stem, [file.stem for file in files])
            print(f"{made}: {len(files)} samples")


def _check_names(files: list[Path]) -> None:
    """Refuse two features of one name, which folders below the list's own make possible."""
    names = Counter(file.stem for file in dict.fromkeys(files))
    name, count = names.most_common(1)[0]
    if count > 1:
        raise InputError(f"{count} features are called {name}; allowed: a name each; change DIR")


def _copy(file: Path, features: "FeatureWriter") -> None:
    from train.data.features import feature_bytes, read_bytes, read_feature

    content = feature_bytes(read_feature(file))  # also of files in other formats
    there = features.find(file.stem)
    if there is not None and read_bytes(there) == content:
        features.keep(file.stem)
    else:
        features.put(file.stem, content)


build_parser, main = command(
    "train.data.pack", "Copy a feature folder into shards, or back into files.", Options, run
)

if __name__ == "__main__":
    leave(main())
