"""Emu3Config: released defaults, and refusal of what no model can have."""

import pytest

from emu3.errors import InputError
from emu3.mllm.configuration_emu3 import Emu3Config


def test_defaults_are_those_of_the_released_generation_model():
    config = Emu3Config()
    sizes = (config.vocab_size, config.hidden_size, config.intermediate_size)
    assert sizes == (184622, 4096, 14336)
    assert (config.num_hidden_layers, config.num_attention_heads) == (32, 32)
    assert (config.num_key_value_heads, config.head_dim) == (8, 128)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (
        151643,
        151849,
        151850,
    )
    assert (config.max_position_embeddings, config.image_area) == (9216, 518400)


def test_no_key_value_heads_means_one_for_each_query_head():
    assert Emu3Config(num_key_value_heads=None).num_key_value_heads == 32


def test_there_may_be_several_eos_ids_and_no_pad_id():
    config = Emu3Config(eos_token_id=[7, 8], pad_token_id=None)
    assert (config.eos_token_id, config.pad_token_id) == ([7, 8], None)


def test_unknown_fields_are_kept():
    config = Emu3Config(positive_prompt=" sharp")
    assert config.positive_prompt == " sharp"
    assert config.to_dict()["positive_prompt"] == " sharp"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocab_size", 0),
        ("num_hidden_layers", -1),
        ("hidden_size", 100),
        ("hidden_size", 64.0),
        ("num_key_value_heads", 5),
        ("num_attention_heads", True),
        ("rms_norm_eps", 0),
        ("rope_theta", "big"),
        ("initializer_range", -0.1),
        ("attention_dropout", 1.0),
        ("hidden_act", "gelu"),
        ("tie_word_embeddings", True),
        ("rope_scaling", "linear"),
        ("rope_scaling", {"type": "linear"}),
        ("rope_scaling", {"type": "yarn", "factor": 2.0}),
        ("rope_scaling", {"type": "linear", "factor": 2}),
        ("rope_scaling", {"type": "dynamic", "factor": 1.0}),
        ("rope_scaling", {"type": "dynamic", "factor": 2.0, "more": 1}),
        ("pad_token_id", -1),
        ("bos_token_id", None),
        ("eos_token_id", [2, 184622]),
        ("eos_token_id", []),
        ("img_token_id", "151851"),
        ("eol_token_id", True),
    ],
)
def test_impossible_values_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=name):
        Emu3Config(**{name: value})


@pytest.mark.parametrize("kind", ["linear", "dynamic"])
def test_rope_scaling_of_the_known_kinds_is_accepted(kind):
    assert Emu3Config(rope_scaling={"type": kind, "factor": 2.0}).rope_scaling["type"] == kind


@pytest.mark.parametrize(
    ("stated", "theta", "scaling"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 1e4, None),
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, 1e4, ("dynamic", 2.0)),
        ({"rope_type": "linear", "factor": 4}, 1e6, ("linear", 4.0)),
    ],
)
def test_rope_parameters_of_newer_files_are_read(stated, theta, scaling):
    config = Emu3Config(rope_parameters=stated)
    wanted = scaling and {"type": scaling[0], "factor": scaling[1]}
    assert (config.rope_theta, config.rope_scaling) == (theta, wanted)


def test_rope_type_is_another_word_for_type():
    scaled = Emu3Config(rope_scaling={"rope_type": "linear", "factor": 2.0})
    assert scaled.rope_scaling == {"type": "linear", "factor": 2.0}
    assert Emu3Config(rope_scaling={"rope_type": "default"}).rope_scaling is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rope_parameters", {"rope_type": "default", "attention_factor": 2.0}),
        ("rope_scaling", {"rope_type": "yarn", "factor": 2.0}),
        ("quantization_config", {"quant_method": "bitsandbytes"}),
        ("attention_bias", True),
        ("sliding_window", 4096),
        ("head_dim", 64),
        ("sub_configs", {}),
        ("to_dict", 1),
        ("__class__", "x"),
        ("rope_theta", True),
    ],
)
def test_what_would_change_computing_or_the_class_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=name):
        Emu3Config(**{name: value})
