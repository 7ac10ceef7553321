"""Features a file each against shards: `python -m train.measure.feature_files`.

Writes tiny samples (8 x 8 codes, two captions) and reads them in the order of an epoch: once as
training does, once with their pages dropped from the system's cache first, as after a restart.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emu3.cli.shell import command, leave
from emu3.options import option, whole
from train.data.features import Feature, list_files, read_feature
from train.data.writing import FeatureWriter

MIB = 2**20


@dataclass(frozen=True)
class Options:
    """Of this command."""

    samples: int = option("tiny features", 16000, whole(1, 10**6))
    shard_size: int = option("features of a shard", 2000, whole(1, 2**16))


def run(options: Options) -> None:
    """Print a row for files and one for shards."""
    print(f"{options.samples} samples   files    MiB  write s  list s  read s  read cold s")
    for size in (0, options.shard_size):
        with tempfile.TemporaryDirectory() as folder:
            show(Path(folder), options.samples, size)


def show(folder: Path, samples: int, size: int) -> None:
    """Write and read one form; prints its row."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 512, (samples, 8, 8), np.int32)
    names = [f"{number:06d}" for number in range(samples)]

    def write() -> Path:
        with FeatureWriter.open(folder, size) as features:
            for name, grid in zip(names, codes):
                captions = ["a red circle", "一个红色圆形"]
                features.write(Feature(name, grid, captions[0], captions=captions, inputs="0" * 64))
        return features.write_list("train", names)

    path, writing = timed(write)
    files, listing = timed(lambda: list_files(path, "--data"))
    order = [files[place] for place in rng.permutation(samples)]
    _, reading = timed(lambda: [read_feature(file) for file in order])
    written = list((folder / "feature").iterdir())
    drop_pages(written)
    _, cold = timed(lambda: [read_feature(file) for file in order])
    used = sum(file.stat().st_blocks for file in written) * 512 / MIB
    kind = "in shards" if size else "a file each"
    seconds = f"{writing:7.2f}  {listing:6.2f}  {reading:6.2f}  {cold:11.2f}"
    print(f"{kind:14}  {len(written):6}  {used:5.1f}  {seconds}")


def timed(work: Callable[[], object]) -> tuple:
    """What work gives, and its seconds."""
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start


def drop_pages(files: list[Path]) -> None:
    """Have files on disk and out of the system's cache."""
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


build_parser, main = command(
    "train.measure.feature_files", "Measure features a file each against shards.", Options, run
)

if __name__ == "__main__":
    leave(main())
