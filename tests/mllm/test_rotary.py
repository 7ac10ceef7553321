"""Rotary tables, positions counted from masks, and the causal bias."""

import numpy as np
import pytest

from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.mllm.rotary import (
    causal_bias,
    positions_from_mask,
    rope_table,
    rope_table_of_steps,
)


def small_config(scaling=None) -> Emu3Config:
    return Emu3Config(
        hidden_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        rope_theta=10000.0,
        rope_scaling=scaling,
    )


def angles(table) -> np.ndarray:
    """The second row's angles: frequencies, unless positions are scaled."""
    cos, sin = table
    return np.arctan2(sin, cos)[1]


def test_plain_table_has_the_frequencies_of_rotary_embedding():
    wanted = 10000.0 ** (-np.arange(8) / 8)
    cos, sin = rope_table(small_config(), 40)
    assert cos.shape == sin.shape == (40, 16)
    assert cos.dtype == sin.dtype == np.float32
    np.testing.assert_allclose(angles((cos, sin)), np.tile(wanted, 2), rtol=1e-6)


def test_linear_scaling_divides_positions():
    plain = rope_table(small_config(), 20)
    scaled = rope_table(small_config({"type": "linear", "factor": 4.0}), 80)
    np.testing.assert_allclose(scaled[0][::4], plain[0], atol=1e-6)


def test_dynamic_scaling_leaves_tables_within_the_limit_alone():
    plain = rope_table(small_config(), 32)
    scaled = rope_table(small_config({"type": "dynamic", "factor": 2.0}), 32)
    np.testing.assert_array_equal(scaled[0], plain[0])


def test_dynamic_scaling_raises_the_base_beyond_the_limit():
    base = 10000.0 * (2.0 * 64 / 32 - 1.0) ** (16 / 14)
    wanted = base ** (-np.arange(8) / 8)
    table = rope_table(small_config({"type": "dynamic", "factor": 2.0}), 64)
    np.testing.assert_allclose(angles(table), np.tile(wanted, 2), rtol=1e-5)


@pytest.mark.parametrize(
    ("mask", "positions"),
    [
        ([1, 1, 1], [0, 1, 2]),
        ([0, 0, 1, 1], [1, 1, 0, 1]),
        ([1, 1, 0], [0, 1, 1]),
        ([0, 0], [1, 1]),
    ],
)
def test_positions_count_kept_tokens_only(mask, positions):
    assert positions_from_mask(np.array([mask])).tolist() == [positions]


def test_bias_hides_the_future_and_padding():
    bias = causal_bias(np.array([[0, 1, 1], [1, 1, 1]]), new=2)
    assert bias.shape == (2, 1, 2, 3)
    assert (bias[:, 0] == 0).tolist() == [
        [[False, True, False], [False, True, True]],
        [[True, True, False], [True, True, True]],
    ]


def test_bias_without_padding_is_one_row_for_the_batch():
    assert causal_bias(np.ones((5, 3)), new=3).shape == (1, 1, 3, 3)


def test_frequencies_are_rounded_as_torch_rounds_them():
    config = Emu3Config()
    exponents = np.arange(0, 128, 2, dtype=np.float32) / np.float32(128)
    power = np.array([1e6 ** float(x) for x in exponents], np.float32)
    angles = np.float32(9215) * (np.float32(1) / power)
    cos, sin = rope_table(config, 9216)
    np.testing.assert_array_equal(cos[9215, :64], np.cos(angles))
    np.testing.assert_array_equal(sin[9215, 64:], np.sin(angles))


def test_the_base_of_a_step_is_that_of_the_length_then():
    config = small_config({"type": "dynamic", "factor": 2.0})
    steps = rope_table_of_steps(config, 40)
    np.testing.assert_array_equal(steps[0][:32], rope_table(config, 32)[0])
    for length in (33, 40):
        np.testing.assert_array_equal(steps[1][length - 1], rope_table(config, length)[1][-1])
