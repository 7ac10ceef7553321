"""Compiled steps that run several places of each row at once, and Jacobi decoding's among them.

Shapes: N sequences, R rows of the network, W places in the window, M = N * W, S slots, V
candidates, F runs in a block.

The cache is addressed by slot, so going back costs nothing: the next window overwrites what
rejected drafts left behind, and no place sees a slot beyond its own.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from emu3.mllm.generation.jacobi import FixedRule, make_rule
from emu3.mllm.generation.step import StepKind, StepNetwork
from emu3.mllm.generation.weights import StepWeights


class WindowStep(StepNetwork):
    """Places of a window and the network over them."""

    def __init__(self, model, weights: StepWeights, kind: StepKind) -> None:
        super().__init__(model, weights, kind)
        self.window = kind.window
        self.put, self.pick = ops.ScatterNdUpdate(), ops.GatherNd()
        self.beside = ops.Concat(1)
        sequences = np.repeat(np.arange(kind.sequences, dtype=np.int32), kind.window)
        self.sequence_numbers = Tensor(sequences[:, None])

    def places(self, slots: Tensor) -> Tensor:
        """Where tables (S, N) hold slots (M,): (M, 2)."""
        return self.beside((slots.reshape((-1, 1)), self.sequence_numbers))

    def rows_of(self, slots: Tensor) -> Tensor:
        """Slots (M,) of the sequences for every row of the network: (R, 1, W, 1)."""
        slots = self.pair((slots, slots)) if self.guided else slots
        return slots.reshape((-1, 1, self.window, 1))

    def forward(self, slots: Tensor, seen: Tensor, guidance: Tensor) -> Tensor:
        """Run the tokens at slots (M,), seen (R, 1, W, S) bool: logits (M, V) for what follows."""
        token = self.pick(self.tokens, self.places(slots))
        bias = self.select(seen, self.padding, self.masked)
        return self.run(token, self.rows_of(slots).reshape((-1,)), bias, guidance)


class JacobiStep(WindowStep):
    """Runs of the window from each sequence's last final token on, as one compiled block."""

    def __init__(self, model, weights: StepWeights, kind: StepKind) -> None:
        super().__init__(model, weights, kind)
        candidates = kind.head_range[1] - kind.head_range[0]
        self.last_candidate = candidates - 1
        self.rule = make_rule(kind.coupling, self.sampler, kind.sequences, kind.window, candidates)
        self.fixed = isinstance(self.rule, FixedRule)
        self.lines = Tensor(np.arange(kind.window, dtype=np.int32)[None])
        self.following = Tensor(np.array([[1, 0]], np.int32))
        keys = np.zeros((kind.slots, kind.sequences, 2), np.int32)
        self.keys = Parameter(Tensor(keys), name="step.keys", requires_grad=False)
        self.most, self.both = ops.ReduceMax(keep_dims=True), ops.LogicalAnd()
        self.maximum = ops.Maximum()

    def construct(self, slot, forwards, turn, end, stop, noise, guidance, temperature, top_p):
        """Runs turn..end-1 of a block, (1,) each, while a sequence has tokens to make.

        Args:
            slot: (N,) of each sequence's last final token.
            forwards: (N,) runs that each sequence needed so far.
            stop: (N,) where `slot` ends.
            noise: (F, U, M) uniforms of the block's runs.

        Returns:
            slot, forwards and turn, moved on; earlier than `end` when the cache has no room left.
        """
        while self.both(turn < end, self._going(slot, stop)):
            uniforms = self.gather(noise, turn, 0).reshape(noise.shape[1:])
            kept = self._step(slot, uniforms, guidance, temperature, top_p)
            forwards = forwards + (slot < stop).astype(ms.int32)
            slot = self.minimum(slot + kept, stop)
            turn = turn + 1
        return slot, forwards, turn

    def _going(self, slot: Tensor, stop: Tensor) -> Tensor:
        """Whether some sequence is not done and all have room for a window: (1,) bool."""
        room = self.most(slot) + self.window < self.kind.slots
        return self.both(room, self.most(stop - slot) > 0)

    def _step(self, slot, noise, guidance, temperature, top_p) -> Tensor:
        """One run of the window at slot (N,) and the tokens after it; how many are final (N,)."""
        slots = (slot.reshape((-1, 1)) + self.lines).reshape((-1,))
        seen = self.slot_numbers <= self.rows_of(slots)
        logits = self.forward(slots, seen, guidance)
        targets = self.places(slots) + self.following
        forced = self.pick(self.forced, targets)
        draft = self.pick(self.tokens, targets) - self.first_id
        draft = self.maximum(self.minimum(draft, self.last_candidate), 0)
        own = self.pick(self.uniform if self.fixed else self.keys, targets)
        token, kept = self.rule(logits, draft, forced >= 0, noise, own, temperature, top_p)
        self.put(self.tokens, targets, self.select(forced < 0, token + self.first_id, forced))
        return kept

    @property
    def cache_bytes(self) -> int:
        """Memory of keys, values and the drafts' distributions."""
        return super().cache_bytes + sum(p.nbytes for p in self.rule.get_parameters())
