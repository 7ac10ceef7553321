"""Training commands on tiny sizes: they learn, resume exactly, and write what loads."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from emu3 import runtime
from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
from train import prepare_scene_data
from train.data.features import list_files, read_feature
from train.mini import __main__ as mini
from train.mini import vision_tokenizer

VISION = {
    "ch": 32,
    "ch_mult": [1, 1, 1, 1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "codebook_size": 693,
    "embed_dim": 8,
    "z_channels": 8,
}
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "attention_dropout": 0.0,
}


@pytest.fixture(autouse=True)
def context():
    """Undo the graph mode that the commands choose."""
    yield
    runtime.setup(device="CPU")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    (path / "vision.json").write_text(json.dumps(VISION))
    (path / "language.json").write_text(json.dumps(LANGUAGE))
    return path


def train_vision(folder, name, *more):
    args = ["--config", folder / "vision.json", "--output", folder / name, "--batch", "2"]
    args += [
        "--state",
        folder / f"{name}.safetensors",
        "--steps",
        "4",
        "--save-dtype",
        "float32",
        "--encoder-steps",
        "0",
    ]
    assert vision_tokenizer.main([str(a) for a in (*args, *more)]) == 0
    return folder / name


@pytest.fixture(scope="module")
def vision(folder):
    return train_vision(folder, "vision")


@pytest.fixture(scope="module")
def scenes(folder, vision):
    args = ["--vq-model", vision, "--output", folder / "scenes", "--scenes", "6", "--batch", "2"]
    args += ["--held-back", "1", "--wordings", "2"]
    assert prepare_scene_data.main([str(a) for a in args]) == 0
    return folder / "scenes"


def test_a_stopped_tokenizer_run_ends_as_an_uninterrupted_one(folder, vision):
    train_vision(folder, "stopped", "--minutes", "0")
    train_vision(folder, "stopped")
    whole = load_file(vision / "model.safetensors")
    again = load_file(folder / "stopped" / "model.safetensors")
    for name, tensor in whole.items():
        np.testing.assert_array_equal(again[name], tensor, err_msg=name, strict=True)


def test_prepared_scenes_are_features_of_both_tasks(scenes, vision):
    for task in ("t2i", "vqa"):
        files = list_files(scenes / task / "list" / "train.json", "--data")
        assert len(files) == 5
        feature = read_feature(files[0])
        assert feature.codes.ndim == 2 and feature.codes.max() < VISION["codebook_size"]
    assert feature.turns[-1] == (feature.texts, feature.response)
    assert len(list_files(scenes / "vqa" / "list" / "test.json", "--data")) == 1


def test_preparing_again_writes_nothing_new(folder, scenes, vision):
    path = list_files(scenes / "t2i" / "list" / "train.json", "--data")[0]
    before = path.stat().st_mtime_ns
    args = ["--vq-model", vision, "--output", scenes, "--scenes", "6", "--batch", "2"]
    args += ["--held-back", "1", "--wordings", "2"]
    assert prepare_scene_data.main([str(a) for a in args]) == 0
    assert path.stat().st_mtime_ns == before


def run_mini(folder, name, *more):
    args = ["--config", folder / "language.json", "--tokenizer", folder / "tokenizer"]
    args += ["--output", folder / name, "--state", folder / f"{name}.safetensors", "--steps", "12"]
    args += ["--t2i-batch", "6", "--vqa-batch", "2", "--warmup", "1", "--save-dtype", "float32"]
    assert mini.main([str(a) for a in (*args, "--lr", "0.01", *more)]) == 0
    return folder / name


def test_dropout_acts_on_the_named_tasks_and_is_not_saved(folder, builder):
    builder.tokenizer.save_pretrained(folder / "tokenizer")
    wet = ["--dropout", "0.5"]
    runs = {"dry": [], "wet": wet, "half": [*wet, "--dropout-tasks", "vqa"]}
    dry, wet, half = (
        [row.split(",")[2] for row in (run_mini(folder, *run) / "log.csv").read_text().split()]
        for run in ((name, "--steps", "2", *more) for name, more in runs.items())
    )
    assert dry[0] == half[0] != wet[0]
    assert dry[1] != half[1]
    assert json.loads((folder / "wet" / "config.json").read_text())["attention_dropout"] == 0


def test_mini_resumes_exactly_and_writes_a_folder_that_loads(folder, builder):
    tokenizer = builder.tokenizer
    tokenizer.save_pretrained(folder / "tokenizer")
    whole = run_mini(folder, "whole")
    run_mini(folder, "parts", "--minutes", "0")
    with (folder / "parts" / "log.csv").open("a") as log:
        log.write("1,vqa,9.9,9.9,1e-2\n2,t2")  # steps that a killed run did not save
    parts = run_mini(folder, "parts")
    expected = load_file(whole / "model.safetensors")
    for name, tensor in load_file(parts / "model.safetensors").items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name, strict=True)
    steps = [int(row.split(",")[0]) for row in (parts / "log.csv").read_text().split()]
    assert steps == list(range(12))
    losses = [float(row.split(",")[2]) for row in (whole / "log.csv").read_text().split()]
    assert losses[10] < losses[0]
    assert Emu3ForCausalLM.from_pretrained(whole).config.eoi_token_id == builder.vocabulary.eoi
    assert Emu3Tokenizer.from_pretrained(whole).vocab_size == tokenizer.vocab_size
