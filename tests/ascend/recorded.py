"""What MindSpore's own compiler makes of a cell: every operator of the graph with its dtypes.

The front end infers shapes and dtypes by the real operators' own rules, bfloat16 included, and
needs no kernels; so Ascend's arms compile here, though they cannot run.
"""

import os
import re
from dataclasses import dataclass

import mindspore as ms
from mindspore import nn
from mindspore._c_expression import dump_func_graph
from mindspore.common.api import _frontend_compile

# %7(name) = PrimFunc_MatMul(%5, %6, ...) and, a line below, : (types of inputs) -> (of outputs)
NODE = re.compile(r"^  %\d+\(.*?\) = ", re.MULTILINE)
NAME = re.compile(r"(?:PrimFunc_)?(\w+)\(")
TYPES = re.compile(r"^      : (.*)$", re.MULTILINE)
TENSOR = re.compile(r"Tensor\[(\w+)\]")
# What is no kernel: bookkeeping of graphs, and shapes that change nothing in memory.
FREE = (
    "Load", "MakeTuple", "TupleGetItem", "UpdateState", "Depend", "Return", "Reshape", "Partial",
    "stop_gradient", "StopGradient",
)  # fmt: skip


@dataclass(frozen=True)
class Operator:
    """One operator of a graph, and the dtype of its first tensor."""

    name: str
    dtype: str


def recorded(method, *arguments) -> list[Operator]:
    """The operators that compiling a cell's method for these arguments makes kernels of."""
    try:
        text = dump_func_graph(_frontend_compile(method)(*arguments).func_graph)
    finally:
        os.environ.pop("MS_DEV_PRECOMPILE_ONLY", None)  # MindSpore leaves it: nothing would run
    found = []
    for node in NODE.split(text)[1:]:
        name = NAME.match(node)[1]
        dtypes = TENSOR.findall(TYPES.search(node)[1])
        if name not in FREE:
            found.append(Operator(name, dtypes[0] if dtypes else ""))
    return found


def in_bfloat16(cell: nn.Cell) -> nn.Cell:
    """The cell with bfloat16 parameters, which a CPU can hold but not compute with."""
    for parameter in cell.get_parameters():
        if parameter.is_floating_point():
            parameter.set_dtype(ms.bfloat16)
    return cell.set_train(False)
