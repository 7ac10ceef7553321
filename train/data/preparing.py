"""From records to a feature folder: what the three preparing commands do.

A run that was stopped goes on with the same command: features that are whole, hold what their
record says and were made of the same picture in the same way are kept. Exit codes: 0 all records
are in the list, 1 some were skipped, 2 bad input.
"""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mindspore import Tensor
from tqdm import tqdm

from emu3.cli.outputs import Stopwatch
from emu3.cli.room import require_room_for_pixels
from emu3.cli.shell import Interrupted
from emu3.errors import InputError
from emu3.files import atomic_path
from train.data.features import Feature, list_entries
from train.data.folders import claim_folder, encoding_of, lists_of, owned_folder
from train.data.records import KINDS, Item, Skipped, read_items
from train.data.writing import FeatureWriter

if TYPE_CHECKING:
    from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQModel
    from train.data.encoding import ImageReader
    from train.data.options import Encoding, Files

SOME_SKIPPED = 1
SHOWN = 20  # skipped records that are printed; the file holds all of them


def prepare(kind: str, files: "Files", encoding: "Encoding | None") -> int:
    """Write the feature folder of `files.data_path`; returns the exit code.

    Records are of one of `train.data.records.KINDS`; without `encoding` they have no images.

    Raises:
        InputError: a file or folder that cannot be used, or not one usable record.
        Interrupted: after Ctrl-C; what is written is kept.
    """
    watch = Stopwatch()
    items, skipped = read_items(files.data_path, KINDS[kind])
    with owned_folder(files.output_path, "--output-path") as folder:
        items, clashes = without_clashes(items, names_elsewhere(folder, files.split))
        skipped += clashes
        try:
            with FeatureWriter.open(folder, files.shard_size) as features:
                names, unreadable = _write_all(encoding, features, folder, items)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; the features in {folder} are kept, the same command goes on"
            ) from None
        skipped += unreadable
        report(files, folder, sorted(skipped, key=lambda record: record.line))
        if not names:
            raise InputError(f"{files.data_path} holds no usable record; change --data-path")
        path = features.write_list(files.split, names)
    print(watch.closing_line(f"{path}: {len(names)} samples, {len(skipped)} records skipped"))
    return SOME_SKIPPED if skipped else 0


def names_elsewhere(folder: Path, split: str) -> dict[str, Path]:
    """The names that other splits of a folder use, and their lists."""
    taken = {}
    for path in lists_of(folder):
        if path.stem != split:
            taken |= {entry.stem: path for entry in list_entries(path, "--output-path")}
    return taken


def without_clashes(items: list[Item], taken: dict[str, Path]) -> tuple[list[Item], list[Skipped]]:
    """The items, and as skipped those whose names are `taken`, as `names_elsewhere` gives them."""
    clashes = [item for item in items if item.feature.name in taken]
    reasons = [
        Skipped(i.line, f"name {i.feature.name} is used by {taken[i.feature.name]}")
        for i in clashes
    ]
    return [item for item in items if item.feature.name not in taken], reasons


def _write_all(
    encoding: "Encoding | None", features: FeatureWriter, folder: Path, items: list[Item]
) -> tuple[list[str], list[Skipped]]:
    """Write what is missing; returns the names of all features in order, and the skipped."""
    pictured = [item for item in items if item.image is not None]
    skipped = _write_pictured(encoding, features, folder, pictured) if pictured else []
    texts = [item for item in items if item.image is None]
    for item in tqdm(texts, desc="texts", unit="record", disable=not texts):
        found = _written(features, item)
        if found is None:
            features.write(item.feature)
        else:
            features.keep(item.feature.name)
    lost = {record.line for record in skipped}
    return [item.feature.name for item in items if item.line not in lost], skipped


