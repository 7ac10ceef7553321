"""AdamW with clipping by the global norm as a cell that can stand inside a compiled step."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from train.tuning.adam import adamw, kernel_epsilon, kernel_of_many, sum_of_squares

_square_sum = ops.MultitypeFuncGraph("square_sum")
_update = ops.MultitypeFuncGraph("adamw_update")


@_square_sum.register("Tensor")
def _square_sum_of(grad):
    return (grad * grad).sum()


@_update.register(
    "Function", *["Tensor"] * 3, *["Number"] * 2, *["Tensor"] * 2, "Number", *["Tensor"] * 4
)
def _update_one(adam, scale, power1, power2, beta1, beta2, eps, lr, decay, weight, m, v, grad):
    terms = (power1, power2, beta1, beta2, eps)
    return adamw(adam, weight, m, v, terms, lr, decay, grad * scale)


class Clipping(nn.Cell):
    """Gradients -> their global norm, and the factor that brings it down to `max_norm`."""

    def __init__(self, max_norm: float) -> None:
        super().__init__()
        self.max_norm, self.kernel = max_norm, sum_of_squares()
        self.hyper_map = ops.HyperMap()

    def construct(self, grads: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        if self.kernel is None:
            norm = ops.sqrt(ops.addn(self.hyper_map(_square_sum, grads)))
        else:
            norm = ops.sqrt(self.kernel(*grads))[0]
        return norm, self.max_norm / ops.maximum(norm, Tensor(self.max_norm, ms.float32))


class AdamW(nn.Cell):
    """AdamW (Loshchilov & Hutter 2019) as a cell; state is float32 Parameters.

    Args:
        parameters: what to train.
        betas, eps: as in Adam.
        weight_decay: decoupled decay, per unit of learning rate, for tensors of rank >= 2 only.
        max_norm: gradients are scaled down to this global norm.
    """

    def __init__(
        self,
        parameters: list[Parameter],
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_norm: float = 1.0,
    ) -> None:
        super().__init__()
        self.weights = ParameterTuple(parameters)
        self.exp_avg = self.weights.clone("exp_avg", init="zeros")
        self.exp_avg_sq = self.weights.clone("exp_avg_sq", init="zeros")
        self.beta1, self.beta2, self.eps = *betas, eps
        self.clipping = Clipping(max_norm)
        self.decays = tuple(weight_decay if p.ndim >= 2 else 0.0 for p in parameters)
        self.power1 = Parameter(Tensor(1.0, ms.float32), name="beta1_power")
        self.power2 = Parameter(Tensor(1.0, ms.float32), name="beta2_power")
        self.kernel = kernel_of_many()
        self.fixed = Tensor(np.array([0.0, *betas, eps], np.float32))
        self.each_decay = Tensor(np.array(self.decays, np.float32))
        self.adam = ops.Adam()
        self.hyper_map = ops.HyperMap()

    def construct(self, grads: tuple[Tensor, ...], lr: Tensor) -> Tensor:
        """Update the weights in place; returns the gradients' global norm before clipping."""
        norm, scale = self.clipping(grads)
        return ops.depend(norm, self.step(grads, scale, lr))

    def step(self, grads: tuple[Tensor, ...], scale: Tensor, lr: Tensor) -> object:
        """Update the weights in place with gradients times `scale`; returns what tells the end."""
        power1, power2 = self.power1 * self.beta1, self.power2 * self.beta2
        ops.assign(self.power1, power1)
        ops.assign(self.power2, power2)
        if self.kernel is not None:
            moving = [x.reshape((1,)) for x in (scale, lr, power1, power2)]
            numbers = ops.concat((*moving, self.fixed))
            state = (*self.weights, *self.exp_avg, *self.exp_avg_sq)
            return self.kernel(numbers, self.each_decay, *state, *grads)
        eps = kernel_epsilon(self.eps, power2)
        one = ops.partial(
            _update, self.adam, scale, power1, power2, self.beta1, self.beta2, eps, lr
        )
        return self.hyper_map(one, self.decays, self.weights, self.exp_avg, self.exp_avg_sq, grads)
