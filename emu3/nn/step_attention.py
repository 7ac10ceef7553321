"""What a decoding step does between its products, as one kernel of ours on CPU."""

from mindspore import ops

from emu3.nn.kernels.operators import on_cpu, operator


@on_cpu
def step_attention() -> ops.Custom | None:
    """Turn queries and keys, fill the cache, attend: emu3/nn/kernels/step_attention.cpp.

    x (R*W, (H+2G)*D), cos and sin (R*W, 1, D), bias (R, 1, W, S), places (R*W*G,), keys and values
    (R*G*S, D), which it writes -> (R*W, H*D); all float32 but places.
    """

    def shape(x, cos, sin, bias, places, keys, values):
        groups = keys[0] // bias[0] // bias[3]
        return (x[0], x[1] - 2 * groups * keys[1])

    return operator("step_attention", shape, lambda x, *_: x)
