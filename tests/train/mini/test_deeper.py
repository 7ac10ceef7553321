"""Growing a trained model by layers."""

import numpy as np
import pytest
from mindspore import Tensor

from emu3.mllm import Emu3ForCausalLM
from tests.support import randomised, tiny_config
from train.mini.deeper import Layer, deeper, plan


def test_new_layers_are_spread_evenly():
    assert plan(2, 1) == [Layer(0, False), Layer(1, False), Layer(1, True)]
    assert [i for i, layer in enumerate(plan(6, 2)) if layer.new] == [2, 6]


@pytest.mark.parametrize("added", [1, 2])
def test_a_deeper_model_computes_the_same(added):
    model = randomised(Emu3ForCausalLM(tiny_config()), 0)
    ids = Tensor(np.arange(12, dtype=np.int32)[None])
    grown = deeper(model, added)
    assert grown.config.num_hidden_layers == model.config.num_hidden_layers + added
    wanted, got = (m(ids).logits.asnumpy() for m in (model, grown))
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    values = dict(grown.parameters_dict())
    for name in ("self_attn.q_proj.weight", "mlp.up_proj.weight"):
        old, new = (values[f"model.layers.{i}.{name}"].asnumpy() for i in (0, 1))
        np.testing.assert_array_equal(old, new)


def test_a_deeper_model_keeps_its_generation_settings():
    model = randomised(Emu3ForCausalLM(tiny_config()), 0)
    model.generation_config.guidance_scale, model.stated_settings = 1.25, ("top_k",)
    grown = deeper(model, 1)
    assert grown.generation_config.guidance_scale == 1.25
    assert grown.stated_settings == ("top_k",)
