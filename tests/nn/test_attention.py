"""Attention: grouped heads, masks, and the arguments of the fused arm."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from emu3.nn.attention import attend, rotate
from emu3.nn.masked import MASKED

B, H, G, T, S, D = 2, 6, 2, 3, 8, 16


def random_inputs(seed: int = 0) -> list[np.ndarray]:
    """Query, key, value, and a bias that hides some keys of each row."""
    rng = np.random.default_rng(seed)
    shapes = ((B, H, T, D), (B, G, S, D), (B, G, S, D))
    hidden = rng.random((B, 1, T, S)) < 0.3
    bias = np.where(hidden, np.float32(MASKED), np.float32(0))
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes] + [bias]


def exact(query, key, value, bias) -> np.ndarray:
    """Attention in float64 with keys and values repeated for each query head."""
    query, key, value = (x.astype(np.float64) for x in (query, key, value))
    key, value = (np.repeat(x, H // G, axis=1) for x in (key, value))
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(D) + bias
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    out = weights / weights.sum(-1, keepdims=True) @ value
    return out.transpose(0, 2, 1, 3).reshape(B, T, H * D)


def fused_by_its_documentation(query, key, value, head_num, **options) -> Tensor:
    """What Ascend's operator is documented to compute, for arguments in their documented form."""
    assert set(options) == {"input_layout", "attn_mask", "scalar_value"}
    assert options["input_layout"] == "BNSD" and head_num == query.shape[1]
    assert query.dtype == key.dtype == value.dtype == ms.bfloat16
    mask = options["attn_mask"]
    assert mask.dtype == ms.uint8 and tuple(mask.shape) in ((B, 1, T, S), (T, S))
    assert options["scalar_value"] == pytest.approx(D**-0.5)
    arrays = [x.astype(ms.float32).asnumpy() for x in (query, key, value)]
    out = exact(*arrays, np.where(mask.asnumpy() == 1, MASKED, 0.0))
    out = out.reshape(B, T, H, D).transpose(0, 2, 1, 3)
    return Tensor(out.astype(np.float32)).astype(ms.bfloat16)


def test_each_key_head_serves_consecutive_query_heads():
    inputs = random_inputs()
    got = attend(*(Tensor(x) for x in inputs), "eager").asnumpy()
    np.testing.assert_allclose(got, exact(*inputs), atol=1e-5)


@pytest.mark.parametrize("rows", [1, B])
def test_fused_arm_passes_what_the_operator_documents(monkeypatch, rows):
    monkeypatch.setattr(ops, "flash_attention_score", fused_by_its_documentation)
    query, key, value, bias = random_inputs()
    bias = bias[:rows]
    narrow = (Tensor(x).astype(ms.bfloat16) for x in (query, key, value))
    got = attend(*narrow, Tensor(bias), "flash_attention_2")
    assert got.dtype == ms.bfloat16
    got = got.astype(ms.float32).asnumpy()
    np.testing.assert_allclose(got, exact(query, key, value, bias), atol=0.03)


def test_float32_attends_in_float32_whatever_is_asked_for():
    inputs = random_inputs()
    got = attend(*(Tensor(x) for x in inputs), "flash_attention_2")
    np.testing.assert_allclose(got.asnumpy(), exact(*inputs), atol=1e-5)


def test_dropout_drops_weights_and_scales_the_rest():
    query, key, _, bias = (Tensor(x) for x in random_inputs())
    ones = Tensor(np.ones((B, G, S, D), np.float32))
    sums = [attend(query, key, ones, bias, "eager", 0.5).asnumpy() for _ in range(100)]
    assert np.std(sums) > 0.1
    assert np.mean(sums) == pytest.approx(1, abs=0.05)


def test_rotation_turns_pairs_half_a_head_apart():
    x = np.random.default_rng(0).standard_normal((1, 1, 1, D)).astype(np.float32)
    angle = np.arange(D // 2, dtype=np.float32)
    cos, sin = (np.tile(f(angle), 2).reshape(1, 1, 1, D) for f in (np.cos, np.sin))
    turned = rotate(Tensor(x), Tensor(cos), Tensor(sin)).asnumpy().reshape(2, -1)
    pairs = x.reshape(2, -1)
    wanted = (pairs[0] + 1j * pairs[1]) * np.exp(1j * angle)
    np.testing.assert_allclose(turned, [wanted.real, wanted.imag], atol=1e-6)
