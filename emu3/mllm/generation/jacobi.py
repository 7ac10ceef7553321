"""The accept and redraw rules of Jacobi decoding: which drafts stand, and what replaces the others.

Shapes: N sequences, W places in the window, M = N * W, V candidates, U uniforms per place.

A place holds a draft that was drawn from q; the network has just given p, its distribution after
the drafts before it. Both are what plain decoding would draw from: after guidance, temperature,
top-k and top-p. Drafts stand up to the first that fails its test; the failed one is replaced so
that its place has the law p, and the places behind it get new drafts. Whatever stays or is drawn
behind it has from now on q := p: a kept draft is a sample of the newer p as well, and testing it
against its older q would be wrong.

Speculative Jacobi decoding is arXiv 2410.01699, its couplings arXiv 2510.24211.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from emu3.mllm.generation.sampling import Sampler

COUPLINGS = ("none", "maximal", "gumbel", "fixed")
UNIFORMS = 3  # per place and run: test, replacement, new draft


class Rule(nn.Cell):
    """What the rules share: how far the window's drafts stand."""

    def __init__(self, sampler: Sampler, sequences: int, window: int) -> None:
        super().__init__(auto_prefix=False)
        self.sampler, self.sequences, self.window = sampler, sequences, window
        self.cumsum, self.sum, self.either = ops.CumSum(), ops.ReduceSum(), ops.LogicalOr()
        self.select = ops.Select()

    def begin(self, previous: "Rule | None") -> None:
        """Start anew, or go on where `previous`, a rule of the same shape, has come to."""

    def standing(self, passed: Tensor) -> tuple[Tensor, Tensor]:
        """Places up to the first failure, that one included: (M,) bool, and how many: (N,) int32.

        passed (M,) bool: whether each draft passed its test.
        """
        failed = 1 - passed.reshape((self.sequences, self.window)).astype(ms.float32)
        stands = self.cumsum(failed, 1) - failed < 0.5
        kept = self.sum(stands.astype(ms.float32), 1).astype(ms.int32)
        return stands.reshape((-1,)), kept


class FixedRule(Rule):
    """Drafts stand while they are what plain decoding draws with the place's own uniform.

    The tokens are those of plain decoding under the same seed, one by one; with a greedy sampler
    this is Jacobi iteration.
    """

    def construct(self, logits, draft, certain, noise, own, temperature, top_p):
        """As CoupledRule's, with the places' uniforms (M,) as `own`; noise is idle."""
        token = self.sampler(logits, own, temperature, top_p)
        _, kept = self.standing(self.either(token == draft, certain))
        return token, kept


