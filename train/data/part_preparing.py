"""From records of clips and of interleaved parts to a feature folder: what two commands do.

As `train.data.preparing`, a run goes on where another was stopped.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from emu3.cli.outputs import Stopwatch
from emu3.cli.shell import Interrupted
from emu3.errors import InputError
from emu3.loading import load_vision
from emu3.tokenizer import VisionCodec
from train.data.encoding import Recipe
from train.data.folders import claim_folder, encoding_of, owned_folder
from train.data.part_encoding import Cutting, PartEncoder, piece_name
from train.data.part_records import KINDS
from train.data.preparing import SOME_SKIPPED, names_elsewhere, report, without_clashes
from train.data.records import Item, Skipped, read_items
from train.data.writing import FeatureWriter

if TYPE_CHECKING:
    from train.data.options import ClipCutting, Encoding, Files

COUNT = "*"  # between the fingerprint of a record and the number of its pieces


def prepare_parts(kind: str, files: "Files", encoding: "Encoding", clips: "ClipCutting") -> int:
    """Write the feature folder of `files.data_path`; returns the exit code.

    Records are of one of `train.data.part_records.KINDS`.

    Raises:
        InputError: a file or folder that cannot be used, or not one usable record.
        Interrupted: after Ctrl-C; what is written is kept.
    """
    watch = Stopwatch()
    items, skipped = read_items(files.data_path, KINDS[kind])
    with owned_folder(files.output_path, "--output-path") as folder:
        elsewhere = names_elsewhere(folder, files.split)
        items, clashes = without_clashes(items, elsewhere)
        taken = {item.feature.name for item in items} | elsewhere.keys()
        encoder = _encoder(encoding, Cutting(**vars(clips)), folder)
        names: list[str] = []
        skipped += clashes
        try:
            with FeatureWriter.open(folder, files.shard_size) as features:
                for item in tqdm(items, desc="encoding", unit="record", disable=not items):
                    found = _features(encoder, features, item, taken)
                    if isinstance(found, Skipped):
                        skipped.append(found)
                    else:
                        names += found
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; the features in {folder} are kept, the same command goes on"
            ) from None
        report(files, folder, sorted(skipped, key=lambda record: record.line))
        if not names:
            raise InputError(f"{files.data_path} holds no usable record; change --data-path")
        path = features.write_list(files.split, names)
    print(watch.closing_line(f"{path}: {len(names)} samples, {len(skipped)} records skipped"))
    return SOME_SKIPPED if skipped else 0


def _encoder(encoding: "Encoding", cutting: Cutting, folder: Path) -> PartEncoder:
    encoding.device.start()
    vision, _ = load_vision(encoding.vq_model, encoding.device.dtype)
    made_by = encoding_of(vision)
    claim_folder(folder, made_by, "--output-path or --model-path")
    recipe = Recipe.make(encoding.vq_model, encoding.image_area, made_by)
    return PartEncoder(VisionCodec(vision, recipe.processor), recipe, cutting)


def _features(
    encoder: PartEncoder, features: FeatureWriter, item: Item, taken: set[str]
) -> list[str] | Skipped:
    """Write the features of a record, unless they are there; their names.

    Those of its pieces must not be `taken` by other records.
    """
    try:
        inputs = encoder.fingerprint(item.image)
        there = _there(features, item.feature.name, inputs)
        made = [] if there else list(encoder.features(item.feature, item.image))
        names = there or [feature.name for feature in made]
        _check_free(names[1:], taken)
        for name in there:
            features.keep(name)
    except InputError as error:
        return Skipped(item.line, str(error))
    except OSError as error:
        return Skipped(item.line, f"{error.filename} cannot be read: {error.strerror}")
    for feature in made:
        features.write(replace(feature, inputs=f"{inputs}{COUNT}{len(made)}"))
    return names


def _there(features: FeatureWriter, name: str, inputs: str) -> list[str]:
    """The names of a record's features if all were made of the same inputs and can be read."""
    first = features.found(name)
    made_of, _, count = ((first and first.inputs) or "").rpartition(COUNT)
    if made_of != inputs or not count.isdecimal():
        return []
    pieces = (features.found(piece_name(name, number)) for number in range(1, int(count)))
    if any(piece is None or piece.inputs != first.inputs for piece in pieces):
        return []
    return [piece_name(name, number) for number in range(int(count))]


def _check_free(pieces: list[str], taken: set[str]) -> None:
    """Refuse a clip with a piece whose name another record has.

    Raises:
        InputError: names it.
    """
    clash = next((name for name in pieces if name in taken), None)
    if clash is not None:
        raise InputError(
            f"a piece of its clip is called {clash}, as another record of the folder; allowed: "
            "names of their own; change one of the names"
        )
