"""Feature folders: what is written is read back; what is broken is named."""

import json

import mindspore as ms
import numpy as np
import pytest

from emu3.errors import InputError
from train.features import Feature, list_files, read_feature, write_feature, write_list

CODES = np.arange(6, dtype=np.int32).reshape(2, 3)


def test_a_feature_comes_back_as_written(tmp_path):
    feature = Feature(
        "0001", CODES, "what?", "一个", captions=["a", "乙"], turns=[("q", "a"), ("what?", "一个")]
    )
    again = read_feature(tmp_path / "feature" / write_feature(tmp_path, feature))
    np.testing.assert_array_equal(again.codes, CODES)
    assert again.codes.dtype == np.int32
    assert (again.texts, again.response) == ("what?", "一个")
    assert (again.captions, again.turns) == (feature.captions, feature.turns)


def test_text_alone_has_no_codes(tmp_path):
    name = write_feature(tmp_path, Feature("t", None, "hello", "world"))
    assert read_feature(tmp_path / "feature" / name).codes is None


def test_a_file_of_another_writer_is_read(tmp_path):
    values = {"name": "7", "images": ms.Tensor(CODES, ms.int32), "texts": "a dog"}
    ms.save_checkpoint([], str(tmp_path / "x.ckpt"), append_dict=values)
    feature = read_feature(tmp_path / "x.ckpt")
    assert feature.texts == "a dog" and feature.response is None and not feature.turns


@pytest.mark.parametrize("absolute", [True, False])
def test_a_prefix_may_be_absolute_or_relative_to_the_list(tmp_path, absolute):
    name = write_feature(tmp_path, Feature("a", CODES, "text"))
    path = write_list(tmp_path, "train", [name])
    if absolute:
        prefix = str(tmp_path / "feature")
        path.write_text(json.dumps({"prefix": prefix, "path_list": [name]}))
    assert list_files(path)[0].samefile(tmp_path / "feature" / name)


def test_a_missing_file_is_named(tmp_path):
    path = write_list(tmp_path, "train", ["gone.ckpt"])
    with pytest.raises(InputError, match=r"gone\.ckpt"):
        list_files(path)


@pytest.mark.parametrize("content", ["", "[]", '{"prefix": "."}'])
def test_a_broken_list_is_refused(tmp_path, content):
    path = tmp_path / "train.json"
    path.write_text(content)
    with pytest.raises(InputError, match="no feature list"):
        list_files(path)


def test_an_empty_list_is_refused(tmp_path):
    with pytest.raises(InputError, match="no samples"):
        list_files(write_list(tmp_path, "train", []))


def test_a_truncated_feature_is_refused(tmp_path):
    name = write_feature(tmp_path, Feature("a", CODES, "text"))
    path = tmp_path / "feature" / name
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match=r"a\.ckpt"):
        read_feature(path)
