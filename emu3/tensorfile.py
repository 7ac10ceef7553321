"""Safetensors files read and written tensor by tensor, bfloat16 included, from numpy alone.

A file is a little-endian uint64 header length, a JSON header, then the tensors' bytes. The
safetensors library opens what is written here; its numpy side cannot read bfloat16, this can.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emu3.errors import InputError
from emu3.files import atomic_path

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
        return math.prod(self.shape) * STORED[self.code].itemsize

    def read(self) -> np.ndarray:
        """The tensor in memory of its own; bfloat16 becomes float32."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            array = np.fromfile(file, STORED[self.code], math.prod(self.shape))
        if self.code == "BF16":
            array = from_bfloat16(array)
        return array.reshape(self.shape)


def read_entries(path: Path) -> dict[str, Entry]:
    """The tensors of a safetensors file by name; their data stays on disk.

    Raises:
        InputError: the file is missing, truncated or malformed; names file and tensor.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 8 + length <= size else None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; change the model folder") from None
    except ValueError:
        raise _broken(path, "its header is no JSON") from None
    if not isinstance(header, dict):
        raise _broken(path, f"it has {size} bytes, fewer than its header")
    header.pop("__metadata__", None)
    return {name: _entry(path, name, raw, 8 + length, size) for name, raw in header.items()}


def _entry(path: Path, name: str, raw: dict, base: int, size: int) -> Entry:
    try:
        begin, end = raw["data_offsets"]
        entry = Entry(path, raw["dtype"], tuple(raw["shape"]), base + begin)
        fits = entry.size == end - begin and min((begin, *entry.shape)) >= 0
    except (KeyError, TypeError, ValueError):
        raise _broken(path, f"its entry for {name} is not understood: {raw}") from None
    if not fits:
        raise _broken(path, f"{name} {entry.code} {entry.shape} does not fill its bytes")
    if base + end > size:
        raise _broken(path, f"{name} ends at byte {base + end}, the file at {size}: truncated")
    return entry


def _broken(path: Path, why: str) -> InputError:
    return InputError(f"{path} is no usable safetensors file: {why}; fetch or save it again")


def write_tensors(
    path: Path,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    read: Callable[[str], np.ndarray],
) -> None:
    """Write a safetensors file, one tensor in memory at a time; whole or not at all.

    `tensors` maps names to (stored type of STORED, shape); `read` gives each in turn.
    """
    order = sorted(tensors, key=lambda name: (-STORED[tensors[name][0]].itemsize, name))
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
    """`array` as it lies in a file of type `code`, rounded to nearest, ties to even.

    Raises:
        InputError: a finite value is too large for float16; names the tensor.
    """
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
