"""One training step in two compiled graphs: collect gradients, then update.

Shapes: B rows, T tokens of a row that this process holds, S tokens of the whole row, N labels.
"""

from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from emu3.mllm import Emu3ForCausalLM
from emu3.mllm.rotary import rope_table
from emu3.nn.masked import MASKED
from emu3.parallel.collectives import Sum
from emu3.parallel.mesh import Mesh
from train.tuning.adam import kernel_epsilon
from train.tuning.loss import HeadLoss, HeadScores
from train.tuning.zero import Unit


def branch_bias(branches: Tensor, causal: Tensor) -> Tensor:
    """Branches (B, S) and who stands before whom (S, S) -> bias (B, 1, S, S) of attention.

    A token sees what stands before it in branch 0 and in its own branch.
    """
    key, query = branches.expand_dims(1), branches.expand_dims(2)
    seen = ops.logical_or(key == 0, ops.logical_and(key == query, key > 0))
    seen = ops.logical_and(seen, causal)
    bias = ops.select(seen, ops.zeros_like(seen * 1.0), ops.full_like(seen * 1.0, MASKED))
    return bias.expand_dims(1)


class PackedRows(nn.Cell):
    """A model on rows of branches; only the places that count are looked at."""

    def __init__(self, model: Emu3ForCausalLM, length: int) -> None:
        super().__init__()
        self.model = model
        cos, sin = rope_table(model.config, length)
        self.cos, self.sin = Tensor(cos), Tensor(sin)
        order = np.arange(length)
        self.causal = Tensor(order[None, :] <= order[:, None])

    def hidden_at(self, ids: Tensor, positions: Tensor, branches: Tensor, places: Tensor) -> Tensor:
        """ids and positions (B, T), branches (B, S), places (N,) -> last hidden states (N, C).

        `branches` as in train.data.samples; `places` are indices b * T + t.
        """
        length = branches.shape[1]
        bias = branch_bias(branches, self.causal[:length, :length])
        embeds = self.model.model.embed_tokens(ids)
        cos, sin = ops.gather(self.cos, positions, 0), ops.gather(self.sin, positions, 0)
        hidden = self.model.model.hidden(embeds, cos, sin, bias)
        return ops.gather(hidden.reshape((-1, hidden.shape[-1])), places, 0)


class SummedLoss(PackedRows):
    """The summed cross-entropy of this process's labels; only their places reach the head."""

    def __init__(self, model: Emu3ForCausalLM, length: int) -> None:
        super().__init__(model, length)
        self.head_loss = HeadLoss()

    def construct(
        self, ids: Tensor, positions: Tensor, branches: Tensor, places: Tensor, labels: Tensor
    ) -> Tensor:
        """The inputs of `hidden_at`, labels (N,) as in train.data.samples -> () float32."""
        hidden = self.hidden_at(ids, positions, branches, places)
        return self.head_loss(hidden, self.model.lm_head.whole(), labels)[0]


class SummedScores(PackedRows):
    """What an evaluation counts of this process's labels."""

    def __init__(self, model: Emu3ForCausalLM, length: int) -> None:
        super().__init__(model, length)
        self.head_scores = HeadScores()

    def construct(
        self, ids: Tensor, positions: Tensor, branches: Tensor, places: Tensor, labels: Tensor
    ) -> Tensor:
        """As `SummedLoss` -> (2,) float32: the summed loss, and labels that were the likeliest."""
        hidden = self.hidden_at(ids, positions, branches, places)
        return self.head_scores(hidden, self.model.lm_head.whole(), labels)


