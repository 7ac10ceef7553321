"""Products whose factors are rounded to bfloat16, for training on CPU: sums stay float32.

Where the processor multiplies two such pairs at a time (AVX512_BF16) or squares of them (AMX), they
take less time (docs/performance.md, docs/making_mini.md); elsewhere they are as fast as float32's.
"""

from typing import NamedTuple

from mindspore import nn, ops

from emu3.errors import InputError
from emu3.nn.kernels.operators import on_cpu, operator


class Products(NamedTuple):
    """The three of a layer: `nt` of x (M, K) and weight (N, K), `nn` and `tn` of its slopes."""

    nt: ops.Custom
    nn: ops.Custom
    tn: ops.Custom


@on_cpu
def short_products() -> Products | None:
    """Ours for float32 on CPU, where they can be compiled; `nt` has slopes.

    nt (M, K), (N, K); nn (M, K), (K, N); tn (K, M), (K, N) -> (M, N).
    """
    plain = operator("short_nn", lambda a, b: (a[0], b[1]), lambda a, _: a)
    turned = operator("short_tn", lambda a, b: (a[1], b[1]), lambda a, _: a)

    def bprop(x, weight, out, dout):
        return plain(dout, weight), turned(dout, x)

    layer = operator("short_nt", lambda a, b: (a[0], b[0]), lambda a, _: a, bprop)
    return None if layer is None else Products(layer, plain, turned)


def use_products(net: nn.Cell, products: str) -> None:
    """Let all of a network's layers and losses make their products in training so.

    Raises:
        InputError: "bfloat16" where kernels cannot be compiled, or off the CPU.
    """
    if products == "float32":
        return
    kernels = short_products()
    if kernels is None:
        raise InputError(
            "--products bfloat16: allowed on CPU with a C++ compiler; change it to float32"
        )
    for _, cell in net.cells_and_names():
        if hasattr(cell, "take_products"):
            cell.take_products(kernels)
