"""Matrices of 8 bits on Ascend: WeightQuantBatchMatmul in the layers, the rest in the dtype."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from emu3.arrays import as_numpy
from emu3.cli import quantize
from emu3.cli.room import stored_as
from emu3.errors import InputError
from emu3.estimate import Work, estimate
from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.mllm.modeling_emu3 import Emu3ForCausalLM
from emu3.nn.forms import quantised, widened
from emu3.tokenizer import Emu3VisionVQConfig
from tests.ascend.test_step import PROMPTS, WAYS
from tests.golden_weights import set_golden_weights
from tests.mllm.generation.conftest import MARKERS, SIZES, prompt

# More columns than a group has, the last group not full; heads of 16.
WIDER = {"hidden_size": 96, "intermediate_size": 144, "num_attention_heads": 6}


def make_model(**sizes: int) -> Emu3ForCausalLM:
    ids = {f"{name}_token_id": value for name, value in MARKERS.items()}
    config = Emu3Config(**{**SIZES, **WIDER, "num_hidden_layers": 1, **sizes}, **ids)
    return set_golden_weights(Emu3ForCausalLM(config)).set_train(False)


def rounded(model: Emu3ForCausalLM) -> Emu3ForCausalLM:
    """The same with its layers' matrices rounded to int8, in float32."""
    for layer in model.model.layers:
        for parameter in layer.get_parameters():
            if len(parameter.shape) == 2:
                weight, scales = map(Tensor, quantised(parameter.asnumpy()))
                parameter.set_data(widened(weight, scales))
    return model


def drawn(model: Emu3ForCausalLM, way: str, jit: bool = False) -> np.ndarray:
    """The tokens of two guided pictures of 2 x 3 codes."""
    guided = {"negative_prompt_ids": [prompt(12, seed=3)[0]], "guidance_scale": 2.5}
    settings = {**guided, "do_sample": True, "top_k": 8, **WAYS[way]}
    made = model.generate(
        PROMPTS, image_size=(2, 3), max_new_tokens=12, seed=[1, 2], jit=jit, **settings
    )
    return as_numpy(made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint in float32."""
    path = tmp_path_factory.mktemp("checkpoint") / "plain"
    make_model().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def eight(folder):
    """The same as `emu3 quantize` writes it."""
    path = folder.parent / "int8"
    assert quantize.main([str(folder), str(path)]) == 0
    return path


@pytest.mark.parametrize("way", ["plain", "jacobi", "zipar"])
def test_int8_draws_what_its_values_draw(way, exact):
    model = make_model()
    model.convert("int8")
    assert model.weights == "int8"
    assert (drawn(model, way) == drawn(rounded(make_model()), way)).all()


def test_compiled_it_draws_the_same(exact):
    model = make_model()
    model.convert("int8")
    assert (drawn(model, "plain", jit=True) == drawn(rounded(make_model()), "plain")).all()


def test_layers_are_loaded_in_int8_and_the_rest_in_the_dtype(folder, half):
    model = Emu3ForCausalLM.from_pretrained(folder, mindspore_dtype="float16", weights="int8")
    layer = model.model.layers[0]
    assert layer.mlp.down_proj.weight.shape == (144, 96)  # turned, as the operator wants it
    assert layer.mlp.down_proj.weight.dtype == ms.int8
    assert layer.mlp.down_proj.weight_scale.shape == (3, 96)
    assert {layer.mlp.down_proj.weight_scale.dtype, model.lm_head.weight.dtype} == {ms.float16}
    plain = as_numpy(make_model().model.embed_tokens.weight).astype(np.float16)
    assert (as_numpy(model.model.embed_tokens.weight) == plain).all()


def test_a_folder_in_int8_gives_its_own_values(folder, eight, half):
    made = Emu3ForCausalLM.from_pretrained(eight, mindspore_dtype="float16")
    wanted = Emu3ForCausalLM.from_pretrained(folder, mindspore_dtype="float16", weights="int8")
    assert made.weights == "int8"
    for mine, theirs in zip(
        made.model.layers.get_parameters(), wanted.model.layers.get_parameters()
    ):
        assert mine.dtype == theirs.dtype and (as_numpy(mine) == as_numpy(theirs)).all()
    weight, scales = map(Tensor, quantised(make_model().lm_head.weight.asnumpy()))
    head = widened(weight, scales).asnumpy().astype(np.float16)
    assert (as_numpy(made.lm_head.weight) == head).all()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"weights": "bfloat16"}, "allowed here on Ascend: int8, or --dtype"),
        ({"weights": "int8", "attn_implementation": "eager"}, "flash_attention_2"),
        ({"weights": "int8", "mindspore_dtype": "float32"}, "16 bits"),
    ],
)
def test_what_its_operator_does_not_take_is_refused_by_name(options, words, folder, half):
    with pytest.raises(InputError, match=words):
        Emu3ForCausalLM.from_pretrained(folder, **{"mindspore_dtype": "float16", **options})


def test_a_matrix_too_narrow_for_the_operator_is_named(tmp_path, half):
    make_model(hidden_size=64, num_attention_heads=4).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"q_proj.weight is \(64, 64\); allowed on Ascend"):
        Emu3ForCausalLM.from_pretrained(tmp_path, mindspore_dtype="float16", weights="int8")


def test_the_estimate_counts_embedding_and_head_in_the_dtype(half):
    config, vision = Emu3Config(), Emu3VisionVQConfig()
    plain = estimate(config, vision, Work(**stored_as("float32")))
    int8 = estimate(config, vision, Work(**stored_as("int8")))
    ends = 2 * config.vocab_size * config.hidden_size
    layers = config.num_hidden_layers * (4 * 4096 * (4096 + 1024) // 2 + 3 * 4096 * 14336)
    saved = plain.weights - int8.weights
    assert ends > 0 and abs(saved / (layers * (2 - 1 - 4 / 64)) - 1) < 1e-6