class Collect(nn.Cell):
    """Forward and backward; the gradients of the summed loss are added to the units'."""

    def __init__(
        self, loss: SummedLoss, parameters: list[Parameter], units: list[Unit], mode: str
    ) -> None:
        super().__init__()
        self.loss = loss
        self.parameters = ParameterTuple(parameters)
        self.units = nn.CellList(units)
        self.counts = tuple(len(unit.parameters) for unit in units)
        self.gradient = ops.GradOperation(get_by_list=True, sens_param=True)
        # A graph shares the forward pass of loss and gradient; PyNative would run it twice.
        self.graph = mode == "graph"
        self.value_and_grad = ms.value_and_grad(self._scaled, None, self.parameters, has_aux=True)

    def construct(self, ids, positions, branches, places, labels, keep, scale):
        """Returns the summed loss (); `keep` 0 forgets what was collected before, 1 adds to it.

        Gradients are multiplied by `scale`, so that small ones survive in float16.
        """
        inputs = (ids, positions, branches, places, labels)
        if self.graph:
            loss = self.loss(*inputs)
            grads = self.gradient(self.loss, self.parameters)(*inputs, scale)
        else:
            (_, loss), grads = self.value_and_grad(*inputs, scale)
        start = 0
        for i in range(len(self.counts)):
            unit = self.units[i]
            loss = ops.depend(loss, unit.collect(grads[start : start + self.counts[i]], keep))
            start += self.counts[i]
        return loss

    def _scaled(self, ids, positions, branches, places, labels, scale):
        loss = self.loss(ids, positions, branches, places, labels)
        return loss * scale, loss


class Totals(NamedTuple):
    """What `Reduce` sums over the processes."""

    loss: float
    labels: float
    stop: float

    def tensor(self) -> Tensor:
        """(3,) float32."""
        return Tensor(np.array(self, np.float32))


class Reduce(nn.Cell):
    """What was collected, summed over all processes and divided by their labels."""

    def __init__(self, units: list[Unit], mesh: Mesh) -> None:
        super().__init__()
        self.units = nn.CellList(units)
        self.sum = Sum(mesh.world)
        # A unit that every process holds whole would be counted by each of them.
        self.shares = tuple(1.0 if u.split or u.shared else 1.0 / mesh.world.size for u in units)

    def construct(self, totals: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """totals (3,) is this process's `Totals`, scale the loss's.

        Returns their sums over the processes, and the global norm of the mean loss's gradient.
        """
        totals = self.sum(totals * 1.0)
        factor = 1.0 / (ops.maximum(totals[1], Tensor(1.0, ms.float32)) * scale)
        squares = ops.zeros((1,), ms.float32)
        for i in range(len(self.units)):
            squares = squares + self.shares[i] * self.units[i].reduce(factor)
        return totals, ops.sqrt(self.sum(squares))[0]


class Update(nn.Cell):
    """AdamW on every unit, with gradients clipped by their norm."""

    def __init__(
        self, units: list[Unit], betas: tuple[float, float], eps: float, max_norm: float
    ) -> None:
        super().__init__()
        self.units = nn.CellList(units)
        self.beta1, self.beta2, self.eps, self.max_norm = *betas, eps, max_norm
        fixed = [[unit.decay, *betas, eps] for unit in units]
        self.fixed = Tensor(np.array(fixed, np.float32))
        self.power1 = Parameter(Tensor(1.0, ms.float32), name="beta1_power", requires_grad=False)
        self.power2 = Parameter(Tensor(1.0, ms.float32), name="beta2_power", requires_grad=False)

    def construct(self, norm: Tensor, lr: Tensor) -> Tensor:
        """Gradients as `Reduce` left them; `norm` is what it returned."""
        clip = self.max_norm / ops.maximum(norm, Tensor(self.max_norm, ms.float32))
        power1, power2 = self.power1 * self.beta1, self.power2 * self.beta2
        done = ops.assign(self.power1, power1) + ops.assign(self.power2, power2)
        eps = kernel_epsilon(self.eps, power2)
        terms = (power1, power2, self.beta1, self.beta2, eps)
        moving = ops.concat([x.reshape((1,)) for x in (clip, lr, power1, power2)])
        for i in range(len(self.units)):
            numbers = ops.concat((moving, self.fixed[i]))
            done = ops.depend(done, self.units[i].update(clip, lr, terms, numbers))
        return done
