"""Collectives as cells with gradients: native on Ascend, composed of AllReduce on CPU.

On CPU only a sum over a group exists for every group, so the others are built from it; a value is
gathered by adding what each process holds at its own place and zeros elsewhere, which is exact.
The Ascend arm stands beside the CPU arm in each cell; it has not been run.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from emu3 import runtime
from emu3.parallel.mesh import Group


class Sum(nn.Cell):
    """x -> the sum of every member's x, the same for all. Not for use under a gradient."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.alone = group.size == 1
        self.all_reduce = None if self.alone else ops.AllReduce(ops.ReduceOp.SUM, group.name)

    def construct(self, x: Tensor) -> Tensor:
        return x if self.alone else self.all_reduce(x)


class Stack(nn.Cell):
    """x (...) -> (members, ...) in rank order. Not for use under a gradient."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.size, self.native = group.size, runtime.on_ascend()
        self.sum = Sum(group)
        own = np.zeros(group.size, np.float32)
        own[group.index] = 1
        self.own = Tensor(own)
        if self.native and group.size > 1:
            self.all_gather = ops.AllGather(group.name)

    def construct(self, x: Tensor) -> Tensor:
        if self.size == 1:
            return x.expand_dims(0)
        if self.native:
            return self.all_gather(x.expand_dims(0))
        own = self.own.reshape((self.size,) + (1,) * x.ndim).astype(x.dtype)
        return self.sum(own * x.expand_dims(0))


class SumScatter(nn.Cell):
    """x (members * n, ...) -> this member's n rows of the sum. Not for use under a gradient."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.size, self.index, self.native = group.size, group.index, runtime.on_ascend()
        self.sum = Sum(group)
        if self.native and group.size > 1:
            self.reduce_scatter = ops.ReduceScatter(ops.ReduceOp.SUM, group.name)

    def construct(self, x: Tensor) -> Tensor:
        if self.size == 1:
            return x
        if self.native:
            return self.reduce_scatter(x)
        rows = x.shape[0] // self.size
        return self.sum(x)[self.index * rows : (self.index + 1) * rows]


class Gather(nn.Cell):
    """x (n, ...) of each member -> (members * n, ...); its gradient is summed and scattered."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.stack, self.scatter = Stack(group), SumScatter(group)

    def construct(self, x: Tensor) -> Tensor:
        return self.stack(x).reshape((-1, *x.shape[1:]))

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Every member used all of `out`: the gradients of one's own rows add up."""
        return (self.scatter(dout),)


class AllToAll(nn.Cell):
    """Trade a split of axis `scatter` for a whole axis `gather`.

    x with axis `gather` split over the members -> axis `gather` whole, axis `scatter` split, in
    rank order. Its own inverse with the axes exchanged, which is also its gradient.
    """

    def __init__(self, group: Group, scatter: int, gather: int) -> None:
        super().__init__()
        self.there = _Exchange(group, scatter, gather)
        self.back = _Exchange(group, gather, scatter)

    def construct(self, x: Tensor) -> Tensor:
        return self.there(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """The same exchange backwards."""
        return (self.back(dout),)


class _Exchange(nn.Cell):
    """x split along `scatter` into a block per member -> their blocks for us, along `gather`.

    On CPU each member sums blocks for the others only: N (N - 1) of them, of which it adds its own.
    """

    def __init__(self, group: Group, scatter: int, gather: int) -> None:
        super().__init__()
        self.size, self.me, self.axis, self.target = group.size, group.index, scatter, gather
        self.native = runtime.on_ascend()
        self.sum = Sum(group)
        # Member j lists blocks for the others; at this place of its list stands the one for us.
        self.places = [group.index - (group.index > j) for j in range(group.size)]
        if self.native and group.size > 1:
            self.all_to_all = ops.AlltoAll(group.size, scatter, gather, group.name)

    def construct(self, x: Tensor) -> Tensor:
        if self.size == 1:
            return x
        if self.native:
            return self._native(x)
        n, me = self.size, self.me
        blocks = ops.split(x, x.shape[self.axis] // n, self.axis)
        sent = ops.concat(blocks[:me] + blocks[me + 1 :])
        nothing = (ops.zeros_like(sent),)
        everyone = self.sum(ops.concat(nothing * me + (sent,) + nothing * (n - 1 - me)))
        lists = ops.split(everyone, x.shape[0])
        mine = [blocks[me] if j == me else lists[j * (n - 1) + self.places[j]] for j in range(n)]
        return ops.concat(mine, self.target)

    def _native(self, x: Tensor) -> Tensor:
        """In float32 and on four axes: nobody has shown AlltoAll otherwise on Ascend."""
        wide = x.astype(ms.float32)
        if x.ndim == 3:
            return self.all_to_all(wide.expand_dims(3)).astype(x.dtype)[..., 0]
        return self.all_to_all(wide).astype(x.dtype)
