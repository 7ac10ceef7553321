"""The step that trains emu3-mini: wanted tokens as probabilities, one compiled graph.

Shapes: B rows of T tokens, N labels of K candidates each.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops

from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.nn.log_sum_exp import shifted_exp
from train.mini.muon import Muon
from train.tuning.step import PackedRows

# Share of the loss that only asks whether a token may come at all, not how likely each is.
POSSIBLE = 0.7
# A wanted probability below this is what rounding left of zero.
NEVER = 1e-6


class Loss(PackedRows):
    """Mean loss against wanted probabilities; only the labels' places reach the head.

    Cross-entropy H(wanted, p), and -log of p's mass on the tokens that are wanted at all: a picture
    is wrong when a token comes that may not, whatever the chances of those that may.
    """

    def construct(
        self,
        ids: Tensor,
        positions: Tensor,
        branches: Tensor,
        places: Tensor,
        labels: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """The inputs of `hidden_at`, the first four arrays of `train.data.samples.Batch` -> scalar.

        `labels` (N, K) are candidates for each label, all IGNORED_LABEL where it is unused, and
        `weights` (N, K) their wanted probabilities; above zero once for each token.
        """
        hidden = self.hidden_at(ids, positions, branches, places)
        logits, _, sums = shifted_exp(self.model.lm_head(hidden).astype(ms.float32))
        counted = (labels != IGNORED_LABEL).astype(ms.float32)
        wanted = ops.gather_elements(logits, 1, ops.maximum(labels, 0))
        normaliser = ops.log(sums)
        likely = ((normaliser[:, None] - wanted) * weights).sum(-1)
        mass = (ops.exp(wanted) * (weights > NEVER).astype(ms.float32)).sum(-1)
        possible = normaliser - ops.log(mass + NEVER**4)
        losses = (1 - POSSIBLE) * likely + POSSIBLE * possible
        return (losses * counted[:, 0]).sum() / ops.maximum(counted[:, 0].sum(), 1.0)


class TrainStep(nn.Cell):
    """Forward, backward and update in one compiled graph per batch shape."""

    def __init__(self, loss: Loss, weight_decay: float) -> None:
        super().__init__()
        self.loss = loss
        self.parameters = ms.ParameterTuple(loss.trainable_params())
        trained = list(self.parameters)
        self.optimizer = Muon(trained, is_hidden_matrix, weight_decay=weight_decay)
        self.gradient = ops.GradOperation(get_by_list=True)

    def construct(self, ids, positions, branches, places, labels, weights, lr):
        """One step; returns loss and gradient norm."""
        inputs = (ids, positions, branches, places, labels, weights)
        loss = self.loss(*inputs)
        grads = self.gradient(self.loss, self.parameters)(*inputs)
        return loss, self.optimizer(grads, lr)


def is_hidden_matrix(parameter: ms.Parameter) -> bool:
    """Whether it is a matrix of a decoder layer, which `train.mini.muon` is for."""
    return ".layers." in parameter.name and parameter.ndim == 2