def _write_pictured(
    encoding: "Encoding", features: FeatureWriter, folder: Path, items: list[Item]
) -> list[Skipped]:
    """Write the features of items with images that are missing; returns the unreadable ones."""
    # Here, since texts alone need no vision tokenizer and start sooner without its modules.
    from emu3.loading import load_vision
    from train.data.encoding import ImageReader, Recipe, equal_batches

    encoding.device.start()
    vision, _ = load_vision(encoding.vq_model, encoding.device.dtype)
    made_by = encoding_of(vision)
    claim_folder(folder, made_by, "--output-path or --model-path")
    recipe = Recipe.make(encoding.vq_model, encoding.image_area, made_by)
    todo, skipped, unmarked = [], [], 0
    with ImageReader.open(recipe, encoding.workers) as reader:
        looks = reader.looks(items, lambda item: features.find(item.feature.name) is not None)
        bar = tqdm(looks, total=len(items), desc="looking", unit="image")
        for look, item in zip(bar, items):
            if isinstance(look, Skipped):
                skipped.append(look)
                continue
            found = _written(features, item)
            if found is None or not look.fits(found, recipe):
                todo.append((item, look.size))
            else:
                features.keep(item.feature.name)
                unmarked += found.inputs is None
        if unmarked:
            print(_about_unmarked(unmarked, folder), file=sys.stderr)
        if todo:
            wanted, sizes = map(list, zip(*todo))
            _require_room(vision.config, encoding, Counter(sizes))
            batches = equal_batches(wanted, sizes, encoding.batch_size)
            skipped += _encode(vision, features, reader, batches)
    return skipped


def _require_room(
    config: "Emu3VisionVQConfig", encoding: "Encoding", counts: Counter[tuple[int, int]]
) -> None:
    """Refuse pictures of which memory cannot hold a batch; `counts` are by (h, w) in pixels.

    Raises:
        InputError: gives the estimate.
    """
    factor = config.spatial_scale_factor
    pixels = {(h, w): h * w * min(n, encoding.batch_size) for (h, w), n in counts.items()}
    h, w = max(pixels, key=pixels.get)
    require_room_for_pixels(
        config,
        (h // factor, w // factor),
        encoding.device.dtype,
        together=min(counts[h, w], encoding.batch_size),
        remedy="a smaller --image-area, a lower --batch-size",
    )


def _about_unmarked(count: int, folder: Path) -> str:
    return (
        f"{count} features of an older version say nothing of the pictures they were made of; kept "
        f"by record and size; if pictures changed, remove {folder / 'feature'} and run again"
    )


def _encode(
    vision: "Emu3VisionVQModel",
    features: FeatureWriter,
    reader: "ImageReader",
    batches: list[list[Item]],
) -> list[Skipped]:
    """Encode and write the features of all batches; returns the unreadable items."""
    skipped = []
    with tqdm(total=sum(map(len, batches)), desc="encoding", unit="image") as bar:
        for items, pixels, bad in reader.batches(batches):
            skipped += bad
            codes = vision.encode(Tensor(pixels)).asnumpy() if items else []
            for item, grid in zip(items, codes):
                features.write(replace(item.feature, codes=grid))
            bar.update(len(items) + len(bad))
    return skipped


def _written(features: FeatureWriter, item: Item) -> Feature | None:
    """The item's feature if it is there, whole, and says what the record says."""
    found = features.found(item.feature.name)
    if found is None:
        return None
    same = replace(found, codes=None, inputs=None) == item.feature
    return found if same and (found.codes is None) == (item.image is None) else None


def report(files: "Files", folder: Path, skipped: list[Skipped]) -> None:
    """Print the skipped records, and keep them in skipped_SPLIT.txt."""
    path = folder / f"skipped_{files.split}.txt"
    path.unlink(missing_ok=True)
    if not skipped:
        return
    lines = [f"{files.data_path}:{record.line}: {record.reason}" for record in skipped]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[:SHOWN]), file=sys.stderr)
    if len(lines) > SHOWN:
        print(f"... {len(lines) - SHOWN} more skipped records in {path}", file=sys.stderr)
