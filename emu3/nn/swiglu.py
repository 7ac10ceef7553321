"""SwiGLU's product of two halves (Shazeer 2020), in one pass over memory where it can be."""

import mindspore as ms
from mindspore import Tensor, nn, ops

from emu3.nn.kernels.operators import on_cpu, operator


class SwiGLU(nn.Cell):
    """gate (..., I), up (..., I) -> silu(gate) * up."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = kernel()

    def construct(self, gate: Tensor, up: Tensor) -> Tensor:
        if self.kernel is None or gate.dtype != ms.float32:
            return ops.silu(gate) * up
        return self.kernel(gate, up)


@on_cpu
def kernel() -> ops.Custom | None:
    """Ours for float32 on CPU, where it can be compiled."""
    slopes = operator("swiglu_grad", lambda gate, up, _: (gate, up), lambda gate, up, _: (gate, up))

    def bprop(gate, up, out, dout):
        return slopes(gate, up, dout)

    return operator("swiglu", lambda gate, _: gate, lambda gate, _: gate, bprop)


@on_cpu
def gated_kernel() -> ops.Custom | None:
    """x (M, K), gate and up (N, K) -> silu(x gate^T) * (x up^T) (M, N), digit for digit what the
    kernels of the products and of `SwiGLU` make. Its slopes make the products again."""
    matmul, turned = ops.MatMul(), ops.MatMul(transpose_a=True)
    product = ops.MatMul(transpose_b=True)
    slopes = operator("swiglu_grad", lambda gate, up, _: (gate, up), lambda gate, up, _: (gate, up))

    def bprop(x, gate, up, out, dout):
        by_gate, by_up = slopes(product(x, gate), product(x, up), dout)
        by_x = matmul(by_gate, gate) + matmul(by_up, up)
        return by_x, turned(by_gate, x), turned(by_up, x)

    return operator("gated_matmul", lambda x, gate, _: (x[0], gate[0]), lambda x, *_: x, bprop)
