"""Codes files from elsewhere, damaged ones and hostile ones."""

import io
import json
import zipfile

import numpy as np
import pytest

from emu3.codesfile import Codes
from emu3.errors import InputError

CODES = np.arange(6, dtype=np.int32).reshape(2, 3)


def written(path, codes=CODES, settings: str = "{}"):
    np.savez(path, codes=codes, settings=np.array(settings))
    return path


def refusal(path) -> str:
    with pytest.raises(InputError) as error:
        Codes.load(path)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("value", [2**31, 2**32 + 3, -2])
def test_codes_outside_of_32_bits_are_refused(value, tmp_path):
    assert f"code {value}" in refusal(written(tmp_path / "a.npz", np.full((2, 2), value)))


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ("[1]", "settings that are a list"),
        ("[" * 100_000, "nested too deep"),
        ('{"fps": "x"}', "fps 'x'; allowed: a number"),
        ('{"fps": true}', "fps 'True'; allowed: a number"),
        ('{"fps": NaN}', "fps 'nan'; allowed: a number"),
        ('{"fps": 0}', "fps '0'; allowed: a number"),
        ('{"frames": 1.5}', "frames '1.5'; allowed: a whole number"),
        ('{"clip_frames": [4]}', "clip_frames '[4]'; allowed: a whole number"),
        ('{"图": 1}', "setting '图'; allowed: names"),
        ("[" * 100_000, "is no codes file"),
        ("{", "is no codes file"),
    ],
)
def test_settings_of_a_wrong_kind_are_refused(settings, part, tmp_path):
    assert part in refusal(written(tmp_path / "a.npz", settings=settings))


def archive(path, **members: bytes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    about = {"descr": "<i4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, about)
    return buffer.getvalue()


def test_a_shape_larger_than_the_file_allocates_nothing(tmp_path):
    path = archive(tmp_path / "a.npz", codes=header((2**20, 2**20)) + b"1234", settings=b"")
    assert "codes are not the int32 of shape (1048576, 1048576)" in refusal(path)


def test_codes_that_expand_beyond_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("emu3.codesfile.MOST_CODES_BYTES", 1000)
    assert "codes take" in refusal(written(tmp_path / "a.npz", np.zeros((20, 20), np.int32)))


def test_a_way_of_compressing_that_python_lacks_is_refused(tmp_path):
    path = written(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = 6
    path.write_bytes(content)
    assert "is no codes file" in refusal(path)


def test_a_pickle_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", codes=np.array([{}], object), settings=np.array("{}"))
    assert "is no codes file" in refusal(tmp_path / "a.npz")


def test_other_settings_are_kept(tmp_path):
    kept = {"prompt": "caf\udce9", "more": [1, None], "fps": 12.5}
    assert Codes.load(written(tmp_path / "a.npz", settings=json.dumps(kept))).settings == kept


def test_codes_by_columns_are_read_as_they_are(tmp_path):
    path = written(tmp_path / "a.npz", np.asfortranarray(CODES))
    assert np.array_equal(Codes.load(path).codes, CODES)
