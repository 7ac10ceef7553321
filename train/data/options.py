"""What the commands that prepare data are told: the records, the folder, and how to encode."""

import argparse
import re
from dataclasses import dataclass
from typing import Any

from emu3 import bundled
from emu3.cli.options import Device
from emu3.cli.shell import command
from emu3.mllm.parts import FASTEST, SLOWEST
from emu3.options import group, number, option, path_text, whole

MOST_PIXELS = 2**26  # 8192x8192
MOST_WORKERS = 512
MOST_FRAMES = 2**14  # of a clip
MOST_TOGETHER = 4096  # images of a batch
MOST_IN_SHARD = 2**16  # features


def split_name(text: str) -> str:
    """A name of letters, digits, _ . -, for argparse."""
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, _ . -")
    return text


def shard_size(default: int = 0) -> Any:
    """--shard-size."""
    return option(
        "features of a shard, one zip file; 0 writes a file each, as the original port does",
        default,
        whole(0, MOST_IN_SHARD),
    )


@dataclass(frozen=True)
class Files:
    """Where records are read and features written."""

    data_path: str = option(
        "JSON list or JSON lines of records (default: a few bundled ones)",
        "",
        path_text,
        metavar="FILE",
    )
    output_path: str = option(
        "feature folder to write or go on with", "", path_text, metavar="FOLDER"
    )
    split: str = option("name of the list, list/NAME.json", "train", split_name, metavar="NAME")
    shard_size: int = shard_size()


@dataclass(frozen=True)
class Encoding:
    """How images become codes."""

    vq_model: str = option(
        "vision tokenizer: a folder or a hub id such as BAAI/Emu3-VisionTokenizer "
        "(default: emu3-mini's)",
        str(bundled.MINI_VISION),
        path_text,
        also=("--model-path",),
        metavar="PATH",
    )
    image_area: int | None = option(
        "resize every image to about this area, such as 262144 for 512x512: captioned ones to the "
        "grid that drawing at their ratio has (default: only into the area limits of the model's "
        "image processor, as at inference)",
        None,
        whole(1, MOST_PIXELS),
        metavar="PIXELS",
    )
    batch_size: int = option("images of equal size encoded together", 4, whole(1, MOST_TOGETHER))
    workers: int = option(
        "processes that read and resize images; 1 reads in this one", 1, whole(1, MOST_WORKERS)
    )
    device: Device = group(leave_out=("attn_implementation",))


@dataclass(frozen=True)
class ClipCutting:
    """How clips become samples."""

    max_frames: int = option(
        "longer clips are cut into clips of so many frames, with the same text",
        64,
        whole(1, MOST_FRAMES),
    )
    fps: float | None = option(
        "frames a second to take, others are left out (default: all of the clip's)",
        None,
        number(SLOWEST, FASTEST),
    )
    clip_frames: int | None = option(
        "frames coded together (default: what the vision tokenizer states, else those of a latent "
        "frame)",
        None,
        whole(1, MOST_TOGETHER),
    )


def files_of(kind: str) -> Any:
    """The `Files` of a kind of data: bundled records, and a folder named for it."""
    records = bundled.EXAMPLE_RECORDS / f"{kind}.jsonl"
    return group(data_path=str(records), output_path=f"outputs/features/{kind}")


def preparing_command(name: str, description: str, options: type, kind: str) -> tuple:
    """`build_parser` and `main` of `python -m train.<name>`, for records of that kind.

    `options` has `files`, `encoding` where records have images, `clips` where they have parts.
    """

    def run(told: Any) -> int:
        if hasattr(told, "clips"):
            from train.data.part_preparing import prepare_parts

            return prepare_parts(kind, told.files, told.encoding, told.clips)
        from train.data.preparing import prepare

        return prepare(kind, told.files, getattr(told, "encoding", None))

    codes = "Exit codes: 0 every record is in, 1 some were skipped, 2 bad input."
    return command(f"train.{name}", f"{description} {codes}", options, run)
