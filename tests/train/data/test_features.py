"""Feature folders: what is written is read back; what is broken is named."""

import errno
import json
import os
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from emu3.errors import InputError
from train.data.features import Feature, list_files, read_feature, write_feature, write_list

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


@pytest.mark.parametrize("independent", [True, False])
def test_turns_come_back_as_questions_or_as_a_conversation(tmp_path, independent):
    feature = Feature("a", CODES, "q", "r", turns=[("p", "q"), ("q", "r")], independent=independent)
    again = read_feature(tmp_path / "feature" / write_feature(tmp_path, feature))
    assert again.independent is independent and again.all_turns == feature.turns


@pytest.mark.parametrize(
    ("codes", "response", "kind"), [(CODES, None, "t2i"), (CODES, "a", "vqa"), (None, "a", "text")]
)
def test_image_and_response_tell_what_a_feature_teaches(codes, response, kind):
    assert Feature("a", codes, "text", response).kind == kind


def test_text_alone_has_no_codes(tmp_path):
    name = write_feature(tmp_path, Feature("t", None, "hello", "world"))
    assert read_feature(tmp_path / "feature" / name).codes is None


def test_a_file_of_another_writer_is_read(tmp_path):
    values = {"name": "7", "images": ms.Tensor(CODES, ms.int32), "texts": "a dog"}
    ms.save_checkpoint([], str(tmp_path / "x.ckpt"), append_dict=values)
    feature = read_feature(tmp_path / "x.ckpt")
    assert feature.texts == "a dog" and feature.response is None and not feature.turns


def save(path, **values):
    """A feature file as another writer would make it."""
    values = {"name": 7, "images": ms.Tensor(CODES, ms.int32), "texts": "a dog"} | values
    ms.save_checkpoint([], str(path), append_dict=values)
    path.chmod(0o644)


def test_turns_that_do_not_say_are_independent_questions(tmp_path):
    save(tmp_path / "a.ckpt", response="b", turns='[["p", "q"], ["a dog", "b"]]')
    feature = read_feature(tmp_path / "a.ckpt")
    assert feature.independent and len(feature.turns) == 2


@pytest.mark.parametrize("name", ["a", "a.pth", "a.b.feature", "a.ckpt"])
def test_a_feature_is_read_whatever_it_is_called(tmp_path, name):
    save(tmp_path / "x.ckpt")
    (tmp_path / "x.ckpt").rename(tmp_path / name)
    np.testing.assert_array_equal(read_feature(tmp_path / name).codes, CODES)


@pytest.mark.parametrize("dtype", [ms.int64, ms.int32, ms.uint8])
@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3)])
def test_codes_of_any_whole_type_and_with_a_batch_axis_are_read(tmp_path, dtype, shape):
    save(tmp_path / "a.ckpt", images=ms.Tensor(CODES.reshape(shape), dtype))
    np.testing.assert_array_equal(read_feature(tmp_path / "a.ckpt").codes, CODES, strict=True)


@pytest.mark.parametrize(
    "images", [CODES.astype(np.float32), CODES.ravel(), CODES.reshape(3, 1, 2), np.int32(5)]
)
def test_codes_of_another_shape_or_type_are_refused(tmp_path, images):
    save(tmp_path / "a.ckpt", images=ms.Tensor(images))
    with pytest.raises(InputError, match="images are"):
        read_feature(tmp_path / "a.ckpt")


@pytest.mark.parametrize("values", [{"texts": 3}, {"texts": True}, {"response": 2.5}])
def test_texts_that_are_no_text_are_refused(tmp_path, values):
    save(tmp_path / "a.ckpt", **values)
    with pytest.raises(InputError, match="allowed: text"):
        read_feature(tmp_path / "a.ckpt")


@pytest.mark.parametrize("code", [-(2**31) - 1, 2**31, 2**32 + 3])
def test_codes_beyond_int32_are_refused_not_cut(tmp_path, code):
    save(tmp_path / "a.ckpt", images=ms.Tensor(np.array([[0, code]]), ms.int64))
    with pytest.raises(InputError, match=f"{code}.*allowed: codes"):
        read_feature(tmp_path / "a.ckpt")


def test_independent_that_is_no_bool_is_refused(tmp_path):
    save(tmp_path / "a.ckpt", response="b", independent=ms.Tensor([True, False]))
    with pytest.raises(InputError, match="independent is"):
        read_feature(tmp_path / "a.ckpt")


def test_turns_nested_very_deep_are_refused(tmp_path):
    save(tmp_path / "a.ckpt", response="b", turns="[" * 100_000)
    with pytest.raises(InputError, match="turns"):
        read_feature(tmp_path / "a.ckpt")


def test_a_pipe_is_no_feature(tmp_path):
    os.mkfifo(tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="regular file"):
        read_feature(tmp_path / "a.ckpt")


def test_a_feature_with_neither_image_nor_response_is_refused(tmp_path):
    save(tmp_path / "a.ckpt", images=False)
    with pytest.raises(InputError, match="neither"):
        read_feature(tmp_path / "a.ckpt")


@pytest.mark.parametrize("turns", ["no JSON", "3", '["a"]', '[["a"]]', '[["a", 3]]', 3])
def test_turns_of_another_form_are_refused(tmp_path, turns):
    save(tmp_path / "a.ckpt", response="b", turns=turns)
    with pytest.raises(InputError, match="turns"):
        read_feature(tmp_path / "a.ckpt")


