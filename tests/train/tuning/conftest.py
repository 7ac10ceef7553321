"""A tiny start model and its data."""

import json
import signal

import pytest

from tests.train.mini.runs import LANGUAGE
from tests.train.tuning.runs import train
from train import prepare_scene_data
from train.mini.lm.model import new_model
from train.tuning.trainer import SIGNALS


@pytest.fixture(autouse=True)
def handlers():
    """See that signals are handled as before."""
    before = [signal.getsignal(s) for s in SIGNALS]
    yield
    assert [signal.getsignal(s) for s in SIGNALS] == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory, builder):
    """A start model in start/, captions in scenes/t2i, questions in scenes/vqa."""
    path = tmp_path_factory.mktemp("training")
    (path / "language.json").write_text(json.dumps(LANGUAGE))
    new_model(str(path / "language.json"), builder.tokenizer, 0).save_pretrained(path / "start")
    builder.tokenizer.save_pretrained(path / "start")
    args = ["--output", path / "scenes", "--scenes", "10", "--held-back", "2", "--codes", "named"]
    args += ["--wordings", "2", "--new"]
    assert prepare_scene_data.main([str(a) for a in args]) == 0
    return path


@pytest.fixture(scope="module")
def whole(folder):
    """A finished run of four steps."""
    return train(folder, "whole", "--eval_data_path", str(folder / "scenes" / "t2i"))
