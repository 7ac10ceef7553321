"""Dropout by our kernels: how much is dropped, where, and that slopes are dropped alike."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from emu3.nn.attention import Attend, attend
from emu3.nn.dropout import Dropout
from emu3.nn.kernels.operators import library
from emu3.nn.masked import MASKED

pytestmark = pytest.mark.skipif(library() is None, reason="no compiler for the kernels here")

B, H, G, T, D = 2, 4, 2, 40, 40


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape, np.float32))


def kept(share: float, x: Tensor) -> np.ndarray:
    """What `Dropout` multiplied each number of x by."""
    return Dropout(share).set_train(True)(x).asnumpy() / x.asnumpy()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_is_dropped_and_the_rest_scaled_up(share):
    factors = kept(share, numbers(300, 201))
    assert (factors == 0).mean() == pytest.approx(share, abs=0.01)
    np.testing.assert_allclose(factors[factors != 0], 1 / (1 - share), rtol=1e-5)


def test_what_is_dropped_has_no_pattern():
    there = kept(0.5, numbers(512, 512)) != 0
    assert np.abs([there.mean(0) - 0.5, there.mean(1) - 0.5]).max() < 5 * 0.5 / 512**0.5
    for step in (1, 2, 8, 16, 511, 512, 513):
        away = there.reshape(-1)
        alike = (away[step:] == away[:-step]).mean()
        assert alike == pytest.approx(0.5, abs=5 * 0.5 / 512), step


def test_another_input_or_seed_drops_others_and_the_same_the_same():
    x = numbers(64, 64)
    once = kept(0.5, x)
    assert np.array_equal(kept(0.5, x), once)
    other = x.asnumpy().copy()
    other[-1, -1] += 1
    assert (kept(0.5, Tensor(other)) != once).mean() == pytest.approx(0.5, abs=0.05)
    before = ms.get_seed()
    ms.set_seed(12345)
    try:
        assert (kept(0.5, x) != once).mean() == pytest.approx(0.5, abs=0.05)
    finally:
        ms.set_seed(before if before is not None else 0)


def test_slopes_pass_where_numbers_did():
    x, cell = numbers(50, 33), Dropout(0.4).set_train(True)
    slope = numbers(50, 33, seed=1)
    back = ms.grad(lambda x: (cell(x) * slope).sum())(x)
    np.testing.assert_allclose(back.asnumpy(), slope.asnumpy() * kept(0.4, x), rtol=1e-6)


def test_without_training_nothing_is_dropped():
    x = numbers(5, 7)
    assert np.array_equal(Dropout(0.5).set_train(False)(x).asnumpy(), x.asnumpy())


def attention_inputs() -> list[Tensor]:
    query = numbers(B, H, T, D, seed=1)
    key, value = (numbers(B, G, T, D, seed=seed) for seed in (2, 3))
    seen = np.tril(np.ones((T, T), bool))
    bias = np.where(seen, np.float32(0), np.float32(MASKED))[None, None]
    return [query, key, value, Tensor(bias)]


def weights_of(cell: Attend) -> np.ndarray:
    """Weights (B, H, T, T) as `cell` uses them: what it makes of values that are their number."""
    query, key, _, bias = attention_inputs()
    one_hot = Tensor(np.broadcast_to(np.eye(T, dtype=np.float32), (B, G, T, T)).copy())
    out = cell(query, key, one_hot, bias).asnumpy()
    return out.reshape(B, T, H, T).transpose(0, 2, 1, 3)


def test_attention_drops_weights_and_their_slopes_alike():
    cell = Attend("eager", 0.3).set_train(True)
    plain = weights_of(Attend("eager", 0.0))
    seen = plain > 1e-6
    factors = np.where(seen, weights_of(cell) / np.maximum(plain, 1e-30), 0)
    assert (factors[seen] == 0).mean() == pytest.approx(0.3, abs=0.03)
    *inputs, bias = attention_inputs()
    slope = numbers(B, T, H * D, seed=4)

    def by_operators(query, key, value):
        key, value = (ms.ops.repeat_elements(x, H // G, 1) for x in (key, value))
        scores = (query @ key.transpose(0, 1, 3, 2)) * D**-0.5 + bias
        weights = ms.ops.softmax(scores, -1) * Tensor(factors.astype(np.float32))
        out = (weights @ value).transpose(0, 2, 1, 3).reshape(B, T, H * D)
        return (out * slope).sum()

    def by_kernel(query, key, value):
        return (cell(query, key, value, bias) * slope).sum()

    wanted = ms.value_and_grad(by_operators, (0, 1, 2))(*inputs)
    got = ms.value_and_grad(by_kernel, (0, 1, 2))(*inputs)
    assert float(got[0]) == pytest.approx(float(wanted[0]), rel=1e-4)
    for ours, theirs in zip(got[1], wanted[1]):
        np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), atol=2e-4)


def test_attention_out_of_training_is_the_plain_one():
    inputs = attention_inputs()
    got = Attend("eager", 0.3).set_train(False)(*inputs).asnumpy()
    np.testing.assert_allclose(got, attend(*inputs, "eager").asnumpy(), atol=1e-5)
