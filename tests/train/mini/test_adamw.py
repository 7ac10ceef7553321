"""AdamW against its formula, and clipping."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from train.mini.adamw import AdamW


def numpy_adamw(w, grads, lr, betas, eps, decay):
    m = v = np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        w = w * (1 - lr * decay)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


@pytest.mark.parametrize("eps", [1e-8, 0.1])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_updates_follow_the_formula(decay, eps):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4)).astype(np.float32)
    grads = rng.normal(size=(5, 3, 4)).astype(np.float32)
    weight = Parameter(Tensor(start), name="w")
    optimizer = AdamW([weight], betas=(0.9, 0.95), eps=eps, weight_decay=decay, max_norm=1e9)
    for grad in grads:
        optimizer((Tensor(grad),), Tensor(0.01, ms.float32))
    expected = numpy_adamw(start, grads, 0.01, (0.9, 0.95), eps, decay)
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
