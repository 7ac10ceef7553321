"""Jacobi decoding: which drafts of a window stand, what replaces the others, and the step.

Shapes: N sequences, W places in the window, M = N * W, S slots, V candidates, U uniforms per
place, F runs in a block.

    window   last | d d d d d      the last final token, then drafts
    test            + + - . .      drafts stand up to the first that fails
    after    final  t t r|d d d    r replaces it; what lies behind is kept or drawn anew

`window` holds what this shares with ZipAR, `jacobi_decoder` what runs on the host.

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

from emu3.mllm.generation.sampling import Argmax, CumSum, Sampler
from emu3.mllm.generation.step import StepKind
from emu3.mllm.generation.step_weights import StepWeights
from emu3.mllm.generation.window import WindowStep

UNIFORMS = 3  # per place and run: test, replacement, new draft


class Rule(nn.Cell):
    """What the rules share: how far the window's drafts stand."""

    def __init__(self, sampler: Sampler, sequences: int, window: int) -> None:
        super().__init__(auto_prefix=False)
        self.sampler, self.sequences, self.window = sampler, sequences, window
        self.cumsum, self.reduce_sum = CumSum(), ops.ReduceSum()
        self.logical_or, self.select = ops.LogicalOr(), ops.Select()

    def begin(self, previous: "Rule | None") -> None:
        """Start anew, or go on where `previous`, a rule of the same shape, has come to."""

    def standing(self, passed: Tensor) -> tuple[Tensor, Tensor]:
        """Places up to the first failure, that one included: (M,) bool, and how many: (N,) int32.

        passed (M,) bool: whether each draft passed its test.
        """
        failed = 1 - passed.reshape((self.sequences, self.window)).astype(ms.float32)
        stands = self.cumsum(failed) - failed < 0.5
        kept = self.reduce_sum(stands.astype(ms.float32), 1).astype(ms.int32)
        return stands.reshape((-1,)), kept


class FixedRule(Rule):
    """Drafts stand while they are what plain decoding draws with the place's own uniform.

    The tokens are those of plain decoding under the same seed, one by one; with a greedy sampler
    this is Jacobi iteration.
    """

    def construct(self, logits, draft, certain, noise, own, temperature, top_p):
        """As CoupledRule's, with the places' uniforms (M,) as `own`; noise is idle."""
        token = self.sampler(logits, own, temperature, top_p)
        _, kept = self.standing(self.logical_or(token == draft, certain))
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
        self.gather_d, self.gather, self.concat = ops.GatherD(), ops.Gather(), ops.Concat(0)
        self.reduce_sum_kept, self.relu = ops.ReduceSum(keep_dims=True), ops.ReLU()
        self.argmax = Argmax()

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
        stands, kept = self.standing(self.logical_or(accepted, certain))
        if self.coupling == "none":
            token = self.select(stands, token, self.sampler.draw(p, renew).reshape((-1,)))
        elif self.coupling == "gumbel":
            # argmax of p / E, E exponential, is argmax of log p + Gumbel noise.
            token = self.select(stands, token, self.argmax(p / self.noise(own)))
        self._move_on(p, kept)
        return token, kept

    def _at(self, table: Tensor, draft: Tensor) -> Tensor:
        """table (M, V) at draft (M,): (M,)."""
        return self.gather_d(table, 1, draft.reshape((-1, 1))).reshape((-1,))

    def _residual(self, p: Tensor, uniform: Tensor) -> Tensor:
        """Draws (M,) from what p exceeds q by, which makes up for the drafts that pass."""
        excess = self.relu(p - self.q)
        # Where rounding leaves nothing p and q agree, and p itself is as good.
        excess = self.select(self.reduce_sum_kept(excess, -1) > 0, excess, p)
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
        self.bitwise_xor, self.bitwise_and = ops.BitwiseXor(), ops.BitwiseAnd()
        self.right_shift, self.slice, self.log = ops.RightShift(), ops.Slice(), ops.Log()

    def construct(self, keys: Tensor) -> Tensor:
        """keys (M, 2) int32 -> (M, V) float32, above 0."""
        count = keys.shape[0]
        bits = self._mix(self.numbers + self.slice(keys, (0, 0), (count, 1)))
        bits = self._mix(self.bitwise_xor(bits, self.slice(keys, (0, 1), (count, 1))))
        fraction = (self._shift(bits, 9).astype(ms.float32) + 0.5) * 2.0**-23
        return -self.log(fraction)

    def _mix(self, bits: Tensor) -> Tensor:
        bits = self.bitwise_xor(bits, self._shift(bits, 16)) * self.first
        bits = self.bitwise_xor(bits, self._shift(bits, 13)) * self.second
        return self.bitwise_xor(bits, self._shift(bits, 16))

    def _shift(self, bits: Tensor, count: int) -> Tensor:
        """Right shift that brings in zeros."""
        kept = Tensor(np.array([[2 ** (32 - count) - 1]], np.int32))
        return self.bitwise_and(self.right_shift(bits, Tensor(np.array([[count]], np.int32))), kept)


