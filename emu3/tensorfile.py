"""Safetensors files read and written tensor by tensor, bfloat16 included, from numpy alone.

A file is a little-endian uint64 header length, a JSON header, then the tensors' bytes. The
safetensors library opens what is written here; its numpy side cannot read bfloat16, this can.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emu3.errors import InputError, shown
from emu3.files import atomic_path, parse_object

REMEDY = "fetch or save it again"
STORED = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
# Bytes of a value of the types above, and of those that are known but not read.
WIDTHS = {code: kind.itemsize for code, kind in STORED.items()}
WIDTHS |= {"U64": 8, "C64": 8, "U32": 4, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
FLOATS = ("F64", "F32", "F16", "BF16")
LFS_POINTER = int.from_bytes(b"version ", "little")  # how such a file begins
HEADER_BYTES, MOST_AXES = 100_000_000, 32
CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32"}


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: its file, stored type, shape, and first byte."""

    path: Path
    code: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * WIDTHS[self.code]

    def read(self) -> np.ndarray:
        """The tensor in memory of its own; bfloat16 becomes float32."""
        array = self.read_stored()
        return from_bfloat16(array) if self.code == "BF16" else array

    def read_stored(self, first: int = 0, stop: int | None = None) -> np.ndarray:
        """Lines first..stop-1 of the first axis, or all, as they lie in the file."""
        shape = self.shape
        if stop is not None:
            shape = (stop - first, *self.shape[1:])
        kind = STORED[self.code]
        with open(self.path, "rb") as file:
            file.seek(self.start + first * math.prod(self.shape[1:]) * kind.itemsize)
            array = np.fromfile(file, kind, math.prod(shape))
        if array.size < math.prod(shape):
            raise _broken(self.path, "it has become shorter while it was read")
        return array.reshape(shape)

    def read_in_blocks(self, values: int = 2**24) -> Iterator[tuple[slice, np.ndarray]]:
        """A matrix as float32, some lines at a time: which, and their values."""
        lines = max(1, values // max(1, math.prod(self.shape[1:])))
        for first in range(0, self.shape[0], lines):
            stop = min(self.shape[0], first + lines)
            block = self.read_stored(first, stop)
            block = from_bfloat16(block) if self.code == "BF16" else block
            yield slice(first, stop), block.astype(np.float32, copy=False)


def read_entries(path: Path) -> dict[str, Entry]:
    """The tensors of a safetensors file by name; their data stays on disk.

    Raises:
        InputError: the file is missing, truncated or malformed; names file and tensor.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            whole = 8 + length <= size and length <= HEADER_BYTES
            header = file.read(length) if whole else b""
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; change the model folder") from None
    if length == LFS_POINTER:
        raise _broken(path, "it is a pointer of git-lfs; `git lfs pull` fetches the file")
    if not whole:
        raise _broken(
            path, f"it has {size} bytes, and its header {length}: cut short, or no header"
        )
    fields = parse_object(header, f"the header of {path}", REMEDY, unique=True)
    fields.pop("__metadata__", None)
    base = 8 + length
    entries = {name: _entry(path, name, raw, base, size) for name, raw in fields.items()}
    _check_order(path, entries, base, size)
    return entries


def _entry(path: Path, name: str, raw: dict, base: int, size: int) -> Entry:
    try:
        (begin, end), shape, code = raw["data_offsets"], raw["shape"], raw["dtype"]
        numbers = all(type(value) is int and value >= 0 for value in (begin, end, *shape))
        entry = Entry(path, code, tuple(shape), base + begin) if numbers else None
        fits = numbers and len(shape) <= MOST_AXES and entry.size == end - begin
    except (KeyError, TypeError, ValueError):
        raise _broken(path, f"its entry for {name} is not understood: {shown(raw)}") from None
    if not fits:
        raise _broken(path, f"{name} {code} {shown(shape)} does not fill its bytes")
    if base + end > size:
        raise _broken(path, f"{name} ends at byte {base + end}, the file at {size}: truncated")
    return entry


def _check_order(path: Path, entries: dict[str, Entry], start: int, size: int) -> None:
    """Refuse tensors that share bytes, and bytes that are no tensor's."""
    for name, entry in sorted(entries.items(), key=lambda pair: (pair[1].start, pair[1].size)):
        if entry.start != start:
            kind = "shares bytes with the tensor" if entry.start < start else "leaves a hole"
            raise _broken(path, f"{name} begins at byte {entry.start}, not {start}: {kind} before")
        start += entry.size
    if start != size:
        raise _broken(path, f"its tensors end at byte {start}, the file at {size}")


def _broken(path: Path, why: str) -> InputError:
    return InputError(f"{path} is no usable safetensors file: {why}; {REMEDY}")


def write_tensors(
    path: Path,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    read: Callable[[str], np.ndarray],
    order: list[str] | None = None,
) -> None:
    """Write a safetensors file, one tensor in memory at a time; whole or not at all.

    `tensors` maps names to (stored type of STORED, shape); `read` gives each in turn, in `order`
    or, by default, the widest numbers first.
    """
    order = order or sorted(tensors, key=lambda name: (-STORED[tensors[name][0]].itemsize, name))
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in order:
        code, shape = tensors[name]
        end = offset + math.prod(shape) * STORED[code].itemsize
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            stored(name, read(name), tensors[name][0]).tofile(file)


def stored(name: str, array: np.ndarray, code: str) -> np.ndarray:
    """`array` as it lies in a file of type `code`, rounded to nearest, ties to even; bits of
    bfloat16, which have its type in files, as they are.

    Raises:
        InputError: a finite value is too large for float16; names the tensor.
    """
    if code == "BF16" and array.dtype == STORED[code]:
        return array
    if code == "BF16":
        return to_bfloat16(array.astype(np.float32))
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(array, STORED[code])
    except FloatingPointError:
        raise InputError(f"{name} exceeds float16; save it as bfloat16 or float32") from None


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """uint16 bit patterns -> float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """float32 -> uint16 bit patterns, rounded to nearest, ties to even; NaN stays NaN."""
    bits = array.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet = (bits >> 16) | 0x40  # rounding could carry a NaN into infinity
    return np.where(np.isnan(array), quiet, rounded).astype(np.uint16)
