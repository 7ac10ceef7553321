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
