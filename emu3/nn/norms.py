"""Normalisation layers under their published parameter names, computing in float32.

Shapes: b batch, c channels, t frames, h w rows and columns.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, mint, nn, ops
from mindspore.common.initializer import initializer

from emu3 import runtime
from emu3.nn.conv import repeat_pixels
from emu3.nn.kernels.operators import on_cpu, operator

NUMBERS_AT_ONCE = 2**20  # of a map that is normalised together: 4 MB, which stay in the caches


def swish(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return x * ops.sigmoid(x)


class GroupNorm(nn.Cell):
    """Group normalisation (Wu & He 2018) of (b, c, h, w) with 32 groups, eps 1e-6.

    On CPU a kernel of ours for float32. Where there is none it is written out by hand, which is
    twice as fast as the library's; outside training large maps go a few groups at a time there,
    which is exact: steps in between then never hold a whole map. On Ascend it is the library's, on
    whole maps. With `active` a swish follows. `PlainNorm` and `SpatialNorm` of the vision tokenizer
    call it.
    """

    def __init__(self, channels: int, groups: int = 32, eps: float = 1e-6) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.fused = runtime.on_ascend()
        self.weight = Parameter(initializer("ones", (channels,), ms.float32), name="weight")
        self.bias = Parameter(initializer("zeros", (channels,), ms.float32), name="bias")
        self.plain, self.mapped = plain_kernel(), mapped_kernel()
        settings = [[groups, eps, active] for active in (0, 1)]
        self.settings = [Tensor(np.array(row, np.float32)) for row in settings]

    def normalise(
        self, x: Tensor, scale: Tensor | None, shift: Tensor | None, active: bool
    ) -> Tensor:
        """Normalise `x` (b, c, h, w); same shape and dtype.

        `scale` and `shift` (b, c, h / f, w / f), if given, are enlarged and applied afterwards.
        """
        if self.plain is not None and x.dtype == ms.float32:
            return self._by_kernel(x, scale, shift, self.settings[1 if active else 0])
        b, c, h, w = x.shape
        width = c // self.groups
        step = max(1, NUMBERS_AT_ONCE // (b * width * h * w)) * width
        if step >= c or self.training or self.fused:
            whole = self._piece(x, self.weight, self.bias, scale, shift)
            return swish(whole) if active else whole
        parts = ()
        for i in range(0, c, step):
            stop = min(i + step, c)
            change = (None, None) if scale is None else (scale[:, i:stop], shift[:, i:stop])
            part = self._piece(x[:, i:stop], self.weight[i:stop], self.bias[i:stop], *change)
            parts += (swish(part) if active else part,)
        return ops.concat(parts, 1)

    def _by_kernel(self, x: Tensor, scale: Tensor | None, shift: Tensor | None, settings) -> Tensor:
        weight, bias = ops.cast(self.weight, ms.float32), ops.cast(self.bias, ms.float32)
        if scale is None:
            return self.plain(x, weight, bias, settings)
        return self.mapped(x, weight, bias, settings, scale, shift)

    def _piece(self, x: Tensor, weight: Tensor, bias: Tensor, scale, shift) -> Tensor:
        weight, bias = ops.cast(weight, ms.float32), ops.cast(bias, ms.float32)
        if self.fused:
            normal = ops.group_norm(ops.cast(x, ms.float32), self.groups, weight, bias, self.eps)
        else:
            normal = self._by_hand(x, weight, bias)
        normal = ops.cast(normal, x.dtype)
        if scale is None:
            return normal
        times = x.shape[2] // scale.shape[2]
        return normal * repeat_pixels(scale, times) + repeat_pixels(shift, times)

    def _by_hand(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Normalise some whole groups of `x` (b, c', h, w) in float32."""
        b, c, h, w = x.shape
        width = self.weight.shape[0] // self.groups
        grouped = ops.cast(x, ms.float32).reshape(b * c // width, -1)
        centred = grouped - grouped.mean(-1, keep_dims=True)
        rate = ops.rsqrt((centred * centred).mean(-1) + self.eps)  # (b * groups,)
        factor = (rate.reshape(b, -1, 1) * weight.reshape(1, -1, width)).reshape(b * c, 1)
        normal = centred.reshape(b * c, h * w) * factor + ops.tile(bias, (b,)).reshape(b * c, 1)
        return normal.reshape(b, c, h, w)


@on_cpu
def plain_kernel() -> ops.Custom | None:
    """Ours for float32 on CPU, where it can be compiled; settings: groups, eps, 1 for swish."""
    slopes = operator("group_norm_grad", lambda x, w, b, *_: (x, w, b), lambda x, *_: (x, x, x))

    def bprop(x, weight, bias, settings, out, dout):
        by_x, by_weight, by_bias = slopes(x, weight, bias, settings, dout)
        return by_x, by_weight, by_bias, ops.zeros_like(settings)

    return operator("group_norm", lambda x, *_: x, lambda x, *_: x, bprop)


@on_cpu
def mapped_kernel() -> ops.Custom | None:
    """`plain_kernel` with maps of scale and shift, under a name of its own.

    In one graph kernels of one name would share their slopes.
    """
    slopes = operator(
        "mapped_norm_grad", lambda x, w, b, _, s, t, d: (x, w, b, s, t), lambda x, *_: (x,) * 5
    )

    def bprop(x, weight, bias, settings, scale, shift, out, dout):
        by_x, by_weight, by_bias, by_scale, by_shift = slopes(
            x, weight, bias, settings, scale, shift, dout
        )
        return by_x, by_weight, by_bias, ops.zeros_like(settings), by_scale, by_shift

    return operator("mapped_norm", lambda x, *_: x, lambda x, *_: x, bprop)


class BatchNorm3d(mint.nn.BatchNorm3d):
    """Batch normalisation of (b, c, t, h, w) that also runs where mint has no kernel.

    Keeps mint's class and parameter names, so mixed-precision tools find it; statistics and
    arithmetic are float32. In training it normalises by the batch and moves the running values.
    """

    def construct(self, input: Tensor) -> Tensor:
        """Normalise `input` (b, c, t, h, w); same shape and dtype."""
        x = ops.cast(input, ms.float32)
        if self.training:
            mean, var = self._batch_statistics(x)
        else:
            mean = ops.cast(self.running_mean, ms.float32)
            var = ops.cast(self.running_var, ms.float32)
        shape = (1, -1, 1, 1, 1)
        scale = ops.cast(self.weight, ms.float32) * ops.rsqrt(var + self.eps)
        shift = ops.cast(self.bias, ms.float32) - mean * scale
        return ops.cast(x * scale.reshape(shape) + shift.reshape(shape), input.dtype)

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        count = x.size // x.shape[1]
        mean = x.mean((0, 2, 3, 4))
        centred = x - mean.reshape(1, -1, 1, 1, 1)
        var = (centred * centred).mean((0, 2, 3, 4))
        kept = 1 - self.momentum
        unbiased = ops.stop_gradient(var) * (count / max(count - 1, 1))
        old_mean, old_var = self.running_mean, self.running_var
        ops.assign(old_mean, kept * old_mean + self.momentum * ops.stop_gradient(mean))
        ops.assign(old_var, kept * old_var + self.momentum * unbiased)
        return mean, var
