"""A decoding step on CPU: our kernels for what is between its products with stored weights, for a
whole layer of few rows, and for seeing whether weights have moved.

Shapes: R rows, W places of each, C hidden width, H query heads, G key/value heads, D head width,
S slots. All are float32 but places, stored weights, and a cache of the form "bfloat16".
"""

import mindspore as ms
from mindspore import ops

from emu3.nn.kernels.operators import on_cpu, operator


@on_cpu
def step_attention(cache: str) -> ops.Custom | None:
    """Turn queries and keys, fill the cache, attend: emu3/nn/kernels/step_attention.h.

    x (R*W, (H+2G)*D), cos and sin (R*W, 1, D), bias (R, 1, W, S), places (R*W*G,), keys and values
    (R*G*S, D) in the form `cache`, which it writes -> (R*W, H*D).
    """

    def shape(x, cos, sin, bias, places, keys, values):
        groups = keys[0] // bias[0] // bias[3]
        return (x[0], x[1] - 2 * groups * keys[1])

    return operator(f"step_attention_{cache}", shape, lambda x, *_: x)


@on_cpu
def step_layer(form: str, cache: str) -> ops.Custom | None:
    """A layer with matrices of `form`, bfloat16 or int8: emu3/nn/kernels/step_layer.cpp.

    x (R*W, C), then as `step_attention` from cos to values, the weights (C,) of its two norms and
    their eps (1,), the matrices q, k, v, o, gate, up, down, of int8 their scales -> (R*W, C).
    """
    return operator(f"step_layer_{form}_{cache}", lambda x, *_: x, lambda x, *_: x)


@on_cpu
def marks_kernel() -> ops.Custom | None:
    """Tensors -> (4,) int32 that changes with any bit of them, on CPU where it can be compiled."""
    return operator("marks", lambda *_: (4,), lambda *_: ms.int32)


@on_cpu
def fill_kernel() -> ops.Custom | None:
    """keys and values (R, G, T, D), caches (R*G*S, D) of S >= T slots, which it writes -> (1,)."""
    return operator("fill_cache", lambda *_: (1,), lambda keys, *_: keys)
