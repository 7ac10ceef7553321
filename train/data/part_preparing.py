"""From records of clips and of interleaved parts to a feature folder: what two commands do.

As `train.data.preparing`, a run goes on where another was stopped.
"""

from collections.abc import Iterator
from itertools import count
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
from train.data.part_encoding import Cutting, PartEncoder
from train.data.part_records import KINDS
from train.data.preparing import SOME_SKIPPED, report, without_clashes
from train.data.records import Item, Skipped, read_items
from train.data.writing import FeatureWriter

if TYPE_CHECKING:
    from train.data.options import ClipCutting, Encoding, Files


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
        items, clashes = without_clashes(items, folder, files.split)
        encoder = _encoder(encoding, Cutting(**vars(clips)), folder)
        names: list[str] = []
        skipped += clashes
        try:
            with FeatureWriter.open(folder, files.shard_size) as features:
                for item in tqdm(items, desc="encoding", unit="record", disable=not items):
                    found = _features(encoder, features, item)
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


def _features(encoder: PartEncoder, features: FeatureWriter, item: Item) -> list[str] | Skipped:
    """Write the features of a record, unless they are there; their names."""
    try:
        inputs = encoder.fingerprint(item.image)
        there = list(_there(features, item.feature.name, inputs))
        for name in there:
            features.keep(name)
        if there:
            return there
        made = list(encoder.features(item.feature, item.image, inputs))
    except InputError as error:
        return Skipped(item.line, str(error))
    except OSError as error:
        return Skipped(item.line, f"{error.filename} cannot be read: {error.strerror}")
    # The first one last: where it stands, all of them do.
    for feature in reversed(made):
        features.write(feature)
    return [feature.name for feature in made]


def _there(features: FeatureWriter, name: str, inputs: str) -> Iterator[str]:
    """The names of a record's features that were made of the same inputs; none where not."""
    for number in count():
        part = f"{name}.{number:04d}" if number else name
        found = features.found(part)
        if found is None or found.inputs != inputs:
            return
        yield part
