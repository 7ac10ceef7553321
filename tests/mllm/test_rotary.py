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

# 1 / (1e6 ** (torch.arange(0, 128, 2).float() / 128)) of torch 2.13.0 on x86-64, bits of float32.
TORCH = """
3f800000 3f4e4bad 3f263de0 3f05f6ef 3ed7e89b 3eadfcff 3e8c3504 3e61f835 3e361887 3e12bd91
3dec7fd6 3dbe94c6 3d99940d 3d778513 3d47763f 3d20bc1d 3d0186e3 3cd0c1a8 3ca8398b 3c879008
3c5a7bf2 3c301052 3c0de12d 3be4aa46 3bb8449c 3b947dae 3b6f520e 3b40dac5 3b1b690d 3afa78f0
3ac9d75c 3aa2a6f7 3a83126f 3a533f28 3a2a3b44 3a092e02 39dd1725 39b229fb 398f9272 39676492
393a7753 39164324 38f22ce2 38c327b5 389d43a4 387d75d4 384c3fbe 382497ab 3804a2b2 37d5c441
37ac431d 378ad0ed 375fba4f 37344a0e 371148e3 36ea2732 36bcb0c1 36980e02 36751070 36457bab
361f23e4 36003dec 35ceaf79 35a68e4c
"""


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


def test_padding_sees_itself_so_that_no_row_drops_everything():
    bias = causal_bias(np.array([[0, 0, 1]]), new=3)[0, 0]
    assert (bias == 0).tolist() == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_bias_without_padding_is_one_row_for_the_batch():
    assert causal_bias(np.ones((5, 3)), new=3).shape == (1, 1, 3, 3)


def test_frequencies_of_the_released_size_are_torchs_bit_for_bit():
    ours = rope_table(Emu3Config(), 2)
    torchs = np.array([int(word, 16) for word in TORCH.split()], np.uint32).view(np.float32)
    # torch's vector code misses one power by a unit, its own scalar code does not.
    torchs[37] = np.nextafter(torchs[37], np.float32(0))
    np.testing.assert_array_equal(ours[0][1, :64], np.cos(torchs))
    np.testing.assert_array_equal(ours[1][1, 64:], np.sin(torchs))


def test_the_last_position_of_the_released_size_turns_as_in_torch():
    cos, sin = rope_table(Emu3Config(), 9216)
    places = [0, 1, 37, 63]
    wanted = [-0.759178, 0.63011456, -0.99994856, 0.9999346]
    np.testing.assert_allclose(cos[9215, places], wanted, rtol=0, atol=1.2e-7)
    wanted = [-0.650883, -0.7765022, 0.0101435, 0.01143499]
    np.testing.assert_allclose(sin[9215, places], wanted, rtol=0, atol=5e-7)


def test_the_base_of_a_step_is_that_of_the_length_then():
    config = small_config({"type": "dynamic", "factor": 2.0})
    steps = rope_table_of_steps(config, 40)
    np.testing.assert_array_equal(steps[0][:32], rope_table(config, 32)[0])
    for length in (33, 40):
        np.testing.assert_array_equal(steps[1][length - 1], rope_table(config, length)[1][-1])
