"""A feature folder copied into another one, in shards or in a file each."""

from collections import Counter
from pathlib import Path

from tqdm import tqdm

from emu3.errors import InputError
from emu3.files import read_json
from train.data.features import feature_bytes, list_files, read_bytes, read_feature
from train.data.folders import ENCODING, claim_folder, lists_of, owned_folder
from train.data.writing import FeatureWriter


def copy_folder(source: Path, output: str, size: int) -> None:
    """Write every list of `source` and its features into `output`, `size` a shard, 0 for files.

    What stands there already with the same content is kept.

    Raises:
        InputError: no lists, features that cannot be read, or several of one name.
    """
    lists = {path: list_files(path, "DIR") for path in lists_of(source)}
    if not lists:
        raise InputError(f"{source} has no list/SPLIT.json; change DIR")
    _check_names([file for files in lists.values() for file in files])
    with owned_folder(output, "--output-path") as folder:
        if (source / ENCODING).is_file():
            claim_folder(folder, read_json(source / ENCODING, "change DIR"), "--output-path")
        for path, files in lists.items():
            with FeatureWriter.open(folder, size) as features:
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


def _copy(file: Path, features: FeatureWriter) -> None:
    content = feature_bytes(read_feature(file))  # also of files in other formats
    there = features.find(file.stem)
    if there is not None and read_bytes(there) == content:
        features.keep(file.stem)
    else:
        features.put(file.stem, content)
