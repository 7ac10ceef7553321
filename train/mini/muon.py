"""Muon: steepest descent under the spectral norm for hidden matrices, AdamW for the rest.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the size of its updates is that of AdamW's,
as in Liu et al. 2025, arXiv 2502.16982, section 2.2, so that one learning rate serves both.
"""

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from emu3.nn.kernels.operators import on_cpu, operator
from train.mini.adamw import AdamW, Clipping

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic of Jordan et al.
NEWTON_SCHULZ_STEPS = 5
ADAMW_RMS = 0.2

_update = ops.MultitypeFuncGraph("muon_update")


def orthogonal(update: Tensor) -> Tensor:
    """(m, n) -> nearly U V^T of its singular value decomposition U S V^T."""
    matmul_transpose_b, matmul = ops.MatMul(transpose_b=True), ops.MatMul()
    a, b, c = NEWTON_SCHULZ
    wide = update.shape[0] <= update.shape[1]
    x = update if wide else update.transpose((1, 0))
    x = x / (ops.sqrt((x * x).sum()) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = matmul_transpose_b(x, x)
        x = a * x + matmul(b * gram + c * matmul_transpose_b(gram, gram), x)
    return x if wide else x.transpose((1, 0))


@_update.register("Tensor", "Tensor", "Number", "Number", "Tensor", "Tensor", "Tensor")
def _update_one(scale, lr, momentum, decay, weight, buffer, grad):
    moved = momentum * buffer + grad * scale
    size = ADAMW_RMS * max(weight.shape) ** 0.5
    new = weight * (1 - lr * decay) - lr * size * orthogonal(momentum * moved + grad * scale)
    return ops.depend(ops.assign(weight, new), ops.assign(buffer, moved))


class Muon(nn.Cell):
    """Muon with Nesterov momentum as a cell; state is float32 Parameters.

    Args:
        parameters: what to train.
        hidden: which of them Muon trains (matrices that map activations to activations); AdamW
            trains the others.
        ratio: Muon's learning rate as a multiple of AdamW's.
        momentum: of the gradients of `hidden`.
        weight_decay: decoupled decay, per unit of AdamW's learning rate, for tensors of rank >= 2.
        max_norm: gradients are scaled down to this global norm.
    """

    def __init__(
        self,
        parameters: list[Parameter],
        hidden: Callable[[Parameter], bool],
        ratio: float = 3.0,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        max_norm: float = 1.0,
    ) -> None:
        super().__init__()
        self.hidden_at = tuple(i for i, p in enumerate(parameters) if hidden(p))
        self.rest_at = tuple(i for i, p in enumerate(parameters) if not hidden(p))
        self.weights = ParameterTuple([parameters[i] for i in self.hidden_at])
        self.buffers = self.weights.clone("momentum", init="zeros")
        others = [parameters[i] for i in self.rest_at]
        self.adamw = AdamW(others, weight_decay=weight_decay)
        self.ratio, self.momentum = ratio, momentum
        self.steadily = Tensor(momentum, ms.float32)
        self.decay, self.clipping = weight_decay / ratio, Clipping(max_norm)
        self.hyper_map = ops.HyperMap()
        self.kernel = kernel_of_many()
        self.fixed = Tensor(np.array([ADAMW_RMS, *NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS], np.float32))

    def construct(self, grads: tuple[Tensor, ...], lr: Tensor) -> Tensor:
        """Update the weights in place; returns the gradients' global norm before clipping."""
        norm, scale = self.clipping(grads)
        hidden = tuple([grads[i] for i in self.hidden_at])
        rest = tuple([grads[i] for i in self.rest_at])
        moved = self._moved(hidden, scale, lr * self.ratio)
        return ops.depend(norm, (moved, self.adamw.step(rest, scale, lr)))

    def _moved(self, grads: tuple[Tensor, ...], scale: Tensor, lr: Tensor) -> object:
        if self.kernel is not None:
            kept = 1 - lr * self.decay
            moving = [x.reshape((1,)) for x in (scale, lr, self.steadily, kept)]
            numbers = ops.concat((*moving, self.fixed))
            return self.kernel(numbers, *self.weights, *self.buffers, *grads)
        one = ops.partial(_update, scale, lr, self.momentum, self.decay)
        return self.hyper_map(one, self.weights, self.buffers, grads)


@on_cpu
def kernel_of_many() -> ops.Custom | None:
    """Muon on k float32 matrices in place, in one call; its products are of bfloat16.

    Takes (clip, learning rate, momentum, what is kept of weights, ADAMW_RMS, NEWTON_SCHULZ and
    its steps) as one tensor, and k each of weights, buffers and gradients; returns (1,).
    """
    return operator("muon_of_many", lambda *_: (1,), lambda terms, *_: terms)
