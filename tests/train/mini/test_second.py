"""The commands of the second edition on tiny sizes: they resume exactly and write what loads."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from emu3.mllm import Emu3ForCausalLM
from tests.train.mini.runs import LANGUAGE, VISION, losses, pynative_commands, rows_of
from train.mini.lm import __main__ as lm
from train.mini.lm import tokenizer
from train.mini.lm.seen import seen_pictures
from train.mini.vision import __main__ as vision
from train.mini.world.cells import kind_count


@pytest.fixture(scope="module", autouse=True)
def pynative():
    with pynative_commands():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("second")
    sizes = {"codebook_size": kind_count(), "embed_dim": 40, "z_channels": 40}
    (path / "vision.json").write_text(json.dumps(VISION | sizes))
    (path / "language.json").write_text(json.dumps(LANGUAGE))
    assert tokenizer.main(["--output", str(path / "tokenizer"), "--scenes", "60"]) == 0
    return path


def train_vision(folder, name, *more):
    few = ["--names", "1", "--draws", "1", "--frames", "1", "--cut-steps", "1"]
    few += ["--whole-steps", "0", "--both-steps", "1", "--draw-steps", "1"]
    args = ["--config", folder / "vision.json", *few, *more]
    return run(vision.main, folder, name, args)


def train_language(folder, name, *more, config="language.json"):
    few = ["--steps", "6", "--lr", "0.01", "--warmup", "1", "--rows", "2"]
    args = ["--config", folder / config, "--tokenizer", folder / "tokenizer", *few]
    return run(lm.main, folder, name, [*args, "--seen", "0", "--dropout", "0", *more])


def run(main, folder, name, args):
    kept = ["--output", folder / name, "--state", folder / f"{name}.safetensors"]
    assert main([str(word) for word in (*kept, "--save-dtype", "float32", *args)]) == 0
    return folder / name


@pytest.fixture(scope="module")
def whole(folder):
    return train_vision(folder, "vision")


def same_weights(a, b):
    one, other = (load_file(folder / "model.safetensors") for folder in (a, b))
    for name, tensor in one.items():
        np.testing.assert_array_equal(other[name], tensor, err_msg=name, strict=True)


def test_a_stopped_tokenizer_run_ends_as_an_uninterrupted_one(folder, whole):
    stopped = train_vision(folder, "stopped", "--minutes", "0")
    assert not (stopped / "finished").exists()
    same_weights(whole, train_vision(folder, "stopped"))
    assert (stopped / "finished").exists()


def test_the_decoder_alone_learns_at_last(folder, whole):
    short = train_vision(folder, "short", "--draw-steps", "0")
    first, last = (load_file(path / "model.safetensors") for path in (short, whole))
    changed = {name for name in first if not np.array_equal(first[name], last[name])}
    assert changed and all(name.startswith(("decoder", "post_quant_conv")) for name in changed)


def test_pictures_that_are_seen_are_coded_and_the_same_for_a_seed(whole):
    some, again = (seen_pictures(str(whole), 5, 0) for _ in range(2))
    assert [one.codes.shape for one in some] == [(8, 8)] * 5
    for one, other in zip(some, again):
        assert one.scene == other.scene
        np.testing.assert_array_equal(one.codes, other.codes)


def test_the_language_model_resumes_exactly_and_writes_a_folder_that_loads(folder):
    begun = train_language(folder, "whole")
    train_language(folder, "parts", "--minutes", "0")
    with (folder / "parts" / "log.csv").open("a") as log:
        log.write("1,language,9.9,9.9\n2,la")  # steps that a killed run did not save
    parts = train_language(folder, "parts")
    same_weights(begun, parts)
    assert [int(row[0]) for row in rows_of(parts)] == list(range(6))
    assert losses(begun)[4] < losses(begun)[0]
    model = Emu3ForCausalLM.from_pretrained(begun)
    assert {"guidance_scale", "temperature", "top_k"} <= set(model.stated_settings)
    assert "red" in model.config.caption_words.split()


def test_a_run_may_start_from_a_model_of_its_sizes_alone(folder, capsys):
    short = ["--steps", "1", "--lr", "0"]
    begun = train_language(folder, "begun", "--steps", "1")
    same_weights(begun, train_language(folder, "from", *short, "--model", begun))
    (folder / "other.json").write_text(json.dumps(LANGUAGE | {"intermediate_size": 64}))
    with pytest.raises(AssertionError):
        train_language(folder, "not", *short, "--model", begun, config="other.json")
    assert "mlp.down_proj.weight is (32, 48); allowed: (32, 64)" in capsys.readouterr().err
