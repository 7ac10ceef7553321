"""Writing the features of a folder: a file for each, or shards of many.

Features of a shard wait in memory until it is full, or `SECONDS` are over: so much work is lost at
most when the command is killed. One that already stands in the other form is written in the form
that is asked for, and goes from its old place once the list no longer names it.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emu3.errors import InputError
from train.data.features import (
    ONE,
    Feature,
    feature_bytes,
    read_bytes,
    read_feature,
    write_list,
    write_whole,
)
from train.data.shards import SUFFIX, members, shard_bytes

SECONDS = 30.0  # between shards
MOST_WAITING = 2**26  # bytes


class FeatureWriter:
    """The features in `folder`, as one command goes on with them.

    Args:
        folder: a feature folder that is held.
        size: features of a shard, or 0 for a file each.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder / "feature", size
        self.waiting: dict[str, bytes] = {}
        self.since, self.bytes = time.monotonic(), 0
        # Without damaged ones, whose features are made again. Later shards win: they hold what
        # was made again.
        self.shards = {path: set(found) for path in self._paths() if (found := _names(path))}
        self.places = {name: path for path, names in self.shards.items() for name in names}

    @classmethod
    @contextmanager
    def open(cls, folder: Path, size: int) -> Iterator["FeatureWriter"]:
        """A writer whose waiting features are written at the end, also when the block fails."""
        writer = cls(folder, size)
        try:
            yield writer
        finally:
            writer.flush()

    def find(self, name: str) -> Path | None:
        """Where a feature is that was written before, in whatever form."""
        own = self.folder / f"{name}{ONE}"
        there = [own] if own.exists() else []
        if own.name in self.places:
            there.insert(0 if self.size else 1, self.places[own.name] / own.name)
        return there[0] if there else None

    def found(self, name: str) -> Feature | None:
        """The feature of that name, if there is one that can be read."""
        path = self.find(name)
        try:
            return None if path is None else read_feature(path)
        except InputError:
            return None

    def write(self, feature: Feature) -> None:
        """Write a feature, or have it wait for its shard."""
        self.put(feature.name, feature_bytes(feature))

    def put(self, name: str, content: bytes) -> None:
        """`write` for the content of a feature's file."""
        name = f"{name}{ONE}"
        if not self.size:
            write_whole(self.folder / name, content)
            return
        if not self.waiting:
            self.since = time.monotonic()
        self.waiting[name] = content
        self.bytes += len(content)
        late = time.monotonic() - self.since > SECONDS
        if len(self.waiting) >= self.size or self.bytes > MOST_WAITING or late:
            self.flush()

    def keep(self, name: str) -> None:
        """Have a feature that `find` found stand in the form that is asked for.

        Raises:
            InputError: it cannot be read.
        """
        path = self.find(name)
        if (path.parent == self.folder) == bool(self.size):
            self.put(name, read_bytes(path))

    def flush(self) -> None:
        """Write the features that wait as a shard."""
        if not self.waiting:
            return
        number = max((_number(path) for path in self._paths()), default=-1) + 1
        path = self.folder / f"shard-{number:05d}{SUFFIX}"
        write_whole(path, shard_bytes(self.waiting.items()))
        self.shards[path] = set(self.waiting)
        self.places |= dict.fromkeys(self.waiting, path)
        self.waiting, self.bytes = {}, 0

    def write_list(self, split: str, names: Iterable[str]) -> Path:
        """Write the list of these features; what stands twice then goes. Returns its path."""
        self.flush()
        files = [f"{name}{ONE}" for name in names]
        if not self.size:
            path = write_list(self.folder.parent, split, files)
            for name in files:
                self.places.pop(name, None)
        else:
            entries = [f"{self.places[name].name}/{name}" for name in files]
            path = write_list(self.folder.parent, split, entries)
            for name in files:
                (self.folder / name).unlink(missing_ok=True)
        self._remove_empty()
        return path

    def _remove_empty(self) -> None:
        """Remove shards all of whose features stand elsewhere."""
        for path, names in list(self.shards.items()):
            if not any(self.places.get(name) == path for name in names):
                path.unlink(missing_ok=True)
                del self.shards[path]

    def _paths(self) -> list[Path]:
        found = (path for path in self.folder.glob(f"shard-*{SUFFIX}") if _number(path) >= 0)
        return sorted(found, key=_number)


def _number(path: Path) -> int:
    """The number of a shard; -1 of a file that is called otherwise."""
    digits = path.stem.removeprefix("shard-")
    return int(digits) if digits.isdecimal() and digits.isascii() else -1


def _names(path: Path) -> Iterable[str]:
    """The members of a shard; none of one that is damaged."""
    try:
        return members(path)
    except InputError:
        return ()
