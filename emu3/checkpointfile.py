"""MindSpore checkpoint files (`.ckpt`), read and written as plain texts and numpy arrays.

MindSpore's own reader trusts the file: it copies as many bytes as the content has into a tensor
of another size. Here every length is compared with what the file says before it is used.

    Checkpoint  { repeated Value value = 1 }
    Value       { string tag = 1, TensorProto tensor = 2, MapTensorProto maptensor = 3 }
    TensorProto { repeated int64 dims = 1, string tensor_type = 2, bytes tensor_content = 3 }

A large tensor comes in several values of one tag. Texts are UTF-32; a scalar's dims are [0].
"""

import binascii
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from emu3.tensorfile import from_bfloat16

TYPES = {
    name: np.dtype(name.lower())
    for name in (
        *("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"),
        *("Float16", "Float32", "Float64", "Bool"),
    )
}
BFLOAT16 = "BFloat16"  # of weights; numpy has no such type
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
CHECKSUM = b"crc_num"  # and 10 bytes of the number, after the last value
MOST_DIMS = 8


def parse_checkpoint(data: bytes, wanted: frozenset[str]) -> dict[str, str | np.ndarray]:
    """The values of a checkpoint file whose tags are `wanted`.

    Raises:
        ValueError: bytes that are no checkpoint, or lengths in it that contradict each other.
    """
    stored = stored_values(memoryview(data))
    return {tag: value.read() for tag, value in stored.items() if tag in wanted}


def checkpoint_bytes(values: Mapping[str, str | np.ndarray]) -> bytes:
    """The checkpoint file of texts, and of arrays of `TYPES`; MindSpore reads it too."""
    return b"".join(
        _field(1, _field(1, tag.encode()) + _field(2, _tensor(value)))
        for tag, value in values.items()
    )


def _tensor(value: str | np.ndarray) -> bytes:
    if isinstance(value, str):
        kind, dims, content = "str", (), value.encode("utf-32-le", "surrogatepass")
    else:
        kind = next(name for name, dtype in TYPES.items() if dtype == value.dtype)
        dims, content = value.shape, value.tobytes()
    sides = b"".join(b"\x08" + _number(side) for side in dims or (0,))
    return sides + _field(2, kind.encode()) + _field(3, content)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | BYTES]) + _number(len(content)) + content


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


@dataclass(frozen=True)
class StoredValue:
    """A value of a file: its tag, dims and type as stated, and the bytes of its slices."""

    tag: str
    dims: list[int]
    kind: str
    slices: list[memoryview]

    def read(self) -> str | np.ndarray:
        """The value; bfloat16 becomes float32.

        Raises:
            ValueError: a type that is not known, or bytes that its dims do not want.
        """
        return _decoded(self.tag, self.dims, self.kind, self.slices)


def stored_values(data: memoryview) -> dict[str, StoredValue]:
    """The values of a checkpoint file by tag; their bytes stay where they are.

    Raises:
        ValueError: as `parse_checkpoint`.
    """
    if not data:
        raise ValueError("the file is empty")
    parts: dict[str, tuple[list[int], str, list[memoryview]]] = {}
    last = None
    for number, value in _fields(_without_checksum(data)):
        if number != 1 or not isinstance(value, memoryview):
            raise ValueError("no MindSpore checkpoint")
        tag, dims, kind, content = _value(value)
        if tag == last and parts[tag][:2] == (dims, kind):
            parts[tag][2].append(content)
        elif tag in parts:
            raise ValueError(f"{tag[:60]!r} stands in it twice")
        else:
            parts[tag] = (dims, kind, [content])
        last = tag
    return {tag: StoredValue(tag, *parts[tag]) for tag in parts}


def _without_checksum(data: memoryview) -> memoryview:
    """The file without the checksum MindSpore may have put at its end."""
    if data[-17:-10] != CHECKSUM:
        return data
    if binascii.crc32(data[:-17]) != int.from_bytes(data[-10:], "big"):
        raise ValueError("its checksum is another than its content's")
    return data[:-17]


def _value(data: memoryview) -> tuple[str, list[int], str, memoryview]:
    """Tag, dims, type and content of one Value."""
    fields = dict(_fields(data))
    if not isinstance(fields.get(1), memoryview) or not isinstance(fields.get(2), memoryview):
        raise ValueError("a value without a tag or a tensor")
    tag = str(fields[1], "utf-8")
    dims: list[int] = []
    texts = {}
    for number, value in _fields(fields[2]):
        if number == 1:
            dims += [value] if isinstance(value, int) else _varints(value)
        elif number in (2, 3) and isinstance(value, memoryview):
            texts[number] = value
    if len(texts) != 2:
        raise ValueError(f"{tag[:60]!r} without a type or content")
    return tag, dims, str(texts[2], "utf-8"), texts[3]


def _decoded(tag: str, dims: list[int], kind: str, parts: list[memoryview]) -> str | np.ndarray:
    """A value as text or as an array of its dims."""
    content = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
    if kind == "str":
        return str(content, "utf-32-le").rstrip("\0")
    if kind == BFLOAT16:
        bits = _decoded(tag, dims, "UInt16", parts)
        return from_bfloat16(bits)
    if kind not in TYPES:
        raise ValueError(f"{tag!r} is of type {kind[:60]!r}; allowed: str, {', '.join(TYPES)}")
    shape = [] if dims == [0] else dims
    if len(shape) > MOST_DIMS or any(side < 0 for side in shape):
        raise ValueError(f"{tag!r} has dims {str(shape)[:60]}; allowed: up to {MOST_DIMS}, >= 0")
    size = math.prod(shape) * TYPES[kind].itemsize
    if len(content) != size:
        raise ValueError(
            f"{tag!r} has {len(content)} bytes; its dims {shape} of {kind} want {size}"
        )
    return np.frombuffer(content, TYPES[kind]).reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of a message; a value is a number, or the bytes of a field."""
    place, end = 0, len(data)
    while place < end:
        key, place = _varint(data, place)
        kind = key & 7
        if kind == VARINT:
            value, place = _varint(data, place)
        elif kind in (BYTES, FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
            if kind == BYTES:
                length, place = _varint(data, place)
            if not 0 <= length <= end - place:
                raise ValueError("it is cut short, or no checkpoint")
            value, place = data[place : place + length], place + length
        else:
            raise ValueError("no MindSpore checkpoint")
        yield key >> 3, value


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """The int64 at `place`, and where the next field begins."""
    if place < len(data) and data[place] < 128:  # mostly
        return data[place], place + 1
    number = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            number &= (1 << 64) - 1
            return number - (1 << 64) if number >> 63 else number, place
    raise ValueError("it is cut short, or no checkpoint")


def _varints(data: memoryview) -> list[int]:
    """The numbers of a packed field."""
    numbers, place = [], 0
    while place < len(data):
        number, place = _varint(data, place)
        numbers.append(number)
    return numbers
