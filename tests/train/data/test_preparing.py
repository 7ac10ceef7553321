"""The preparing commands on a tiny vision tokenizer: what they write, and what they refuse."""

import os
import shutil

import numpy as np
import pytest
from mindspore import Tensor
from PIL import Image

from emu3.mllm.grammar import latent_size
from emu3.tokenizer import Emu3VisionVQImageProcessor, Emu3VisionVQModel
from tests.train.data.prepared import LATENT, SIZES, features, prepare, write
from train import prepare_text_data, prepare_vision_data, prepare_vqa_data
from train.data import encoding
from train.data.encoding import Recipe
from train.data.features import Feature
from train.data.records import Item


def test_features_hold_the_codes_that_inference_would_see(data, vision):
    assert prepare(data, vision) == 0
    model = Emu3VisionVQModel.from_pretrained(vision).set_train(False)
    processor = Emu3VisionVQImageProcessor.from_pretrained(vision)
    found = features(data)
    assert [feature.name for feature in found] == list(SIZES)
    for feature in found:
        picture = Image.open(data / f"{feature.name}.png")
        pixels = processor(picture, return_tensors="np")["pixel_values"]
        expected = model.encode(Tensor(pixels)).asnumpy()[0]
        np.testing.assert_array_equal(feature.codes, expected, strict=True)
        assert feature.texts == f"a {feature.name} one"


def test_an_image_area_sets_the_size_of_every_picture(data, vision):
    assert prepare(data, vision, "--image-area", 1024) == 0
    shapes = {feature.name: feature.codes.shape for feature in features(data)}
    assert shapes["small"] == (8, 8) and shapes["wide"] == (7, 10)


def test_processes_give_the_same_codes_as_one_thread(data, vision):
    assert prepare(data, vision) == 0
    alone = features(data)
    shutil.rmtree(data / "out")
    assert prepare(data, vision, "--workers", 2) == 0
    for ours, theirs in zip(features(data), alone, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes)


def test_images_of_one_size_are_encoded_together(data, vision, monkeypatch):
    shapes = []
    encode = Emu3VisionVQModel.encode

    def spy(model, pixels):
        shapes.append(pixels.shape)
        return encode(model, pixels)

    monkeypatch.setattr(Emu3VisionVQModel, "encode", spy)
    prepare(data, vision)
    assert sorted(shape[0] for shape in shapes) == [1, 1, 2]
    assert (2, 3, 16, 24) in shapes


@pytest.mark.parametrize("name", ["data:image/png;base64," + "A" * 9000, "a" * 1000, "pipe.png"])
def test_an_image_that_is_no_file_is_skipped(data, vision, name):
    os.mkfifo(data / "pipe.png")
    good = {"name": "wide", "text": "x", "image": "wide.png"}
    write(data, [{"name": "odd", "text": "x", "image": name}, good])
    assert prepare(data, vision) == 1
    assert [feature.name for feature in features(data)] == ["wide"]


def test_a_picture_that_stands_otherwise_than_its_file_is_encoded_whatever_its_header(data, vision):
    Image.new("RGB", (24, 16)).save(data / "turned.jpg", exif=orientation(6))
    Image.new("RGB", (24, 16)).save(data / "plain.jpg")
    names = ["turned", "plain"]
    write(data, [{"name": n, "text": "x", "image": f"{n}.jpg"} for n in names])
    assert prepare(data, vision) == 0
    assert [feature.name for feature in features(data)] == names


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_pictures_of_an_area_have_the_grids_that_generation_asks_for(vision):
    recipe = Recipe.make(vision, 518400, {})
    item = Item(1, Feature("a", None, "x"), None)
    factor = recipe.processor.spatial_factor
    for w, h in ((1024, 768), (4, 3), (640, 480), (16 * 40, 9 * 40), (300, 300), (333, 500)):
        rows, columns = latent_size(f"{w}:{h}", 518400, factor)
        size = recipe.size(item, w * factor, h * factor)
        assert size == (rows * factor, columns * factor)
    recipe.processor.spatial_factor = 8
    assert recipe.size(item, 1024, 768) == (78 * 8, 104 * 8)


