"""The rules of Jacobi decoding against a toy whose joint distribution is known exactly.

The toy has V = 3 symbols, n = 5 places and a random conditional distribution for every history; N
sequences run side by side in windows of W places, each with noise of its own.
"""

import itertools

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from emu3.mllm.generation.jacobi import UNIFORMS, CoupledRule, GumbelNoise, make_rule
from emu3.mllm.generation.sampling import Sampler, SamplerKind

SYMBOLS, PLACES, WINDOW, COUNT = 3, 5, 4, 60_000
TEMPERATURE = 0.8
SCALARS = (Tensor(TEMPERATURE, ms.float32), Tensor(1.0, ms.float32))  # and top_p
_rng = np.random.default_rng(11)
LOGITS = [_rng.normal(0, 1.2, (SYMBOLS**i, SYMBOLS)).astype(np.float32) for i in range(PLACES)]


def network(tokens: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Logits (N, W, V) of places (N, W) after the tokens before them; 0 beyond the end."""
    logits = np.zeros((*places.shape, SYMBOLS), np.float32)
    digits = SYMBOLS ** np.arange(PLACES)
    histories = np.cumsum(tokens[:, :PLACES] * digits, 1)
    histories = np.concatenate([np.zeros((len(tokens), 1), int), histories], 1)
    for place, table in enumerate(LOGITS):
        rows, columns = np.nonzero(places == place)
        logits[rows, columns] = table[histories[rows, place]]
    return logits


def joint(top_k: int) -> np.ndarray:
    """Probability of each sequence, in the order of `itertools.product`: (V ** n,)."""
    sequences = np.array(list(itertools.product(range(SYMBOLS), repeat=PLACES)))
    places = np.broadcast_to(np.arange(PLACES), sequences.shape)
    chance = np.exp(network(sequences, places).astype(np.float64) / TEMPERATURE)
    if top_k:
        chance = np.where(chance >= np.sort(chance, -1)[..., -top_k, None], chance, 0)
    chance /= chance.sum(-1, keepdims=True)
    return np.take_along_axis(chance, sequences[..., None], -1).prod((1, 2))


def decode(coupling: str, top_k: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decode as the window step does: tokens (N, n), forwards (N,), each place's uniform (N, n)."""
    rng = np.random.default_rng(5)
    sampler = Sampler(SamplerKind(greedy=False, top_k=top_k, use_top_p=False), SYMBOLS)
    rule = make_rule(coupling, sampler, COUNT, WINDOW, SYMBOLS)
    rule.begin(None)
    shape = (COUNT, PLACES + WINDOW)
    tokens = rng.integers(0, SYMBOLS, shape, np.int32)
    uniform = rng.random(shape, np.float32)
    own = rng.integers(0, 2**31, (*shape, 2), np.int32) if coupling == "gumbel" else uniform
    done, forwards = np.zeros(COUNT, np.int32), np.zeros(COUNT, np.int32)
    while (done < PLACES).any():
        places = done[:, None] + np.arange(WINDOW)
        here = (np.arange(COUNT)[:, None], places)
        made, kept = rule(
            Tensor(network(tokens, places).reshape(-1, SYMBOLS)),
            Tensor(tokens[here].reshape(-1)),
            Tensor((places >= PLACES).reshape(-1)),
            Tensor(rng.random((UNIFORMS, places.size), np.float32)),
            Tensor(own[here].reshape(places.size, *own.shape[2:])),
            *SCALARS,
        )
        tokens[here] = made.asnumpy().reshape(places.shape)
        forwards += done < PLACES
        done = np.minimum(done + kept.asnumpy(), PLACES)
    return tokens[:, :PLACES], forwards, uniform[:, :PLACES]


def sigmas(tokens: np.ndarray, chance: np.ndarray) -> float:
    """How far the chi-square of tokens (N, n) is from what the joint's makes likely."""
    numbers = tokens @ (SYMBOLS ** np.arange(PLACES)[::-1])
    found = np.bincount(numbers, minlength=len(chance))
    assert not found[chance == 0].any()
    wanted = COUNT * chance
    often = wanted >= 5  # rare sequences count as one
    found = np.append(found[often], found[~often].sum())
    wanted = np.append(wanted[often], wanted[~often].sum())
    found, wanted = found[wanted > 0], wanted[wanted > 0]
    freedom = len(wanted) - 1
    return (((found - wanted) ** 2 / wanted).sum() - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize("top_k", [0, 2])
@pytest.mark.parametrize("coupling", ["none", "maximal", "gumbel", "fixed"])
def test_every_coupling_has_the_joint_distribution_in_fewer_forwards(coupling, top_k):
    tokens, forwards, _ = decode(coupling, top_k)
    assert abs(sigmas(tokens, joint(top_k))) < 3
    assert forwards.mean() < 0.8 * PLACES


def test_a_draft_that_keeps_its_older_q_would_be_found_out(monkeypatch):
    def stale(self, p, kept):
        older = self.q.value().copy()
        moved(self, ms.ops.select(self.passed, older, p), kept)

    def standing(self, passed):
        self.passed = ms.ops.tile(passed.reshape((-1, 1)), (1, SYMBOLS))
        return stands(self, passed)

    moved, stands = CoupledRule._move_on, CoupledRule.standing
    monkeypatch.setattr(CoupledRule, "_move_on", stale)
    monkeypatch.setattr(CoupledRule, "standing", standing)
    assert abs(sigmas(decode("maximal")[0], joint(0))) > 10


def test_the_fixed_rule_gives_what_sequential_draws_with_the_same_uniforms_give():
    tokens, _, uniform = decode("fixed")
    sampler = Sampler(SamplerKind(greedy=False, top_k=0, use_top_p=False), SYMBOLS)
    plain = np.zeros_like(tokens)
    for place in range(PLACES):
        logits = network(plain, np.full((COUNT, 1), place))[:, 0]
        plain[:, place] = sampler(Tensor(logits), Tensor(uniform[:, place]), *SCALARS).asnumpy()
    assert np.array_equal(tokens, plain)


def test_a_greedy_sampler_makes_every_coupling_jacobi_iteration():
    sampler = Sampler(SamplerKind(greedy=True, top_k=0, use_top_p=False), SYMBOLS)
    logits = Tensor(np.eye(SYMBOLS, dtype=np.float32))
    certain = Tensor(np.zeros(3, bool))
    noise = Tensor(np.zeros((UNIFORMS, 3), np.float32))
    for coupling in ("none", "maximal", "gumbel", "fixed"):
        rule = make_rule(coupling, sampler, 1, 3, SYMBOLS)
        draft = Tensor(np.array([0, 2, 2], np.int32))
        token, kept = rule(logits, draft, certain, noise, noise[0], *SCALARS)
        assert (token.asnumpy().tolist(), kept.asnumpy().tolist()) == ([0, 1, 2], [2])


def test_forced_places_always_stand():
    sampler = Sampler(SamplerKind(greedy=True, top_k=0, use_top_p=False), SYMBOLS)
    rule = make_rule("fixed", sampler, 1, 3, SYMBOLS)
    logits = Tensor(np.eye(SYMBOLS, dtype=np.float32))
    draft = Tensor(np.array([0, 2, 0], np.int32))
    certain = Tensor(np.array([False, True, False]))
    _, kept = rule(logits, draft, certain, logits[0], logits[0], *SCALARS)
    assert kept.asnumpy().tolist() == [3]


def test_gumbel_noise_is_exponential_and_belongs_to_key_and_candidate():
    keys = np.random.default_rng(0).integers(0, 2**31, (2000, 2), np.int32)
    noise = GumbelNoise(50)(Tensor(keys)).asnumpy()
    alone = GumbelNoise(50)(Tensor(keys[7:8])).asnumpy()[0]
    assert np.allclose(alone, noise[7], rtol=1e-5)
    assert noise.min() > 0
    spread = 1 / np.sqrt(noise.size)
    assert abs(noise.mean() - 1) < 4 * spread
    assert abs((noise > 1).mean() - np.exp(-1)) < 4 * spread
    correlated = np.corrcoef(noise.T) - np.eye(50)
    assert np.abs(correlated).max() < 5 / np.sqrt(len(keys))
    assert abs((noise[1:] * noise[:-1]).mean() - 1) < 10 * spread
