"""`.pth` samples: pickles of dicts with arrays or tensors, and nothing that runs."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from emu3.errors import InputError
from train.data.features import list_files, read_feature
from train.data.torch_file import parse_torch

CODES = np.arange(6, dtype=np.int64).reshape(2, 3)
SAMPLE = {"name": "7", "images": CODES, "texts": "a dog 一"}


def zipped(pickled, compression=zipfile.ZIP_STORED, **members):
    """A file as torch.save lays it out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("7/data.pkl", pickled)
        for name, content in members.items():
            archive.writestr(f"7/data/{name[1:]}", content)
        archive.writestr("7/version", "3\n")
    return buffer.getvalue()


def saved(value, core="core"):
    """`value` pickled as torch.save does, by a numpy before or since 2."""
    text = pickle.dumps(value, 2)
    for name in (b"numpy._core.", b"numpy.core."):
        text = text.replace(b"c" + name, b"cnumpy." + core.encode() + b".")
    return zipped(text)


def tensor(kind="LongStorage", count=6, shape=(2, 3), strides=(3, 1), offset=0):
    """The pickle of {"images": a tensor, "texts": "a dog"} with its values in data/0."""
    text = b"(S'images'\nctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\n"
    text += f"{kind}\nS'0'\nS'cpu'\nI{count}\ntQI{offset}\n".encode()
    for numbers in (shape, strides):
        text += b"(" + b"".join(f"I{n}\n".encode() for n in numbers) + b"t"
    return text + b"I00\nccollections\nOrderedDict\n(tRtRS'texts'\nS'a dog'\nd."


@pytest.mark.parametrize("core", ["core", "_core"])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, ">i8", np.uint8])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_sample_of_the_pytorch_repository_is_read(tmp_path, core, dtype, order):
    codes = np.asarray(CODES.astype(dtype), order=order)
    (tmp_path / "a.pth").write_bytes(saved(SAMPLE | {"images": codes}, core))
    feature = read_feature(tmp_path / "a.pth")
    np.testing.assert_array_equal(feature.codes, CODES.astype(np.int32), strict=True)
    assert feature.texts == "a dog 一" and feature.kind == "t2i"


@pytest.mark.parametrize("prefix", ["{}/feature", "/their/machine/feature"])
def test_a_folder_of_the_pytorch_repository_is_read(tmp_path, prefix):
    for name in ("feature", "list"):
        (tmp_path / name).mkdir()
    (tmp_path / "feature" / "7.pth").write_bytes(saved(SAMPLE))
    content = {"prefix": prefix.format(tmp_path), "path_list": ["7.pth"]}
    (tmp_path / "list" / "train.json").write_text(json.dumps(content))
    (path,) = list_files(tmp_path / "list" / "train.json", "--data")
    assert read_feature(path).name == "7"


def test_tensors_are_read_as_arrays_too():
    found = parse_torch(zipped(tensor(), _0=CODES.tobytes()))["images"]
    np.testing.assert_array_equal(found, CODES, strict=True)


def test_a_transposed_tensor_keeps_its_order():
    data = zipped(tensor(shape=(3, 2), strides=(1, 3)), _0=CODES.tobytes())
    np.testing.assert_array_equal(parse_torch(data)["images"], CODES.T)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (3, 3)},
        {"shape": (10**9, 10**9), "strides": (0, 0)},
        {"offset": 1},
        {"offset": -1},
        {"strides": (-3, 1)},
        {"shape": (-2, 3)},
        {"shape": (2, 2**60)},
        {"shape": (2, 3), "strides": (3,)},
        {"count": 7},
        {"kind": "BFloat16Storage"},
        {"kind": "UntypedStorage"},
    ],
)
def test_a_tensor_that_leaves_its_storage_is_refused(change):
    with pytest.raises(ValueError, match=r"torch\.save"):
        parse_torch(zipped(tensor(**change), _0=CODES.tobytes()))


class Runs:
    """Something whose pickle calls a function of the system."""

    def __reduce__(self):
        return os.mkdir, ("made_by_a_pickle",)


@pytest.mark.parametrize("value", [SAMPLE | {"more": Runs()}, Runs(), {"images": {"a": Runs()}}])
def test_a_pickle_that_runs_something_is_refused_by_its_name(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").write_bytes(zipped(pickle.dumps(value, 2)))
    with pytest.raises(InputError, match=r"posix\.mkdir.*torch\.save"):
        read_feature(tmp_path / "a.pth")
    assert not (tmp_path / "made_by_a_pickle").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"}r\xff\xff\xff\x7f.",  # a memo of 2^31 places
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x3f.",  # a bytearray of 2^62 bytes
        b"",
        b"}",
        b"]" * 1000 + b".",
        pickle.dumps([1]),
        pickle.dumps({"images": np.array(["text"])}, 2),
        pickle.dumps({"images": np.array([None])}, 2),
    ],
)
def test_a_pickle_of_anything_else_is_refused_and_the_way_out_is_named(text):
    with pytest.raises(ValueError, match=r"torch\.save"):
        parse_torch(zipped(text))


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_compressed_zip_is_refused_before_it_is_expanded(compression):
    with pytest.raises(ValueError, match="compressed"):
        parse_torch(zipped(pickle.dumps(SAMPLE, 2), compression))


def test_no_flipped_bit_gives_anything_but_a_dict_or_a_value_error():
    rng = np.random.default_rng(0)
    for whole in (saved(SAMPLE), zipped(tensor(), _0=CODES.tobytes())):
        for _ in range(500):
            data = bytearray(whole)
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            try:
                assert isinstance(parse_torch(bytes(data)), dict)
            except ValueError:
                continue
