"""What ways of decoding share that run several places of each row at once: `jacobi` and `zipar`.

Shapes: N sequences, R rows of the network, W places in the window, M = N * W, S slots, V
candidates, n new tokens.

The cache is addressed by slot, so going back costs nothing: the next window overwrites what
rejected drafts left behind, and no place sees a slot beyond its own.
"""

from typing import TYPE_CHECKING

import numpy as np
from mindspore import Tensor, ops

from emu3.mllm.generation.decoder import Decoder, StepStore
from emu3.mllm.generation.step import StepKind, StepNetwork
from emu3.mllm.generation.step_weights import StepWeights

if TYPE_CHECKING:
    from emu3.mllm.generation.request import Request

RUNS = 16  # of the network in a block, between two readings


class WindowStep(StepNetwork):
    """Places of a window and the network over them."""

    def __init__(self, model, weights: StepWeights, kind: StepKind) -> None:
        super().__init__(model, weights, kind)
        self.window = kind.window
        self.scatter_nd_update, self.gather_nd = ops.ScatterNdUpdate(), ops.GatherNd()
        self.concat_columns, self.logical_and = ops.Concat(1), ops.LogicalAnd()
        sequences = np.repeat(np.arange(kind.sequences, dtype=np.int32), kind.window)
        self.sequence_numbers = Tensor(sequences[:, None])

    def places(self, slots: Tensor) -> Tensor:
        """Where tables (S, N) hold slots (M,): (M, 2)."""
        return self.concat_columns((slots.reshape((-1, 1)), self.sequence_numbers))

    def rows_of(self, slots: Tensor) -> Tensor:
        """Slots (M,) of the sequences for every row of the network: (R, 1, W, 1)."""
        slots = self.concat((slots, slots)) if self.guided else slots
        return slots.reshape((-1, 1, self.window, 1))

    def forward(self, slots: Tensor, seen: Tensor, guidance: Tensor) -> Tensor:
        """Run the tokens at slots (M,), seen (R, 1, W, S) bool: logits (M, V) for what follows."""
        token = self.gather_nd(self.tokens, self.places(slots))
        bias = self.select(seen, self.padding, self.masked)
        return self.run(token, self.rows_of(slots).reshape((-1,)), bias, guidance)


class WindowDecoder(Decoder):
    """A Decoder whose `tokens` (N, n) are final in the first `counts` (N,) of each row only."""

    scratch = 0  # slots at the end of the cache that belong to no token

    def __init__(self, store: StepStore, request: "Request", window: int) -> None:
        super().__init__(store, request, window)
        self.tokens = request.forced.astype(np.int32)

    def _enter(self, slots: int) -> None:
        super()._enter(slots)
        self._write(self.current.step.tokens, self.tokens)

    def _read(self, count: int | None = None) -> None:
        known = min(self.count, self.kind.slots - self.prompt_slots - self.scratch)
        written = self.current.step.tokens.asnumpy()
        self.tokens[:, :known] = written[self.prompt_slots : self.prompt_slots + known].T
