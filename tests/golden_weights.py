"""The reference vectors' weights, which follow from each tensor's name and shape."""

import zlib

import numpy as np
from mindspore import Tensor, nn


def golden_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array that the reference model held under `name`: float32, or int64 for counters."""
    leaf = name.rsplit(".", 1)[-1]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    normal = rng.standard_normal(shape).astype(np.float32)
    if leaf in ("bias", "running_mean"):
        return np.float32(0.1) * normal
    if len(shape) == 1:
        return 1 + np.float32(0.1) * normal
    if "quantize.embedding" in name or "embed_tokens" in name:
        return normal
    return (normal / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def set_golden_weights(model: nn.Cell) -> nn.Cell:
    """Give every parameter of `model` its golden value; returns the model."""
    for name, parameter in model.parameters_and_names():
        parameter.set_data(Tensor(golden_weight(name, tuple(parameter.shape))))
    return model
