"""AdamW against its formula, clipping, and the schedule."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from train.mini.adamw import AdamW, cosine_schedule


def numpy_adamw(w, grads, lr, betas, eps, decay):
    m = v = np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        w = w * (1 - lr * decay)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        rate = lr * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        w = w - rate * m / (np.sqrt(v) + eps)
    return w


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_updates_follow_the_formula(decay):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4)).astype(np.float32)
    grads = rng.normal(size=(5, 3, 4)).astype(np.float32)
    weight = Parameter(Tensor(start), name="w")
    optimizer = AdamW([weight], betas=(0.9, 0.95), weight_decay=decay, max_norm=1e9)
    for grad in grads:
        optimizer((Tensor(grad),), Tensor(0.01, ms.float32))
    expected = numpy_adamw(start, grads, 0.01, (0.9, 0.95), 1e-8, decay)
    np.testing.assert_allclose(weight.asnumpy(), expected, rtol=2e-5, atol=1e-6)


def test_vectors_are_not_decayed():
    weight = Parameter(Tensor(np.ones(4, np.float32)), name="norm")
    optimizer = AdamW([weight], weight_decay=0.5)
    optimizer((Tensor(np.zeros(4, np.float32)),), Tensor(0.1, ms.float32))
    np.testing.assert_array_equal(weight.asnumpy(), 1)


def test_the_norm_is_global_and_clipping_keeps_the_direction():
    weights = [Parameter(Tensor(np.zeros(2, np.float32)), name=f"w{i}") for i in range(2)]
    optimizer = AdamW(weights, betas=(0.0, 0.0), eps=1.0, max_norm=1.0)
    grads = (Tensor(np.array([3.0, 0.0], np.float32)), Tensor(np.array([0.0, 4.0], np.float32)))
    norm = float(optimizer(grads, Tensor(1.0, ms.float32)))
    assert norm == pytest.approx(5)
    np.testing.assert_allclose(weights[0].asnumpy(), [-0.6 / 1.6, 0], rtol=1e-5)
    np.testing.assert_allclose(weights[1].asnumpy(), [0, -0.8 / 1.8], rtol=1e-5)


def test_the_schedule_warms_up_and_ends_on_its_floor():
    rate = cosine_schedule(1.0, 0.1, 10, 110)
    assert rate(0) == pytest.approx(0.1)
    assert rate(9) == pytest.approx(1.0)
    assert rate(60) == pytest.approx(0.55)
    assert rate(110) == rate(500) == pytest.approx(0.1)