def test_a_folder_that_was_moved_is_found_beside_its_list(tmp_path):
    name = write_feature(tmp_path, Feature("a", CODES, "text"))
    path = write_list(tmp_path, "train", [name])
    path.write_text(json.dumps({"prefix": "/gone/feature", "path_list": [name]}))
    assert list_files(path, "--data") == [tmp_path / "feature" / name]


def test_a_copied_folder_is_read_itself_not_the_one_it_was_copied_from(tmp_path):
    name = write_feature(tmp_path / "old", Feature("a", CODES, "text"))
    write_list(tmp_path / "old", "train", [name])
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    new = tmp_path / "new" / "list" / "train.json"
    assert list_files(new, "--data")[0].resolve() == tmp_path / "new" / "feature" / name


def test_other_readers_find_our_features_from_wherever_they_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = write_feature("out", Feature("a", CODES, "text"))
    content = json.loads(write_list("out", "train", [name]).read_text())
    monkeypatch.chdir("/")
    values = ms.load_checkpoint(os.path.join(content["prefix"], *content["path_list"]))
    assert (values["name"], values["texts"]) == ("a", "text")
    np.testing.assert_array_equal(values["images"].asnumpy(), CODES, strict=True)
    assert os.path.samefile(content["prefix"], tmp_path / "out" / "feature")


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.ckpt", "b/../../a.ckpt", "..", ".", "", "\ud800", "a\0"]
)
def test_a_list_that_leaves_its_folder_is_refused_by_name(tmp_path, name):
    path = write_list(tmp_path, "train", ["good.ckpt", name])
    with pytest.raises(InputError, match="allowed: files inside") as caught:
        list_files(path, "--data")
    assert ascii(name) in str(caught.value)


def test_a_list_may_name_files_of_folders_inside_its_own(tmp_path):
    (tmp_path / "feature" / "b").mkdir(parents=True)
    (tmp_path / "feature" / "b" / "a..ckpt").touch()
    (found,) = list_files(write_list(tmp_path, "train", ["b/a..ckpt"]), "--data")
    assert found.samefile(tmp_path / "feature" / "b" / "a..ckpt")


def test_a_name_too_long_for_the_system_is_a_file_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        list_files(write_list(tmp_path, "train", ["x" * 5000]), "--data")


@pytest.mark.parametrize("absolute", [True, False])
def test_a_prefix_may_be_absolute_or_relative_to_the_list(tmp_path, absolute):
    name = write_feature(tmp_path, Feature("a", CODES, "text"))
    path = write_list(tmp_path, "train", [name])
    if absolute:
        prefix = str(tmp_path / "feature")
        path.write_text(json.dumps({"prefix": prefix, "path_list": [name]}))
    assert list_files(path, "--data")[0].samefile(tmp_path / "feature" / name)


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def fill(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(InputError, match=r"a\.ckpt: No space"):
        write_feature(tmp_path, Feature("a", CODES, "text"))
    assert not list((tmp_path / "feature").iterdir())


def test_mindspore_reads_what_is_written(tmp_path):
    turns = [("first", "one"), ("what?", "画" * 300)]
    name = write_feature(tmp_path, Feature("a", CODES, "what?", "画" * 300, turns=turns))
    values = ms.load_checkpoint(str(tmp_path / "feature" / name))
    np.testing.assert_array_equal(values["images"].asnumpy(), CODES, strict=True)
    assert values["response"] == "画" * 300 and bool(values["independent"].asnumpy()) is True


def test_a_missing_file_is_named(tmp_path):
    path = write_list(tmp_path, "train", ["gone.ckpt"])
    with pytest.raises(InputError, match=r"gone\.ckpt"):
        list_files(path, "--data")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"prefix": "."}',
        '{"prefix": 1, "path_list": ["a"]}',
        '{"prefix": ".", "path_list": 3}',
        '{"prefix": ".", "path_list": "abc"}',
        '{"prefix": ".", "path_list": [3]}',
        '{"prefix": ".", "path_list": ["a"], "beside": 3}',
    ],
)
def test_a_broken_list_is_refused(tmp_path, content):
    path = tmp_path / "train.json"
    path.write_text(content)
    with pytest.raises(InputError, match="no feature list"):
        list_files(path, "--data")


def test_an_empty_list_is_refused(tmp_path):
    with pytest.raises(InputError, match="no samples"):
        list_files(write_list(tmp_path, "train", []), "--data")


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("name", ["a.ckpt", "a"])
def test_a_truncated_feature_is_refused(tmp_path, kept, name):
    save(tmp_path / "x.ckpt")
    whole = (tmp_path / "x.ckpt").read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(InputError, match=f"{name}:"):
        read_feature(tmp_path / name)


def test_random_bytes_are_refused(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(np.random.default_rng(0).bytes(300))
    with pytest.raises(InputError, match=r"a\.ckpt"):
        read_feature(tmp_path / "a.ckpt")


def test_a_missing_feature_is_refused(tmp_path):
    for name in ("gone.ckpt", "gone"):
        with pytest.raises(InputError, match="gone"):
            read_feature(tmp_path / name)
