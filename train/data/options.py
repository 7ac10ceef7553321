"""What the commands that prepare data are told: the records, the folder, and how to encode."""

import argparse
import re
from dataclasses import dataclass

from emu3 import bundled
from emu3.cli.options import Device, add_device_options, add_numbers, positive_int
from emu3.cli.shell import Parser


@dataclass(frozen=True)
class Files:
    """Where records are read and features written."""

    data_path: str
    output_path: str
    split: str


@dataclass(frozen=True)
class Encoding:
    """How images become codes."""

    vq_model: str
    image_area: int | None
    batch_size: int
    workers: int
    device: Device


@dataclass(frozen=True)
class TextOptions:
    """Of records without images."""

    files: Files


@dataclass(frozen=True)
class ImageOptions:
    """Of records with images."""

    files: Files
    encoding: Encoding


def make_parser(name: str, description: str, kind: str) -> Parser:
    """The parser of `python -m train.<name>` with the options every kind of data has."""
    parser = Parser(
        prog=f"train.{name}",
        description=f"{description} Exit codes: 0 every record is in, 1 some were skipped, "
        "2 bad input.",
    )
    parser.add_argument(
        "--data-path",
        default=str(bundled.EXAMPLE_RECORDS / f"{kind}.jsonl"),
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
    """The options of `Encoding`."""
    parser.add_argument(
        "--model-path",
        "--vq-model",
        dest="vq_model",
        default=str(bundled.MINI_VISION),
        metavar="PATH",
        help="vision tokenizer: a folder or a hub id such as BAAI/Emu3-VisionTokenizer "
        "(default: emu3-mini's)",
    )
    parser.add_argument(
        "--image-area",
        type=positive_int,
        metavar="PIXELS",
        help="resize every image to about this area, such as 262144 for 512x512 (default: only "
        "into the area limits of the model's image processor, as at inference)",
    )
    add_numbers(
        parser,
        ("--batch-size", 4, "images of equal size encoded together"),
        ("--workers", 1, "processes that read and resize images; 1 reads in this one"),
    )
    add_device_options(parser, attention=False)


def _split(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, _ . -")
    return text
