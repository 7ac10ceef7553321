"""Where gradients, optimizer state and weights live among processes.

The stages of ZeRO (Rajbhandari et al. 2020):

| stage | gradients      | optimizer state | weights                                |
|-------|----------------|-----------------|----------------------------------------|
| 0     | summed         | whole           | whole                                  |
| 1     | summed         | a share         | whole                                  |
| 2     | a share summed | a share         | whole                                  |
| 3     | a share summed | a share         | matrices a share, gathered where used  |

A unit is what travels together: the matrices of a layer, or all vectors, as one flat float32
vector, cut into equal shares for the processes. Its master copy and moments are float32
whatever dtype the model computes in. Matrices A (2 x 3) and B (2 x 2) among 3 processes, one of
padding (.) at the end:

    flat      a a a a a a b b b b . .
    process   0 0 0 0 1 1 1 1 2 2 2 2
"""

import math
import re

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from emu3.arrays import as_numpy
from emu3.nn.linear import Embedding, Linear
from emu3.parallel.collectives import Gather, Stack, Sum, SumScatter
from emu3.parallel.mesh import Group
from train.tuning.adam import adamw, kernel


class WholeWeight(nn.Cell):
    """A process's share of a weight (n,) -> the weight in its shape; the gradient is a share."""

    def __init__(self, shape: tuple[int, ...], group: Group) -> None:
        super().__init__()
        self.shape, self.size = shape, math.prod(shape)
        self.gather = Gather(group)

    def construct(self, share: Tensor) -> Tensor:
        return self.gather(share)[: self.size].reshape(self.shape)


