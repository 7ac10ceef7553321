"""What the three preparing commands share: options, the run from records to a feature folder.

A run that was stopped goes on with the same command: features that are whole and hold what their
record says are kept. Exit codes: 0 all records are in the list, 1 some were skipped, 2 bad input.
"""

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from emu3.cli import common, flags
from emu3.errors import InputError
from emu3.files import atomic_path, writable_folder

SOME_SKIPPED = 1
SHOWN = 20  # skipped records that are printed; the file holds all of them
EXAMPLES = common.ASSETS / "training"


def make_parser(name: str, description: str, kind: str) -> common.Parser:
    """The parser of `python -m train.<name>` with the options every kind of data has."""
    parser = common.Parser(
        prog=f"train.{name}",
        description=f"{description} Exit codes: 0 every record is in, 1 some were skipped, "
        "2 bad input.",
    )
    parser.add_argument(
        "--data-path",
        default=str(EXAMPLES / f"{kind}.jsonl"),
        metavar="FILE",
        help="JSON list or JSON lines of records (default: four bundled ones)",
    )
    parser.add_argument(
        "--output-path",
        default=f"outputs/features/{kind}",
        metavar="FOLDER",
        help="feature folder to write or go on with (default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        type=_split,
        default="train",
        metavar="NAME",
        help="name of the list, list/NAME.json (default: %(default)s)",
    )
    return parser


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """The options of data with images."""
    parser.add_argument(
        "--model-path",
        "--vq-model",
        dest="vq_model",
        default=str(common.MINI_VISION),
        metavar="PATH",
        help="vision tokenizer: a folder or a hub id such as BAAI/Emu3-VisionTokenizer "
        "(default: emu3-mini's)",
    )
    parser.add_argument(
        "--image-area",
        type=flags.positive_int,
        metavar="PIXELS",
        help="resize every image to about this area, such as 262144 for 512x512 (default: only "
        "into the area limits of the model's image processor, as at inference)",
    )
    flags.add_numbers(parser, ("--batch-size", 4, "images of equal size encoded together"))
    flags.add_numbers(
        parser, ("--workers", 1, "processes that read and resize images; 1 reads in this one")
    )
    common.add_device_options(parser, attention=False)


def _split(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, _ . -")
    return text


def prepare(options: argparse.Namespace, parse: Callable) -> int:
    """Write the feature folder of `options.data_path`; returns the exit code.

    `parse` is a record function of `train.data.records`. Without image options no record has an image.

    Raises:
        InputError: a file or folder that cannot be used, or not one usable record.
        Interrupted: after Ctrl-C; what is written is kept.
    """
    from train.data.records import read_items

    watch = common.Stopwatch()
    items, skipped = read_items(options.data_path, parse)
    folder = writable_folder(options.output_path, "--output-path")
    items, clashes = _without_clashes(items, folder, options.split)
    skipped += clashes
    try:
        names, unreadable = _write_all(options, folder, items)
    except KeyboardInterrupt:
        raise common.Interrupted(
            f"interrupted; the features in {folder} are kept, the same command goes on"
        ) from None
    skipped += unreadable
    _report(options, folder, sorted(skipped, key=lambda record: record.line))
    if not names:
        raise InputError(f"{options.data_path} holds no usable record; change --data-path")
    from train.data.features import write_list

    path = write_list(folder, options.split, names)
    print(watch.closing_line(f"{path}: {len(names)} samples, {len(skipped)} records skipped"))
    return SOME_SKIPPED if skipped else 0


def _without_clashes(items: list, folder: Path, split: str) -> tuple[list, list]:
    """The items, and as skipped those whose names another split of the folder uses."""
    from train.data.features import list_entries
    from train.data.records import Skipped

    taken = {}
    for path in (folder / "list").glob("*.json"):
        if path.stem != split:
            taken |= {entry.stem: path for entry in list_entries(path, "--output-path")}
    clashes = [item for item in items if item.feature.name in taken]
    reasons = [
        Skipped(i.line, f"name {i.feature.name} is used by {taken[i.feature.name]}")
        for i in clashes
    ]
    return [item for item in items if item.feature.name not in taken], reasons


def _write_all(options: argparse.Namespace, folder: Path, items: list) -> tuple[list[str], list]:
    """Write what is missing; returns the file names of all features in order, and the skipped."""
    from train.data.features import write_feature

    pictured = [item for item in items if item.image is not None]
    skipped = _write_pictured(options, folder, pictured) if pictured else []
    texts = [item for item in items if item.image is None]
    for item in tqdm(texts, desc="texts", unit="record", disable=not texts):
        if not _is_written(folder, item, None):
            write_feature(folder, item.feature)
    lost = {record.line for record in skipped}
    return [f"{item.feature.name}.ckpt" for item in items if item.line not in lost], skipped


def _write_pictured(options: argparse.Namespace, folder: Path, items: list) -> list:
    """Write the features of items with images that are missing; returns the unreadable ones."""
    from emu3.tokenizer import Emu3VisionVQImageProcessor
    from train.data.encoding import ImageReader, claim_folder, equal_batches
    from train.data.records import Skipped

    common.start_device(options)
    vision, _ = common.load_vision(options)
    claim_folder(folder, vision, "--output-path or --model-path")
    area = options.image_area
    limits = {"min_pixels": area, "max_pixels": area} if area else {}
    processor = Emu3VisionVQImageProcessor.from_pretrained(options.vq_model, **limits)
    factor, todo, skipped = processor.spatial_factor, [], []
    with ImageReader.open(processor, options.workers) as reader:
        sizes = tqdm(reader.sizes(items), total=len(items), desc="looking", unit="image")
        for size, item in zip(sizes, items):
            if isinstance(size, Skipped):
                skipped.append(size)
            elif not _is_written(folder, item, (size[0] // factor, size[1] // factor)):
                todo.append((item, size))
        if todo:
            batches = equal_batches(*map(list, zip(*todo)), options.batch_size)
            skipped += _encode(vision, folder, reader, batches)
    return skipped


def _encode(vision, folder: Path, reader, batches: list) -> list:
    """Encode and write the features of all batches; returns the unreadable items."""
    from mindspore import Tensor

    from train.data.features import write_feature

    skipped = []
    with tqdm(total=sum(map(len, batches)), desc="encoding", unit="image") as bar:
        for items, pixels, bad in reader.batches(batches):
            skipped += bad
            codes = vision.encode(Tensor(pixels)).asnumpy() if items else []
            for item, grid in zip(items, codes):
                write_feature(folder, replace(item.feature, codes=grid))
            bar.update(len(items) + len(bad))
    return skipped


def _is_written(folder: Path, item, size: tuple[int, int] | None) -> bool:
    """Whether the item's feature is there, whole, and what its record and size (rows, columns)
    would make it."""
    from train.data.features import read_feature

    path = folder / "feature" / f"{item.feature.name}.ckpt"
    if not path.exists():
        return False
    try:
        found = read_feature(path)
    except InputError:
        return False
    shape = None if found.codes is None else found.codes.shape
    return shape == size and replace(found, codes=None) == item.feature


def _report(options: argparse.Namespace, folder: Path, skipped: list) -> None:
    """Print the skipped records, and keep them in skipped_SPLIT.txt."""
    path = folder / f"skipped_{options.split}.txt"
    path.unlink(missing_ok=True)
    if not skipped:
        return
    lines = [f"{options.data_path}:{record.line}: {record.reason}" for record in skipped]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[:SHOWN]), file=sys.stderr)
    if len(lines) > SHOWN:
        print(f"... {len(lines) - SHOWN} more skipped records in {path}", file=sys.stderr)