def make_rule(
    coupling: str, sampler: Sampler, sequences: int, window: int, candidates: int
) -> Rule:
    """The rule of a coupling. Greedy, all couplings come to the same: draft or likeliest token."""
    if coupling == "fixed" or sampler.greedy:
        return FixedRule(sampler, sequences, window)
    return CoupledRule(coupling, sampler, sequences, window, candidates)


class JacobiStep(WindowStep):
    """Runs of the window from each sequence's last final token on, as one compiled block."""

    def __init__(self, model, weights: StepWeights, kind: StepKind) -> None:
        super().__init__(model, weights, kind)
        candidates = kind.candidates[1] - kind.candidates[0]
        self.last_candidate = candidates - 1
        coupling = kind.scheme.coupling
        self.rule = make_rule(coupling, self.sampler, kind.sequences, kind.window, candidates)
        self.fixed = isinstance(self.rule, FixedRule)
        self.lines = Tensor(np.arange(kind.window, dtype=np.int32)[None])
        self.following = Tensor(np.array([[1, 0]], np.int32))
        keys = np.zeros((kind.slots, kind.sequences, 2), np.int32)
        self.keys = Parameter(Tensor(keys), name="step.keys", requires_grad=False)
        self.reduce_max, self.maximum = ops.ReduceMax(keep_dims=True), ops.Maximum()

    def construct(self, slot, forwards, turn, end, stop, noise, guidance, temperature, top_p):
        """Runs turn..end-1 of a block, (1,) each, while a sequence has tokens to make.

            sequence 0   . . s|w w w w . . .     each has a place s = slot of its own; `kept` of
            sequence 1   . s|w w w w . . . .     its window w become final, and s moves on

        Args:
            slot: (N,) of each sequence's last final token.
            forwards: (N,) runs that each sequence needed so far.
            stop: (N,) where `slot` ends.
            noise: (F, U, M) uniforms of the block's runs.

        Returns:
            slot, forwards and turn, moved on; earlier than `end` when the cache has no room left.
        """
        scalars = (guidance, temperature, top_p)
        while self.logical_and(turn < end, self._going(slot, stop)):
            slot, forwards, turn = self.once(slot, forwards, turn, stop, noise, *scalars)
        return slot, forwards, turn

    def once(self, slot, forwards, turn, stop, noise, guidance, temperature, top_p):
        """Run `turn` of a block; the arguments are `construct`'s, and so are the results."""
        uniforms = self.gather(noise, turn, 0).reshape(noise.shape[1:])
        kept = self._step(slot, uniforms, guidance, temperature, top_p)
        forwards = forwards + (slot < stop).astype(ms.int32)
        return self.minimum(slot + kept, stop), forwards, turn + 1

    def one_by_one(self, once, slot, forwards, turn, end, stop, noise, *scalars):
        """As `construct`, the loop in Python, for as many runs as have room whatever they keep.

        Nothing is read in between; runs that come after the last token change nothing.
        """
        room = (self.kind.slots - 1 - int(slot.asnumpy().max())) // self.window
        for _ in range(min(int(end) - int(turn), room)):
            slot, forwards, turn = once(slot, forwards, turn, stop, noise, *scalars)
        return slot, forwards, turn

    def _going(self, slot: Tensor, stop: Tensor) -> Tensor:
        """Whether some sequence is not done and all have room for a window: (1,) bool."""
        room = self.reduce_max(slot) + self.window < self.kind.slots
        return self.logical_and(room, self.reduce_max(stop - slot) > 0)

    def _step(self, slot, noise, guidance, temperature, top_p) -> Tensor:
        """One run of the window at slot (N,) and the tokens after it; how many are final (N,)."""
        slots = (slot.reshape((-1, 1)) + self.lines).reshape((-1,))
        seen = self.slot_numbers <= self.rows_of(slots)
        logits = self.forward(slots, seen, guidance)
        targets = self.places(slots) + self.following
        forced = self.gather_nd(self.forced, targets)
        draft = self.gather_nd(self.tokens, targets) - self.first_id
        draft = self.maximum(self.minimum(draft, self.last_candidate), 0)
        own = self.gather_nd(self.uniform if self.fixed else self.keys, targets)
        token, kept = self.rule(logits, draft, forced >= 0, noise, own, temperature, top_p)
        token = self.select(forced < 0, token + self.first_id, forced)
        self.scatter_nd_update(self.tokens, targets, token)
        return kept

    @property
    def cache_bytes(self) -> int:
        """Memory of keys, values and the drafts' distributions."""
        return super().cache_bytes + sum(p.nbytes for p in self.rule.get_parameters())