class CoupledRule(Rule):
    """Drafts stand by a test against p and q; `coupling` says what happens behind a failure.

    none: new independent draws (SJD). maximal: every place is tested and keeps its draft when it
    passes (MC). gumbel: new draws with the place's own Gumbel noise, the same in every run, so
    that they tend to repeat (GS).
    """

    def __init__(
        self, coupling: str, sampler: Sampler, sequences: int, window: int, candidates: int
    ) -> None:
        super().__init__(sampler, sequences, window)
        self.coupling = coupling
        self.noise = GumbelNoise(candidates)
        # Drafts that never saw the network are uniform over the candidates.
        self.flat = Tensor(np.full((1, candidates), 1 / candidates, np.float32))
        shape = (sequences * window, candidates)
        self.q = Parameter(Tensor(np.zeros(shape, np.float32)), name="rule.q", requires_grad=False)
        self.lines = Tensor(np.arange(window, dtype=np.int32)[None])
        firsts = np.arange(sequences, dtype=np.int32)[:, None] * window
        self.firsts = Tensor(firsts)
        self.behind = Tensor(np.full((sequences, window), sequences * window, np.int32))
        self.take, self.gather, self.concat = ops.GatherD(), ops.Gather(), ops.Concat(0)
        self.total, self.relu = ops.ReduceSum(keep_dims=True), ops.ReLU()
        self.argmax = ops.Argmax(axis=-1, output_type=ms.int32)

    def begin(self, previous: "CoupledRule | None") -> None:
        """Start with uniform drafts, or go on where `previous` has come to."""
        start = ops.tile(self.flat, (self.q.shape[0], 1)) if previous is None else previous.q
        ops.assign(self.q, start)

    def construct(self, logits, draft, certain, noise, own, temperature, top_p):
        """Test a window and move q on to where the next one begins.

        Args:
            logits: (M, V) of each place, after the drafts before it.
            draft: (M,) candidates drawn from q.
            certain: (M,) bool, places whose token is forced: they always pass.
            noise: (U, M) uniforms, new in every run.
            own: keys (M, 2) of the places' Gumbel noise for "gumbel", idle otherwise.

        Returns:
            Candidates (M,), and how many places of each window are final, (N,) from 1 to W.
        """
        p = self.sampler.distribution(logits, temperature, top_p)
        test, replace, renew = noise[0], noise[1], noise[2]
        accepted = test * self._at(self.q, draft) < self._at(p, draft)
        token = self.select(accepted, draft, self._residual(p, replace))
        stands, kept = self.standing(self.either(accepted, certain))
        if self.coupling == "none":
            token = self.select(stands, token, self.sampler.draw(p, renew).reshape((-1,)))
        elif self.coupling == "gumbel":
            # argmax of p / E, E exponential, is argmax of log p + Gumbel noise.
            token = self.select(stands, token, self.argmax(p / self.noise(own)))
        self._move_on(p, kept)
        return token, kept

    def _at(self, table: Tensor, draft: Tensor) -> Tensor:
        """table (M, V) at draft (M,): (M,)."""
        return self.take(table, 1, draft.reshape((-1, 1))).reshape((-1,))

    def _residual(self, p: Tensor, uniform: Tensor) -> Tensor:
        """Draws (M,) from what p exceeds q by, which makes up for the drafts that pass."""
        excess = self.relu(p - self.q)
        # Where rounding leaves nothing p and q agree, and p itself is as good.
        excess = self.select(self.total(excess, -1) > 0, excess, p)
        return self.sampler.draw(excess, uniform).reshape((-1,))

    def _move_on(self, p: Tensor, kept: Tensor) -> None:
        """q := p for all that was drawn or kept behind the final places, uniform at the end."""
        before = self.lines + kept.reshape((-1, 1))
        source = self.select(before < self.window, before + self.firsts, self.behind)
        q = self.gather(self.concat((p, self.flat)), source.reshape((-1,)), 0)
        ops.assign(self.q, q)


class GumbelNoise(nn.Cell):
    """Exponential noise (M, V) for keys (M, 2): a hash of key and candidate, never stored.

    Its negative logarithm is Gumbel noise. The hash is MurmurHash3's finaliser, once per key.
    """

    def __init__(self, candidates: int) -> None:
        super().__init__(auto_prefix=False)
        numbers = np.arange(candidates, dtype=np.uint32) * np.uint32(0x9E3779B9)
        self.numbers = Tensor(numbers.view(np.int32)[None])
        self.first, self.second = (
            Tensor(np.array([[c]], np.uint32).view(np.int32)) for c in (0x85EBCA6B, 0xC2B2AE35)
        )
        self.xor, self.mask, self.right = ops.BitwiseXor(), ops.BitwiseAnd(), ops.RightShift()
        self.slice, self.log = ops.Slice(), ops.Log()

    def construct(self, keys: Tensor) -> Tensor:
        """keys (M, 2) int32 -> (M, V) float32, above 0."""
        count = keys.shape[0]
        bits = self._mix(self.numbers + self.slice(keys, (0, 0), (count, 1)))
        bits = self._mix(self.xor(bits, self.slice(keys, (0, 1), (count, 1))))
        fraction = (self._shift(bits, 9).astype(ms.float32) + 0.5) * 2.0**-23
        return -self.log(fraction)

    def _mix(self, bits: Tensor) -> Tensor:
        bits = self.xor(bits, self._shift(bits, 16)) * self.first
        bits = self.xor(bits, self._shift(bits, 13)) * self.second
        return self.xor(bits, self._shift(bits, 16))

    def _shift(self, bits: Tensor, count: int) -> Tensor:
        """Right shift that brings in zeros."""
        kept = Tensor(np.array([[2 ** (32 - count) - 1]], np.int32))
        return self.mask(self.right(bits, Tensor(np.array([[count]], np.int32))), kept)


def make_rule(
    coupling: str, sampler: Sampler, sequences: int, window: int, candidates: int
) -> Rule:
    """The rule of a coupling. Greedy, all couplings come to the same: draft or likeliest token."""
    if coupling == "fixed" or sampler.greedy:
        return FixedRule(sampler, sequences, window)
    return CoupledRule(coupling, sampler, sequences, window, candidates)
