"""Preparing once more into a folder: what is kept, replaced and never mixed."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from emu3.locks import locked_folder
from emu3.tokenizer import Emu3VisionVQImageProcessor, Emu3VisionVQModel
from tests.support import randomised, tiny_vision_config
from tests.train.data.prepared import SIZES, features, prepare, stamps, write
from train.data.features import write_feature


def test_a_second_run_keeps_every_whole_feature(data, vision):
    prepare(data, vision)
    before = stamps(data)
    assert prepare(data, vision) == 0
    assert stamps(data) == before


def test_a_second_run_replaces_what_is_damaged_or_no_longer_true(data, vision):
    prepare(data, vision)
    before = stamps(data)
    wide = data / "out" / "feature" / "wide.ckpt"
    wide.write_bytes(wide.read_bytes()[:30])
    records = [{"name": n, "text": f"a {n} one", "image": f"{n}.png"} for n in SIZES]
    records[1]["text"] = "another text"
    write(data, records)
    Image.new("RGB", (32, 16)).save(data / "also.png")
    assert prepare(data, vision) == 0
    after = stamps(data)
    assert {name for name in after if after[name] != before[name]} == {
        "wide.ckpt",
        "small.ckpt",
        "also.ckpt",
    }
    assert [feature.texts for feature in features(data)][1] == "another text"


def test_another_picture_of_the_same_size_is_encoded_anew(data, vision):
    prepare(data, vision)
    before, old = stamps(data), features(data)
    records = [{"name": n, "text": f"a {n} one", "image": f"{n}.png"} for n in SIZES]
    records[0]["image"] = "also.png"  # another file
    write(data, records)
    Image.new("RGB", SIZES["small"], "red").save(data / "small.png")  # other bytes
    assert prepare(data, vision) == 0
    after, new = stamps(data), features(data)
    assert {n for n in after if after[n] != before[n]} == {"wide.ckpt", "small.ckpt"}
    np.testing.assert_array_equal(new[0].codes, old[2].codes)
    assert (new[1].codes != old[1].codes).any()


def test_other_pixel_values_of_the_same_picture_are_encoded_anew(data, vision, tmp_path):
    prepare(data, vision)
    before = stamps(data)
    darker = tmp_path / "darker"
    shutil.copytree(vision, darker)
    processor = Emu3VisionVQImageProcessor.from_pretrained(vision)
    processor.image_mean = [0.9, 0.9, 0.9]
    processor.save_pretrained(darker)
    assert prepare(data, darker) == 0
    assert not set(before.items()) & set(stamps(data).items())


def test_a_moved_picture_or_record_file_changes_nothing(data, vision):
    prepare(data, vision)
    before = stamps(data)
    (data / "images").mkdir()
    for name in SIZES:
        (data / f"{name}.png").rename(data / "images" / f"{name}.png")
    assert prepare(data, vision) == 0
    assert stamps(data) == before


def test_features_of_an_older_version_are_kept_by_size_with_a_word(data, vision, capsys):
    prepare(data, vision)
    for feature in features(data):
        write_feature(data / "out", replace(feature, inputs=None))
    before = stamps(data)
    assert prepare(data, vision) == 0
    assert stamps(data) == before
    assert "4 features of an older version" in capsys.readouterr().err


def test_what_a_killed_run_left_behind_is_removed_and_the_run_goes_on(data, vision):
    prepare(data, vision)
    before, out = stamps(data), data / "out"
    left = [out / "list" / ".train.k1ll9.json", out / "feature" / ".a.b_1x.ckpt"]
    left += [out / "feature" / ".a.b_1x.tmp", out / ".skipped_train.x.txt", out / ".lock"]
    for path in left:
        path.touch()
    (out / "list" / ".mine").touch()
    assert prepare(data, vision) == 0
    assert stamps(data) == before
    assert not any(path.exists() for path in left) and (out / "list" / ".mine").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_folder_has_one_preparing_command_at_a_time(data, vision, split, capsys):
    with locked_folder(data / "out", "--output"):
        assert prepare(data, vision, "--split", split) == 2
    assert "being written by process" in capsys.readouterr().err
    assert not (data / "out" / "feature").exists()


def test_a_stopped_run_goes_on_where_it_was(data, vision, monkeypatch, capsys):
    encode, calls = Emu3VisionVQModel.encode, []

    def stop_at_the_second(model, pixels):
        calls.append(len(pixels))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(model, pixels)

    monkeypatch.setattr(Emu3VisionVQModel, "encode", stop_at_the_second)
    assert prepare(data, vision) == 130
    assert "goes on" in capsys.readouterr().err
    assert not (data / "out" / "list").exists()
    before = stamps(data)
    assert len(before) == 2
    assert prepare(data, vision) == 0
    assert sum(calls) - calls[1] == len(SIZES)
    assert before.items() <= stamps(data).items()


def test_codes_of_two_vision_tokenizers_never_mix(data, vision, tmp_path, capsys):
    write(data, [{"name": "wide", "text": "x", "image": "wide.png"}])
    prepare(data, vision)
    before = stamps(data)
    randomised(Emu3VisionVQModel(tiny_vision_config()), 9).save_pretrained(tmp_path / "other")
    Emu3VisionVQImageProcessor.from_pretrained(vision).save_pretrained(tmp_path / "other")
    assert prepare(data, tmp_path / "other") == 2  # though nothing is missing
    write(data, [{"name": "small", "text": "x", "image": "small.png"}])
    assert prepare(data, tmp_path / "other") == 2
    assert "--output-path" in capsys.readouterr().err
    assert stamps(data) == before


def test_splits_share_a_folder_but_no_name(data, vision):
    write(data, [{"name": "wide", "text": "x", "image": "wide.png"}])
    prepare(data, vision)
    records = [{"name": n, "text": "other", "image": "small.png"} for n in ("wide", "new")]
    write(data, records)
    assert prepare(data, vision, "--split", "test") == 1
    assert [feature.name for feature in features(data, "test")] == ["new"]
    assert features(data)[0].texts == "x"