def share_of(values: np.ndarray, group: Group) -> np.ndarray:
    """This process's equal share of `values`, flat and padded with zeros."""
    flat = values.reshape(-1)
    rows = -(-flat.size // group.size)
    flat = np.pad(flat, (0, rows * group.size - flat.size))
    return flat[group.index * rows : (group.index + 1) * rows]


def share_weights(model: nn.Cell, group: Group) -> None:
    """Keep of every trainable matrix that a `gather` can restore only this process's share."""
    for _, cell in model.cells_and_names():
        if not isinstance(cell, Linear | Embedding) or not cell.weight.requires_grad:
            continue
        weight = cell.weight
        cell.gather = WholeWeight(tuple(weight.shape), group)
        share = Tensor(share_of(weight.asnumpy(), group), weight.dtype)
        cell.weight = Parameter(share, name=weight.name)


class Unit(nn.Cell):
    """A few parameters as one flat vector: their gradients, masters and moments.

    Args:
        parameters: what the unit holds, by published name; all of them decayed or none.
        group: the processes.
        stage: of the table above; 3 for a unit of one parameter that is a share already.
        decay: decoupled weight decay per unit of learning rate.
        name: prefix of the state's names.
    """

    def __init__(
        self, parameters: dict[str, Parameter], group: Group, stage: int, decay: float, name: str
    ) -> None:
        super().__init__()
        # A parameter's own name grows with every cell that comes to hold it.
        self.names, parameters = tuple(parameters), list(parameters.values())
        self.parameters = ParameterTuple(parameters)
        self.shapes = tuple(tuple(p.shape) for p in parameters)
        self.sizes = tuple(p.size for p in parameters)
        self.dtypes = tuple(p.dtype for p in parameters)
        self.total, self.decay = sum(self.sizes), decay
        self.shared = stage == 3
        self.split = stage in (1, 2) and group.size > 1
        self.scatter_early = stage == 2 and group.size > 1
        self.padding = -self.total % group.size if self.split else 0
        self.sum, self.scatter, self.stack = Sum(group), SumScatter(group), Stack(group)
        whole = np.concatenate([as_numpy(p).astype(np.float32).reshape(-1) for p in parameters])
        start = share_of(whole, group) if self.split else whole
        self.master = Parameter(Tensor(start), name=f"{name}.master")
        self.exp_avg = Parameter(Tensor(np.zeros_like(start)), name=f"{name}.exp_avg")
        self.exp_avg_sq = Parameter(Tensor(np.zeros_like(start)), name=f"{name}.exp_avg_sq")
        late = self.split and not self.scatter_early
        self.rows = self.total + self.padding if late else start.size
        self.index = group.index
        zeros = Tensor(np.zeros(self.rows, np.float32))
        self.gradient = Parameter(zeros, name=f"{name}.gradient", requires_grad=False)
        self.adam = ops.Adam()
        narrow = self.split or set(self.dtypes) != {ms.float32}
        self.kernel = None if narrow else kernel()

    def collect(self, grads: tuple[Tensor, ...], keep: Tensor) -> Tensor:
        """Add the gradients of a backward pass to `keep` times those collected so far."""
        flat = _flat(grads)
        if self.padding:
            flat = ops.concat((flat, ops.zeros((self.padding,), ms.float32)))
        if self.scatter_early:
            flat = self.scatter(flat)
        return ops.assign(self.gradient, self.gradient * keep + flat)

    def reduce(self, factor: Tensor) -> Tensor:
        """Sum over the processes and multiply; returns the squares' sum (1,) of the own part."""
        gradient = self.gradient * factor
        if not (self.shared or self.scatter_early):
            gradient = self.sum(gradient)
        gradient = ops.depend(gradient, ops.assign(self.gradient, gradient))
        own = self._own(gradient)
        return (own * own).sum().reshape((1,))

    def _own(self, gradient: Tensor) -> Tensor:
        if not self.split or self.scatter_early:
            return gradient
        rows = self.master.shape[0]
        return gradient[self.index * rows : (self.index + 1) * rows]

    def update(self, clip: Tensor, lr: Tensor, terms: tuple, numbers: Tensor) -> Tensor:
        """AdamW on the own part, then the parameters of every process; returns a token.

        `terms` and `numbers` are those of `train.tuning.adam`, for its operator and its kernel.
        """
        if self.kernel is not None:
            state = (self.master, self.exp_avg, self.exp_avg_sq, self.gradient)
            return self.kernel(*state, numbers, *self.parameters)
        gradient = self._own(self.gradient * clip)
        moments = (self.exp_avg, self.exp_avg_sq)
        done = adamw(self.adam, self.master, *moments, terms, lr, self.decay, gradient)
        flat = ops.depend(self.master, done) * 1.0
        if self.split:
            flat = self.stack(flat).reshape((-1,))
        return self.restore(flat)

    def restore(self, flat: Tensor) -> Tensor:
        """Write the flat values (n,) back into the parameters, in their dtypes."""
        start = 0
        for i in range(len(self.parameters)):
            part = flat[start : start + self.sizes[i]].reshape(self.shapes[i])
            flat = ops.depend(flat, ops.assign(self.parameters[i], part.astype(self.dtypes[i])))
            start += self.sizes[i]
        return flat[:1]


def _flat(grads: tuple[Tensor, ...]) -> Tensor:
    parts = ()
    for grad in grads:
        parts += (grad.reshape((-1,)).astype(ms.float32),)
    return parts[0] if len(parts) == 1 else ops.concat(parts)


def make_units(
    model: nn.Cell, group: Group, stage: int, weight_decay: float
) -> tuple[list[Parameter], list[Unit]]:
    """The trainable parameters in the units' order, and the units.

    Stage 3 wants `share_weights` first. Matrices decay, vectors (norms) do not.
    """
    shared = {
        id(cell.weight)
        for _, cell in model.cells_and_names()
        if isinstance(cell, Linear | Embedding) and cell.gather is not None
    }
    groups: dict[str, dict[str, Parameter]] = {}
    for name, parameter in model.parameters_and_names():
        if parameter.requires_grad:
            unit = _unit_name(name, parameter, id(parameter) in shared)
            groups.setdefault(unit, {})[name] = parameter
    units = []
    for name, members in groups.items():
        alone = name.startswith("shared ")
        decay = 0.0 if name == "vectors" else weight_decay
        name = name.removeprefix("shared ")
        unit_stage = 3 if alone else min(stage, 2)
        units.append(Unit(members, group, unit_stage, decay, f"units.{name}"))
    return [p for members in groups.values() for p in members.values()], units


def _unit_name(name: str, parameter: Parameter, shared: bool) -> str:
    if shared:
        return f"shared {name}"
    if parameter.ndim < 2:
        return "vectors"
    layer = re.match(r"(.*layers\.\d+)\.", name)
    return layer[1] if layer else name
