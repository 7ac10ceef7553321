"""Parameters that cells own for themselves: what they write in place, tables they only read."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor


def zeros(name: str, shape: tuple[int, ...], dtype: ms.Type) -> Parameter:
    """A Parameter of zeros, without gradient."""
    return Parameter(Tensor(np.zeros(shape, np.float32), dtype), name=name, requires_grad=False)


def table(name: str, values: np.ndarray) -> Parameter:
    """A float32 Parameter of these values, without gradient."""
    return Parameter(Tensor(values.astype(np.float32)), name=name, requires_grad=False)