def test_pictures_asked_about_have_the_grids_of_the_image_processor(data, vision):
    area = 2000
    write(data, [{"id": "a", "image": "wide.png", "texts": "what?", "response": "this"}])
    assert prepare(data, vision, "--image-area", area, command=prepare_vqa_data) == 0
    processor = Emu3VisionVQImageProcessor.from_pretrained(vision, min_pixels=area, max_pixels=area)
    seen = processor(Image.open(data / "wide.png"), return_tensors="np")["pixel_values"]
    (feature,) = features(data)
    assert feature.codes.shape == tuple(side // 4 for side in seen.shape[2:])
    assert feature.codes.shape != latent_size("24:16", area, 4)


def test_unusable_records_are_listed_by_line_and_the_exit_code_says_so(data, vision, capsys):
    (data / "text.png").write_text("no image")
    whole = (data / "large.png").read_bytes()
    (data / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (80, 8)).save(data / "long.png")
    Image.new("RGB", (8, 2)).save(data / "tiny.png")
    names = ["wide", "none", "text", "cut", "long", "tiny"]
    write(data, [{"name": n, "text": "x", "image": f"{n}.png"} for n in names] + [{"name": 1}])
    assert prepare(data, vision) == 1
    assert [feature.name for feature in features(data)] == ["wide"]
    said = (data / "out" / "skipped_train.txt").read_text().splitlines()
    assert [line.split(": ")[0].rsplit(":", 1)[1] for line in said] == list("234567")
    for line, reason in zip(said, ("no image", "cannot be read", "cannot be read", "too long")):
        assert reason in line and "--image" not in line
    assert "\n".join(said) in capsys.readouterr().err
    assert prepare(data, vision) == 1


def test_the_list_of_skipped_records_goes_when_none_is(data, vision):
    write(data, [{"name": "wide", "text": "x", "image": "wide.png"}, {}])
    assert prepare(data, vision) == 1
    write(data, [{"name": "wide", "text": "x", "image": "wide.png"}])
    assert prepare(data, vision) == 0
    assert not (data / "out" / "skipped_train.txt").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}\n", '[{"name" 1}]'])
def test_data_without_a_usable_record_is_bad_input(data, vision, content, capsys):
    (data / "data.jsonl").write_text(content)
    assert prepare(data, vision) == 2
    assert "--data-path" in capsys.readouterr().err
    assert not (data / "out" / "list").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--split", "../x", "--split"),
        ("--image-area", "0", "--image-area"),
        ("--workers", "0", "--workers"),
        ("--workers", "4294967296", "from 1 to 512"),
        ("--batch-size", "9" * 5000, "(5000 characters)' is not a whole number from 1 to 4096"),
        ("--image-area", "9" * 400, "from 1 to 67108864"),
        ("--model-path", "/none", "'/none' is no folder"),
    ],
)
def test_a_bad_option_is_named(data, vision, option, value, said, capsys):
    try:
        code = prepare(data, vision, option, value)
    except SystemExit as exit:  # what argparse itself refuses
        code = exit.code
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_conversation_keeps_its_turns_and_may_lack_an_image(data, vision):
    turns = [["what?", "a wide one"], ["sure?", "yes"]]
    write(data, [{"id": "a", "image": "wide.png", "turns": turns}, {"id": "b", "turns": turns}])
    assert prepare(data, vision, command=prepare_vqa_data) == 0
    pictured, plain = features(data)
    assert pictured.turns == plain.turns == [tuple(turn) for turn in turns]
    assert pictured.codes.shape == LATENT["wide"] and plain.codes is None
    assert not pictured.independent and not plain.independent


def test_text_needs_no_model(tmp_path):
    write(tmp_path, [{"id": 1, "texts": "hello", "response": "world"}])
    args = ["--data-path", tmp_path / "data.jsonl", "--output-path", tmp_path / "out"]
    assert prepare_text_data.main([str(a) for a in args]) == 0
    (feature,) = features(tmp_path)
    assert (feature.texts, feature.response, feature.kind) == ("hello", "world", "text")
    assert not (tmp_path / "out" / "encoding.json").exists()


def test_a_batch_that_memory_cannot_hold_is_refused_before_it_is_encoded(
    data, vision, capsys, monkeypatch
):
    monkeypatch.setattr("emu3.runtime.available_memory_bytes", lambda: 1000)
    assert prepare(data, vision) == 2
    assert "--image-area, a lower --batch-size" in capsys.readouterr().err
    assert not (data / "out" / "list").exists()


def test_a_dead_worker_is_named(data, vision, monkeypatch, capsys):
    from concurrent.futures.process import BrokenProcessPool

    def die(reader, batches):
        raise BrokenProcessPool

    monkeypatch.setattr(encoding.ImageReader, "batches", die)
    assert prepare(data, vision, "--workers", "2") == 2
    assert "lower --workers 2" in capsys.readouterr().err


@pytest.mark.parametrize("command", [prepare_vision_data, prepare_vqa_data, prepare_text_data])
def test_every_option_has_help_and_the_bundled_examples_exist(command):
    parser = command.build_parser()
    assert all(action.help for action in parser._actions)
    with open(parser.parse_args([]).data_path, encoding="utf-8") as file:
        assert len(file.readlines()) == 4
