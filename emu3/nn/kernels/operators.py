"""Our kernels as MindSpore operators, for networks that run on CPU.

A kernel is a C function of MindSpore's "aot" signature in a source of this folder:

    int name(int count, void **data, int *axes, int64_t **shapes, const char **dtypes,
             void *stream, void *extra)

with inputs first and outputs last in each list; it returns 0 when all went well.
"""

from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from emu3 import runtime
from emu3.errors import InputError
from emu3.nn.kernels.library import built, compiler, loaded

COMPILING = "compiling kernels for this processor; later commands find them ready"


def on_cpu(make: Callable) -> Callable:
    """`make`, which makes a kernel, called once for the same arguments; off the CPU None."""
    made = cache(make)

    @wraps(make)
    def kernel(*arguments: str) -> ops.Custom | None:
        return made(*arguments) if runtime.device_target() == "CPU" else None

    return kernel


def operator(
    name: str, out_shape: Callable, out_dtype: Callable, bprop: Callable | None = None
) -> ops.Custom | None:
    """The kernel `name`, which also runs inside compiled networks.

    None where kernels cannot be compiled: callers have operators of MindSpore's for that.
    `out_shape` and `out_dtype` take the inputs' shapes or dtypes and give the output's, a tuple of
    them for several outputs. `bprop` takes inputs, output and its slope, and gives the inputs'
    slopes.
    """
    path = library()
    if path is None:
        return None
    loaded(path).set_threads(runtime.cpu_threads())
    return ops.Custom(f"{path}:{name}", out_shape, out_dtype, "aot", bprop)


@cache
def library() -> Path | None:
    """The compiled library; None, after one notice, where there is no way to compile it."""
    try:
        return built(compiler(), lambda: runtime.notice(COMPILING))
    except InputError as error:
        runtime.notice(f"{error}; computing with slower operators")
        return None


def drop_settings(p: float) -> Tensor:
    """What kernels that drop are told, (2,) int32: a share of 2^32, and a seed."""
    share = min(round(p * 2**32), 2**32 - 1)
    return Tensor(np.array([share, ms.get_seed() or 0], np.uint32).view(np.int32))
