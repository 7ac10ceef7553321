"""AdamW with clipping by the global norm as a cell that can stand inside a compiled step."""

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from train.tuning.adam import adamw, kernel_epsilon

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


def clipping(grads: tuple[Tensor, ...], max_norm: float) -> tuple[Tensor, Tensor]:
    """The global norm of gradients, and the factor that brings it down to `max_norm`."""
    norm = ops.sqrt(ops.addn(ops.HyperMap()(_square_sum, grads)))
    return norm, max_norm / ops.maximum(norm, Tensor(max_norm, ms.float32))


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
        self.beta1, self.beta2, self.eps, self.max_norm = *betas, eps, max_norm
        self.decays = tuple(weight_decay if p.ndim >= 2 else 0.0 for p in parameters)
        self.power1 = Parameter(Tensor(1.0, ms.float32), name="beta1_power")
        self.power2 = Parameter(Tensor(1.0, ms.float32), name="beta2_power")
        self.adam = ops.Adam()
        self.hyper_map = ops.HyperMap()

    def construct(self, grads: tuple[Tensor, ...], lr: Tensor) -> Tensor:
        """Update the weights in place; returns the gradients' global norm before clipping."""
        norm, scale = clipping(grads, self.max_norm)
        self.step(grads, scale, lr)
        return norm

    def step(self, grads: tuple[Tensor, ...], scale: Tensor, lr: Tensor) -> tuple[Tensor, ...]:
        """Update the weights in place with gradients times `scale`."""
        power1, power2 = self.power1 * self.beta1, self.power2 * self.beta2
        ops.assign(self.power1, power1)
        ops.assign(self.power2, power2)
        eps = kernel_epsilon(self.eps, power2)
        one = ops.partial(
            _update, self.adam, scale, power1, power2, self.beta1, self.beta2, eps, lr
        )
        return self.hyper_map(one, self.decays, self.weights, self.exp_avg, self.exp_avg_sq, grads)
