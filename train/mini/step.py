"""The step that trains emu3-mini's language model, one compiled graph.

Shapes: B rows of T tokens, N labels.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops

from emu3.mllm import Emu3ForCausalLM
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from train.mini.muon import Muon
from train.tuning.step import SummedLoss


class MeanLoss(nn.Cell):
    """Mean cross-entropy of a batch's labels; only their places reach the head."""

    def __init__(self, model: Emu3ForCausalLM, length: int) -> None:
        super().__init__()
        self.summed = SummedLoss(model, length)

    def construct(
        self, ids: Tensor, positions: Tensor, branches: Tensor, places: Tensor, labels: Tensor
    ) -> Tensor:
        """The first five arrays of `train.data.samples.Batch` -> () float32."""
        count = (labels != IGNORED_LABEL).astype(ms.float32).sum()
        return self.summed(ids, positions, branches, places, labels) / ops.maximum(count, 1.0)


class TrainStep(nn.Cell):
    """Forward, backward and update in one compiled graph per batch shape."""

    def __init__(self, loss: MeanLoss, weight_decay: float) -> None:
        super().__init__()
        self.loss = loss
        self.parameters = ms.ParameterTuple(loss.trainable_params())
        trained = list(self.parameters)
        self.optimizer = Muon(trained, is_hidden_matrix, weight_decay=weight_decay)
        self.gradient = ops.GradOperation(get_by_list=True)

    def construct(self, ids, positions, branches, places, labels, lr):
        """One step; returns loss and gradient norm."""
        inputs = (ids, positions, branches, places, labels)
        loss = self.loss(*inputs)
        grads = self.gradient(self.loss, self.parameters)(*inputs)
        return loss, self.optimizer(grads, lr)


def is_hidden_matrix(parameter: ms.Parameter) -> bool:
    """Whether it is a matrix of a decoder layer, which `train.mini.muon` is for."""
    return ".layers." in parameter.name and parameter.ndim == 2
