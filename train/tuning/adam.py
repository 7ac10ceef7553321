"""AdamW (Loshchilov & Hutter 2019): a kernel of ours, or MindSpore's fused `ops.Adam`.

A step's terms are a plain tuple, (beta1's power, beta2's power, beta1, beta2, epsilon) as the
kernel takes them: strict graph mode knows no named one.
"""

from mindspore import Parameter, Tensor, ops

from emu3.nn.kernels.operators import on_cpu, operator


def kernel_epsilon(eps: float, power2: Tensor) -> Tensor:
    """What the kernel takes for AdamW's epsilon in a step whose beta2 stands at `power2`."""
    # It adds epsilon to the root of the uncorrected second moment.
    return eps * ops.sqrt(1 - power2)


def adamw(
    adam: ops.Adam,
    weight: Parameter,
    exp_avg: Parameter,
    exp_avg_sq: Parameter,
    terms: tuple,
    lr: Tensor,
    decay: float,
    grad: Tensor,
) -> Tensor:
    """Update the first three in place; returns a token that what comes later can depend on."""
    power1, power2, beta1, beta2, eps = terms
    # Decay first: the kernel then works on the shrunken weight, as AdamW asks.
    kept = ops.assign(weight, weight * (1 - lr * decay))
    grad = ops.depend(grad, kept)
    return adam(weight, exp_avg, exp_avg_sq, power1, power2, lr, beta1, beta2, eps, grad)[0]


@on_cpu
def kernel() -> ops.Custom | None:
    """AdamW on one float32 vector in place, and on the parameters that it holds.

    Takes weight, moments, gradient, (clip, lr, beta1's power, beta2's power, decay, beta1, beta2,
    epsilon) as one tensor, and the parameters; returns (1,), for what comes later to depend on.
    """
    return operator("adamw", lambda *_: (1,), lambda weight, *_: weight)


@on_cpu
def kernel_of_many() -> ops.Custom | None:
    """AdamW on k float32 parameters in place, in one call.

    Takes the numbers of `kernel`, of which decay does not count, decays (k,), and k each of
    weights, moments and gradients; returns (1,), for what comes later to depend on.
    """
    return operator("adamw_of_many", lambda *_: (1,), lambda terms, *_: terms)


@on_cpu
def sum_of_squares() -> ops.Custom | None:
    """float32 tensors -> (1,)."""
    return operator("sum_of_squares", lambda *_: (1,), lambda first, *_: first)
