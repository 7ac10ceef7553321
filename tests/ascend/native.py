"""Native collectives of Ascend as documented, made of AllReduce, under `train.measure.parity`.

`python -m train.launch -n 2 tests.ascend.native`
"""

import os
import sys
from types import SimpleNamespace

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.communication import get_group_size, get_rank

from emu3.parallel import collectives
from tests.ascend.doubles import require
from train.measure import parity


class Native:
    """What the doubles share: everybody's tensors (members, ...), by a sum with zeros."""

    def __init__(self, group: str) -> None:
        self.size, self.index = get_group_size(group), get_rank(group)
        self.sum = ops.AllReduce(ops.ReduceOp.SUM, group)
        self.own = np.zeros(self.size, np.float32)
        self.own[self.index] = 1

    def everyone(self, x: Tensor) -> Tensor:
        shape = (self.size,) + (1,) * x.ndim
        return self.sum(Tensor(self.own.reshape(shape)).astype(x.dtype) * x.expand_dims(0))


class AllGather(Native):
    """ops.AllGather(group): (n, ...) -> (members * n, ...)."""

    def __call__(self, x: Tensor) -> Tensor:
        return self.everyone(x).reshape((-1, *x.shape[1:]))


class ReduceScatter(Native):
    """ops.ReduceScatter(op, group): (members * n, ...) -> n rows of the sum."""

    def __init__(self, op: str, group: str) -> None:
        super().__init__(group)
        require(op == ops.ReduceOp.SUM, "ReduceScatter: a sum")

    def __call__(self, x: Tensor) -> Tensor:
        require(x.shape[0] % self.size == 0, "ReduceScatter: rows do not divide")
        return self.sum(x).reshape((self.size, -1, *x.shape[1:]))[self.index]


class AlltoAll(Native):
    """ops.AlltoAll(split_count, split_dim, concat_dim, group), shown in float32 on four axes."""

    def __init__(self, split_count: int, split_dim: int, concat_dim: int, group: str) -> None:
        super().__init__(group)
        require(split_count == self.size, "AlltoAll: a block for each member")
        self.split_dim, self.concat_dim = split_dim, concat_dim

    def __call__(self, x: Tensor) -> Tensor:
        require(x.dtype == ms.float32 and x.ndim == 4, "AlltoAll: float32, four axes")
        require(x.shape[self.split_dim] % self.size == 0, "AlltoAll: the axis does not divide")
        step = x.shape[self.split_dim] // self.size
        everyone = self.everyone(x)
        mine = [ops.split(everyone[j], step, self.split_dim)[self.index] for j in range(self.size)]
        return ops.concat(mine, self.concat_dim)


if __name__ == "__main__":
    collectives.runtime = SimpleNamespace(on_ascend=lambda: True)
    ops.AllGather, ops.ReduceScatter, ops.AlltoAll = AllGather, ReduceScatter, AlltoAll
    code = parity.main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as parity itself ends
