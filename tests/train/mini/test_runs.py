"""Training commands on tiny sizes: they learn, resume exactly, and write what loads.

In PyNative, where these steps take a tenth of the time their compiling takes: test_compiled.py.
"""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
from tests.train.mini.runs import (
    LANGUAGE,
    VISION,
    losses,
    pynative_commands,
    rows_of,
    train_language,
    train_vision,
)
from train import prepare_scene_data
from train.data.features import list_files, read_feature
from train.mini.lm.seen import seen_pictures


@pytest.fixture(scope="module", autouse=True)
def pynative():
    with pynative_commands():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory, builder):
    path = tmp_path_factory.mktemp("runs")
    (path / "vision.json").write_text(json.dumps(VISION))
    (path / "language.json").write_text(json.dumps(LANGUAGE))
    builder.tokenizer.save_pretrained(path / "tokenizer")
    return path


@pytest.fixture(scope="module")
def vision(folder):
    return train_vision(folder, "vision")


def prepare_scenes(vision, output):
    args = ["--vq-model", vision, "--output", output, "--scenes", "6", "--batch", "2"]
    args += ["--held-back", "1", "--wordings", "2"]
    assert prepare_scene_data.main([str(a) for a in args]) == 0
    return output


@pytest.fixture(scope="module")
def scenes(folder, vision):
    return prepare_scenes(vision, folder / "scenes")


def same_weights(a, b):
    whole, again = (load_file(folder / "model.safetensors") for folder in (a, b))
    for name, tensor in whole.items():
        np.testing.assert_array_equal(again[name], tensor, err_msg=name, strict=True)


def test_a_stopped_tokenizer_run_ends_as_an_uninterrupted_one(folder, vision):
    stopped = train_vision(folder, "stopped", "--minutes", "0")
    assert not (stopped / "finished").exists()
    same_weights(vision, train_vision(folder, "stopped"))
    assert (stopped / "finished").exists()


def test_prepared_scenes_are_features_of_both_tasks(scenes):
    for task in ("t2i", "vqa"):
        files = list_files(scenes / task / "list" / "train.json", "--data")
        assert len(files) == 5
        feature = read_feature(files[0])
        assert feature.codes.ndim == 2 and feature.codes.max() < VISION["codebook_size"]
    assert feature.turns[-1] == (feature.texts, feature.response)
    assert len(list_files(scenes / "vqa" / "list" / "test.json", "--data")) == 1


def test_each_task_of_encoded_scenes_says_which_codebook_made_its_codes(scenes):
    notes = [(scenes / task / "encoding.json").is_file() for task in ("t2i", "vqa", "text")]
    assert notes == [True, True, False]


def test_preparing_again_writes_nothing_new(scenes, vision):
    path = list_files(scenes / "t2i" / "list" / "train.json", "--data")[0].parent
    assert path.suffix == ".zip"
    before = path.stat().st_mtime_ns
    prepare_scenes(vision, scenes)
    assert path.stat().st_mtime_ns == before


def test_pictures_that_are_seen_are_coded_and_the_same_for_a_seed(vision):
    some, again = (seen_pictures(str(vision), 5, 0) for _ in range(2))
    assert [one.codes.shape for one in some] == [(8, 8)] * 5
    for one, other in zip(some, again):
        assert one.scene == other.scene
        np.testing.assert_array_equal(one.codes, other.codes)


def test_dropout_acts_and_is_not_saved(folder):
    runs = {"dry": [], "wet": ["--dropout", "0.5"]}
    dry, wet = (
        losses(train_language(folder, name, "--steps", "1", *more)) for name, more in runs.items()
    )
    assert dry[0] != wet[0]
    assert json.loads((folder / "wet" / "config.json").read_text())["attention_dropout"] == 0


def test_mini_resumes_exactly_and_writes_a_folder_that_loads(folder, builder):
    whole = train_language(folder, "whole")
    train_language(folder, "parts", "--minutes", "0")
    with (folder / "parts" / "log.csv").open("a") as log:
        log.write("1,language,9.9,9.9\n2,la")  # steps that a killed run did not save
    parts = train_language(folder, "parts")
    same_weights(whole, parts)
    assert [int(row[0]) for row in rows_of(parts)] == list(range(6))
    assert losses(whole)[4] < losses(whole)[0]
    model = Emu3ForCausalLM.from_pretrained(whole)
    assert {"guidance_scale", "temperature", "top_k"} <= set(model.stated_settings)
    assert model.config.eoi_token_id == builder.vocabulary.eoi
    assert {"red", "红色"} & set(model.config.caption_words.split())
    assert Emu3Tokenizer.from_pretrained(whole).vocab_size == builder.tokenizer.vocab_size


def test_a_run_may_start_from_a_model_of_its_sizes_alone(folder, capsys):
    short = ["--steps", "1", "--lr", "0"]
    begun = train_language(folder, "begun", "--steps", "1")
    same_weights(begun, train_language(folder, "from", *short, "--model", str(begun)))
    other = folder / "other.json"
    other.write_text(json.dumps(LANGUAGE | {"intermediate_size": 64}))
    with pytest.raises(AssertionError):
        train_language(folder, "not", *short, "--model", str(begun), "--config", str(other))
    said = capsys.readouterr().err
    assert "mlp.down_proj.weight is (32, 48); allowed: (32, 64)" in said
    assert "change --model or --config or --tokenizer" in said


def test_a_tokenizer_of_other_sizes_names_the_flags_that_it_has(folder, vision, capsys):
    other = folder / "wide.json"
    other.write_text(json.dumps(VISION | {"ch": 64}))
    with pytest.raises(AssertionError):
        train_vision(folder, "narrow", "--model", str(vision), "--config", str(other))
    assert "of --config; change --model or --config\n" in capsys.readouterr().err
