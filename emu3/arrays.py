"""Numpy views of whatever a caller hands in: lists, numpy arrays, MindSpore tensors."""

import numpy as np


def as_numpy(value) -> np.ndarray:
    """`value` as an array, same shape; a bfloat16 tensor becomes float32."""
    if hasattr(value, "asnumpy"):
        is_bfloat16 = str(value.dtype).lower() == "bfloat16"
        return (value.float() if is_bfloat16 else value).asnumpy()
    return np.asarray(value)
