"""Muon: its update against the definition, and what it leaves to AdamW."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from train.mini.adamw import AdamW
from train.mini.muon import Muon, orthogonal

LR = Tensor(0.01, ms.float32)


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_singular_values_of_an_update_are_near_one(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    result = orthogonal(Tensor(matrix)).asnumpy()
    values = np.diag(u.T @ result @ v.T)
    np.testing.assert_allclose(result, u @ np.diag(values) @ v, atol=1e-4)
    assert values.min() > 0.6 and values.max() < 1.3


def test_momentum_decay_and_size_follow_the_formula():
    rng = np.random.default_rng(1)
    start = rng.normal(size=(6, 10)).astype(np.float32)
    grads = rng.normal(size=(3, 6, 10)).astype(np.float32)
    weight = Parameter(Tensor(start), name="hidden")
    muon = Muon([weight], lambda p: True, ratio=2.0, momentum=0.9, weight_decay=0.4, max_norm=1e9)
    expected, buffer = start, np.zeros_like(start)
    for grad in grads:
        muon((Tensor(grad),), LR)
        buffer = 0.9 * buffer + grad
        step = orthogonal(Tensor(0.9 * buffer + grad)).asnumpy()
        expected = expected * (1 - 0.01 * 0.4) - 0.02 * 0.2 * np.sqrt(10) * step
    # The kernel's products are of bfloat16.
    np.testing.assert_allclose(weight.asnumpy(), expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_the_kernel_moves_as_the_operators_do(shape, monkeypatch):
    grads = np.random.default_rng(3).normal(size=(2, *shape)).astype(np.float32)
    moved = []
    for _ in range(2):
        weight = Parameter(Tensor(np.ones(shape, np.float32)), name="hidden")
        muon = Muon([weight], lambda p: True, weight_decay=0.3)
        for grad in grads:
            muon((Tensor(grad),), LR)
        moved.append(weight.asnumpy())
        monkeypatch.setattr("train.mini.muon.kernel_of_many", lambda: None)
    np.testing.assert_allclose(*moved, atol=2e-3)
    assert np.abs(moved[0] - 1).max() > 0.02


def test_other_parameters_move_as_under_adamw():
    rng = np.random.default_rng(2)
    start, grad = rng.normal(size=(2, 5, 7)).astype(np.float32)
    hidden = Parameter(Tensor(start), name="hidden")
    head = Parameter(Tensor(start), name="head")
    alone = Parameter(Tensor(start), name="alone")
    both = Muon([hidden, head], lambda p: p.name == "hidden", weight_decay=0.1, max_norm=1e9)
    adamw = AdamW([alone], weight_decay=0.1, max_norm=1e9)
    for _ in range(2):
        both((Tensor(grad), Tensor(grad)), LR)
        adamw((Tensor(grad),), LR)
    np.testing.assert_array_equal(head.asnumpy(), alone.asnumpy())
    assert not np.allclose(hidden.asnumpy(), head.asnumpy())


def test_gradients_are_clipped_together():
    grads = (Tensor(np.full((2, 2), 3, np.float32)), Tensor(np.full((2, 2), 4, np.float32)))
    weights = [Parameter(Tensor(np.ones((2, 2), np.float32)), name=n) for n in ("hidden", "head")]
    norm = Muon(weights, lambda p: p.name == "hidden")(grads, LR)
    assert float(norm) == pytest.approx(10)
