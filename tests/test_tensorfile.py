"""Safetensors files: equal to the library's, exact in every stored type, clear when broken."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from emu3.errors import InputError
from emu3.tensorfile import from_bfloat16, read_entries, stored, to_bfloat16, write_tensors

TENSORS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "b.half": np.array([1, 2.5, -3], np.float16),
    "c.count": np.array(5, np.int64),
}
KINDS = {"a.weight": ("F32", (2, 3)), "b.half": ("F16", (3,)), "c.count": ("I64", ())}


@pytest.fixture
def path(tmp_path):
    """A good file of `TENSORS`."""
    write_tensors(tmp_path / "model.safetensors", KINDS, TENSORS.__getitem__)
    return tmp_path / "model.safetensors"


def test_the_library_reads_what_is_written(path):
    loaded = load_file(path)
    assert set(loaded) == set(TENSORS)
    for name, array in TENSORS.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_what_the_library_writes_is_read(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors")
    entries = read_entries(tmp_path / "x.safetensors")
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(entries[name].read(), array)


def test_bfloat16_is_float32_rounded_to_nearest_even():
    values = [1.0, 1 + 2**-8, 1 + 3 * 2**-8, -1e-40, 3.4e38, np.inf, 0.1]
    wanted = [1.0, 1.0, 1 + 2**-6, from_bfloat16(to_bfloat16(np.float32([-1e-40])))[0]]
    got = from_bfloat16(to_bfloat16(np.array(values, np.float32)))
    np.testing.assert_array_equal(got[:4], np.float32(wanted))
    assert got[4] == np.inf and got[5] == np.inf
    assert abs(got[6] - 0.1) < 0.1 * 2**-8


def test_bfloat16_keeps_nan():
    nan = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(from_bfloat16(to_bfloat16(nan))).all()


def test_bfloat16_file_reads_back_rounded(tmp_path):
    array = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    write_tensors(tmp_path / "x.safetensors", {"w": ("BF16", (4, 5))}, lambda _: array)
    read = read_entries(tmp_path / "x.safetensors")["w"].read()
    np.testing.assert_array_equal(read, from_bfloat16(to_bfloat16(array)))


def test_float16_overflow_names_the_tensor():
    with pytest.raises(InputError, match=r"lm_head\.weight"):
        stored("lm_head.weight", np.array([1e6], np.float32), "F16")


@pytest.mark.parametrize("keep", [0, 4, 40])
def test_truncated_header_is_one_clear_error(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read_entries(path)


def test_truncated_data_names_file_and_tensor(path):
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"model\.safetensors.*b\.half.*truncated"):
        read_entries(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "Q4", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 4.0]},
        {"dtype": "F32", "shape": [1] * 33, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**400]},
        17,
    ],
)
def test_malformed_entry_names_the_tensor(tmp_path, entry):
    text = json.dumps({"odd.weight": entry}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(InputError, match=r"odd\.weight"):
        read_entries(tmp_path / "x.safetensors")


def test_header_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes((4).to_bytes(8, "little") + b"nope" + bytes(8))
    with pytest.raises(InputError, match="no JSON"):
        read_entries(tmp_path / "x.safetensors")


def test_failed_write_leaves_nothing_behind(tmp_path):
    def fail(name):
        raise RuntimeError(name)

    with pytest.raises(RuntimeError):
        write_tensors(tmp_path / "x.safetensors", {"w": ("F32", (1,))}, fail)
    assert list(tmp_path.iterdir()) == []


def write_raw(path, header: bytes, data: bytes) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


@pytest.mark.parametrize(
    ("second", "size", "word"),
    [((2, 6), 6, "shares"), ((8, 12), 12, "hole"), ((4, 8), 12, "end at byte")],
)
def test_tensors_fill_a_file_with_no_overlap_and_no_hole(tmp_path, second, size, word):
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    two = {"dtype": "F32", "shape": [1], "data_offsets": second}
    header = json.dumps({"a": one, "b": two}).encode()
    write_raw(tmp_path / "x.safetensors", header, bytes(size))
    with pytest.raises(InputError, match=word):
        read_entries(tmp_path / "x.safetensors")


@pytest.mark.parametrize("header", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a": NaN}', b"[]"])
def test_a_header_of_another_kind_is_refused(tmp_path, header):
    write_raw(tmp_path / "x.safetensors", header, b"")
    with pytest.raises(InputError, match=r"header of .*x\.safetensors"):
        read_entries(tmp_path / "x.safetensors")


def test_a_tensor_that_is_named_twice_is_refused(tmp_path):
    entry = '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    header = f"{{{entry}, {entry}}}".encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    with pytest.raises(InputError, match="'a' stands in it twice"):
        read_entries(path)


def test_a_pointer_in_place_of_a_file_is_called_one(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    with pytest.raises(InputError, match="git lfs pull"):
        read_entries(path)


def test_types_that_are_not_read_may_stand_beside_others(tmp_path):
    entry = {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}
    write_raw(tmp_path / "x.safetensors", json.dumps({"a": entry}).encode(), bytes(4))
    assert read_entries(tmp_path / "x.safetensors")["a"].size == 4
