"""Shards: zip files that hold many features, each as the very file it would be on its own.

    feature/shard-00000.zip/NAME.ckpt      the path of a member, as a list names it

So any zip tool makes one file a sample of them again. Members are stored as they are; each has a
checksum. A shard appears whole or not at all, and is never written again.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from functools import lru_cache
from io import BytesIO
from os import stat_result
from os.path import isdir
from pathlib import Path

from emu3.errors import InputError

SUFFIX = ".zip"
OPEN_SHARDS = 256
WRITTEN = (1980, 1, 1, 0, 0, 0)  # the same features make the same bytes
ALLOWED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the latter by other tools
# All that the library raises for a damaged file.
DAMAGED = (
    *(OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError),
    *(struct.error, OverflowError),
)


def in_shard(path: Path) -> bool:
    """Whether `path` names a member of a shard: what is above it is a zip file, no folder."""
    return path.parent.suffix == SUFFIX and not isdir(path.parent)


def members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members of a shard by name.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return _opened(path, *_version(path.stat())).NameToInfo
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read shard {path}: {reason}") from None


def read_member(path: Path, most: int) -> bytes:
    """The content of the member that `path` names, of at most so many bytes.

    Raises:
        ValueError: it is not there, too large or damaged, or its shard is.
    """
    try:
        shard = _opened(path.parent, *_version(path.parent.stat()))
        info = shard.NameToInfo.get(path.name)
        if info is None:
            raise ValueError("its shard does not hold it")
        if info.file_size > most or info.compress_type not in ALLOWED:
            raise ValueError(f"no plain member of up to {most} bytes")
        return shard.read(info)
    except DAMAGED as error:
        raise ValueError(getattr(error, "strerror", None) or error) from None


def shard_bytes(contents: Iterable[tuple[str, bytes]]) -> bytes:
    """The shard of members with those names and contents."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as shard:
        for name, content in contents:
            shard.writestr(zipfile.ZipInfo(name, WRITTEN), content)
    return file.getvalue()


def _version(about: stat_result) -> tuple[int, int, int]:
    """What changes when another file gets the name."""
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is no regular file")
    return about.st_ino, about.st_size, about.st_mtime_ns


@lru_cache(OPEN_SHARDS)
def _opened(path: Path, *version: int) -> zipfile.ZipFile:
    shard = zipfile.ZipFile(path)
    if len(shard.NameToInfo) < len(shard.filelist):
        shard.close()
        raise ValueError("a name stands in it twice")
    return shard
