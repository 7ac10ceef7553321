"""The sampler against numpy, and its distribution."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from emu3.mllm.generation.sampling import Sampler, SamplerKind, random, uniforms

LOGITS = np.random.default_rng(0).standard_normal((1, 40)).astype(np.float32) * 2


def reference(logits, uniform, temperature, top_k, top_p) -> int:
    """One draw from logits (V,), spelled out in float64; candidates in their own order."""
    scaled = logits.astype(np.float64) / temperature
    order = np.argsort(-scaled, kind="stable")
    if top_k:
        order = order[:top_k]
    chance = np.exp(scaled[order] - scaled[order].max())
    chance /= chance.sum()
    kept = np.cumsum(chance) - chance < top_p
    order, chance = order[kept], chance[kept] / chance[kept].sum()
    by_id = np.argsort(order)
    order, chance = order[by_id], chance[by_id]
    return int(order[np.searchsorted(np.cumsum(chance), uniform, side="right")])


def draw(uniform, temperature=1.0, top_k=0, top_p=1.0, greedy=False) -> np.ndarray:
    """The sampler's choice from LOGITS for each of the uniforms (n,)."""
    uniform = np.asarray(uniform, np.float32)
    sampler = Sampler(SamplerKind(greedy, top_k, top_p < 1), LOGITS.shape[1])
    logits = Tensor(np.repeat(LOGITS, len(uniform), 0))
    scalars = (Tensor(temperature, ms.float32), Tensor(top_p, ms.float32))
    return sampler(logits, Tensor(uniform), *scalars).asnumpy()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 1.0), (0.5, 0, 1.0), (1.0, 7, 1.0), (1.0, 0, 0.6), (2.0, 9, 0.8), (1.0, 1000, 1.0)],
)
def test_draws_equal_numpy(temperature, top_k, top_p):
    uniform = uniforms(1, 0, 300)
    clamped = top_k if top_k < LOGITS.shape[1] else 0
    wanted = [reference(LOGITS[0], u, temperature, clamped, top_p) for u in uniform]
    assert (draw(uniform, temperature, top_k, top_p) == wanted).mean() > 0.99


def test_greedy_takes_the_likeliest():
    assert draw([0.1, 0.9], greedy=True).tolist() == [LOGITS.argmax()] * 2


def test_the_distribution_is_the_softmax():
    count = 20_000
    drawn = np.bincount(draw(uniforms(3, 0, count)), minlength=LOGITS.shape[1])
    chance = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum()
    freedom = len(chance) - 1
    squares = ((drawn - count * chance) ** 2 / (count * chance)).sum()
    assert abs(squares - freedom) < 3 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("top_k", [0, 5])
def test_uniforms_at_the_edges_stay_within_the_candidates(top_k):
    edges = np.array([0.0, np.nextafter(np.float32(1), np.float32(0))], np.float32)
    assert set(draw(edges, top_k=top_k)) <= set(range(LOGITS.shape[1]))


def test_top_p_keeps_the_likeliest_when_it_is_tiny():
    assert set(draw(uniforms(5, 0, 50), top_p=1e-6)) == {LOGITS.argmax()}


def test_uniforms_of_a_longer_stream_begin_with_the_shorter():
    assert np.array_equal(uniforms(7, 2, 100)[:33], uniforms(7, 2, 33))


def test_streams_and_seeds_differ():
    draws = [uniforms(seed, stream, 8).tolist() for seed, stream in ((1, 0), (1, 1), (2, 0))]
    assert len({tuple(d) for d in draws}) == 3


def test_rounding_that_swaps_two_equals_changes_no_draw():
    uniform = Tensor(uniforms(2, 0, 200))
    sampler = Sampler(SamplerKind(False, 10, False), 40)
    scalars = (Tensor(1.0, ms.float32), Tensor(1.0, ms.float32))
    draws = []
    for sign in (1, -1):
        logits = np.zeros((200, 40), np.float32)
        logits[:, 12:22] = 5 + sign * 1e-6 * np.arange(10)
        draws.append(sampler(Tensor(logits), uniform, *scalars).asnumpy())
    assert np.array_equal(*draws)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (7, 1.0), (0, 0.6), (9, 0.8)])
def test_the_distribution_spelled_out_is_what_is_drawn_from(top_k, top_p):
    sampler = Sampler(SamplerKind(False, top_k, top_p < 1), LOGITS.shape[1])
    scalars = (Tensor(0.8, ms.float32), Tensor(top_p, ms.float32))
    chance = sampler.distribution(Tensor(LOGITS), *scalars).asnumpy()[0]
    count = 20_000
    drawn = np.bincount(draw(uniforms(3, 0, count), 0.8, top_k, top_p), minlength=len(chance))
    assert abs(chance.sum() - 1) < 1e-5
    assert np.abs(drawn / count - chance).max() < 4 * np.sqrt(0.25 / count)
    assert not drawn[chance == 0].any()


def test_a_candidate_without_weight_is_never_drawn():
    weights = Tensor(np.array([[0.3, 0.7, 0, 0]], np.float32))
    edge = Tensor(np.array([np.nextafter(np.float32(1), np.float32(0))]))
    sampler = Sampler(SamplerKind(False, 0, False), 4)
    assert sampler.draw(weights, edge).asnumpy().tolist() == [[1]]


def test_uses_of_one_stream_differ():
    draws = [random(1, 0, use).random(8).tolist() for use in range(4)]
    assert len({tuple(d) for d in draws}) == 4
