"""Checkpoint files byte by byte: what contradicts itself is refused before anything is copied."""

import binascii

import mindspore as ms
import numpy as np
import pytest

from emu3.checkpointfile import TYPES, parse_checkpoint

KEYS = frozenset({"images", "texts"})


def field(number, content):
    """A field of bytes of a protobuf message."""
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(number):
    number %= 1 << 64
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def value(tag, dims, kind, content):
    tensor = b"".join(b"\x08" + varint(side) for side in dims)
    tensor += field(2, kind.encode()) + field(3, content)
    return field(1, field(1, tag.encode()) + field(2, tensor))


def test_values_are_those_that_mindspore_reads(tmp_path):
    path = tmp_path / "a.ckpt"
    codes = ms.Tensor(np.arange(6).reshape(2, 3), ms.int32)
    ms.save_checkpoint([], str(path), append_dict={"images": codes, "texts": "一 dog \U0001f415"})
    theirs = ms.load_checkpoint(str(path))
    ours = parse_checkpoint(path.read_bytes(), KEYS)
    np.testing.assert_array_equal(ours["images"], theirs["images"].asnumpy(), strict=True)
    assert ours["texts"] == theirs["texts"]


@pytest.mark.parametrize("kind", TYPES)
def test_every_kind_of_number_keeps_its_type(kind):
    array = np.array([[0, 1], [1, 0]], TYPES[kind])
    found = parse_checkpoint(value("images", [2, 2], kind, array.tobytes()), KEYS)["images"]
    np.testing.assert_array_equal(found, array, strict=True)


def test_packed_dims_are_dims():
    tensor = field(1, varint(2) + varint(1)) + field(2, b"Int8") + field(3, b"\x01\x02")
    data = field(1, field(1, b"images") + field(2, tensor))
    assert parse_checkpoint(data, KEYS)["images"].shape == (2, 1)


def test_a_tensor_in_slices_is_joined():
    whole = np.arange(4, dtype=np.int32)
    parts = [value("images", [4], "Int32", half.tobytes()) for half in np.split(whole, 2)]
    np.testing.assert_array_equal(parse_checkpoint(b"".join(parts), KEYS)["images"], whole)


def test_a_checksum_is_taken_off_if_it_is_right_and_refused_if_not():
    data = value("texts", [1], "str", "a".encode("utf-32-le"))
    number = binascii.crc32(data)
    checked = data + b"crc_num" + number.to_bytes(10, "big")
    assert parse_checkpoint(checked, KEYS) == {"texts": "a"}
    with pytest.raises(ValueError, match="checksum"):
        parse_checkpoint(data + b"crc_num" + (number + 1).to_bytes(10, "big"), KEYS)


@pytest.mark.parametrize(
    ("dims", "kind", "size", "said"),
    [
        ([1, 1], "Int32", 400_000, "400000 bytes"),
        ([8, 8], "Int32", 24, "24 bytes"),
        ([-6], "Int32", 24, "dims"),
        ([-2, -3], "Int32", 24, "dims"),
        ([2**62, 2**62], "Int32", 24, "24 bytes"),
        ([1] * 100, "Int32", 4, "dims"),
        ([3], "Int4", 3, "Int4"),
        ([1], "str", 3, "utf-32"),
        ([1], "str", 0x7FFF, "utf-32"),
    ],
)
def test_content_that_does_not_fit_is_refused(dims, kind, size, said):
    with pytest.raises(ValueError, match=said):
        parse_checkpoint(value("images", dims, kind, b"\xdf" * size), KEYS)


def test_a_tag_that_comes_again_later_is_refused():
    one = value("texts", [1], "str", "a".encode("utf-32-le"))
    with pytest.raises(ValueError, match="twice"):
        parse_checkpoint(one + value("images", [1], "Int8", b"\x01") + one, KEYS)


def test_no_flipped_bit_or_cut_gives_anything_but_values_or_a_value_error():
    rng = np.random.default_rng(0)
    whole = value("images", [2, 3], "Int32", bytes(24))
    whole += value("texts", [1], "str", "a dog".encode("utf-32-le"))
    for _ in range(3000):
        data = bytearray(whole[: rng.integers(len(whole) + 1)])
        for place in rng.integers(0, max(len(data), 1), rng.integers(3)):
            if data:
                data[place] ^= 1 << rng.integers(8)
        try:
            parse_checkpoint(bytes(data), KEYS)
        except ValueError:
            continue
