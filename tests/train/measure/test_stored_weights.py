"""A checkpoint with random weights, and what is said of it."""

import json

from emu3.mllm import Emu3ForCausalLM
from tests.support import tiny_config
from train.measure import random_weights, stored_weights


def test_a_random_checkpoint_loads_and_is_measured(tmp_path, capsys):
    sizes = tmp_path / "sizes.json"
    kept = tiny_config().to_diff_dict()
    kept.pop("model_type", None)
    sizes.write_text(json.dumps(kept))
    assert random_weights.main([str(tmp_path / "model"), "--sizes", str(sizes)]) == 0
    model = Emu3ForCausalLM.from_pretrained(tmp_path / "model", weights="bfloat16")
    assert model.lm_head.weight.float().asnumpy().std() > 0.01
    assert stored_weights.main([str(tmp_path / "model"), "--weights=int8", "--tokens=4"]) == 0
    out = capsys.readouterr().out
    assert "weights in int8" in out and "peak" in out and "a token" in out
