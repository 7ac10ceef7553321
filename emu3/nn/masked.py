"""How what attention must not see is marked.

Shapes: B batch, T new tokens, S tokens in all.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor

# Added to dropped scores. Finite, so that a row which drops everything stays free of NaN.
MASKED = float(np.finfo(np.float32).min) / 2


def dropped(bias: Tensor) -> Tensor:
    """What Ascend's attention wants of bias (B or 1, 1, T, S): uint8, 1 = drop, (B, 1, T, S) or
    (T, S)."""
    drop = (bias < MASKED / 2).astype(ms.uint8)
    return drop.reshape(drop.shape[2:]) if drop.shape[0] == 1 else drop
