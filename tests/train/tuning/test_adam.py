"""AdamW on a unit: the kernel in place against MindSpore's operator."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from emu3.parallel.mesh import ALONE
from train.tuning.step import Update
from train.tuning.zero import Unit

SHAPES = {"a": (130, 140), "b": (7, 3), "c": (11,)}


def trained(fused: bool, steps: int = 3) -> list[np.ndarray]:
    """Masters, moments and parameters of a unit after some steps."""
    rng = np.random.default_rng(0)
    parameters = {
        name: Parameter(Tensor(rng.standard_normal(shape, np.float32)), name=name)
        for name, shape in SHAPES.items()
    }
    unit = Unit(parameters, ALONE, 0, 0.3, "unit")
    if not fused:
        unit.kernel = None
    update = Update([unit], (0.9, 0.95), 1e-8, 1.0)
    for _ in range(steps):
        unit.gradient.set_data(Tensor(rng.standard_normal(unit.master.shape, np.float32)))
        update(Tensor(2.0, ms.float32), Tensor(0.01, ms.float32)).asnumpy()
    kept = (unit.master, unit.exp_avg, unit.exp_avg_sq, *parameters.values())
    return [parameter.asnumpy() for parameter in kept]


@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])
def test_the_kernel_does_what_the_operator_does(mode):
    ms.set_context(mode=mode)
    try:
        ours, theirs = trained(True), trained(False)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    together = np.concatenate([part.reshape(-1) for part in ours[3:]])
    np.testing.assert_array_equal(together, ours[0])
