"""A tiny start model and its data."""

import signal

import pytest

from emu3 import runtime
from emu3.mllm import Emu3Config, Emu3ForCausalLM
from tests.train.tuning.runs import train
from train import prepare_scene_data
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
    vocabulary = builder.vocabulary
    names = ("pad", "bos", "eos", "img", "boi", "eoi", "eol", "eof")
    config = Emu3Config(
        vocab_size=builder.tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        attention_dropout=0.0,
        **{f"{name}_token_id": getattr(vocabulary, name) for name in names},
    )
    runtime.setup(device="CPU", seed=0)
    Emu3ForCausalLM(config).save_pretrained(path / "start")
    builder.tokenizer.save_pretrained(path / "start")
    args = ["--output", path / "scenes", "--scenes", "10", "--held-back", "2", "--codes", "named"]
    args += ["--wordings", "2", "--new"]
    assert prepare_scene_data.main([str(a) for a in args]) == 0
    return path


@pytest.fixture(scope="module")
def whole(folder):
    """A finished run of four steps."""
    return train(folder, "whole", "--eval_data_path", str(folder / "scenes" / "t2i"))
