"""The parts of the vision tokenizer: our kernels against the operators that stand in for them."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from emu3.nn import conv, norms
from emu3.nn.conv import Conv2d, DoublePixels
from emu3.nn.kernels.library import loaded
from emu3.nn.kernels.operators import library
from emu3.nn.norms import GroupNorm

pytestmark = pytest.mark.skipif(library() is None, reason="no compiler for the kernels here")


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape, np.float32))


class Norm(nn.Cell):
    """Group norm of x, perhaps with maps of scale and shift."""

    def __init__(self, channels: int, active: bool) -> None:
        super().__init__()
        self.norm, self.active = GroupNorm(channels), active
        self.norm.weight.set_data(numbers(channels, seed=5))
        self.norm.bias.set_data(numbers(channels, seed=6))

    def construct(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None):
        return self.norm.normalise(x, scale, shift, self.active)


def norm(shape: tuple[int, ...], factor: int, active: bool) -> tuple[nn.Cell, list[Tensor]]:
    """A norm and its inputs; factor 0 = no maps."""
    b, c, h, w = shape
    inputs = [numbers(*shape) * 3 + 5]
    if factor:
        inputs += [numbers(b, c, h // factor, w // factor, seed=seed) for seed in (1, 2)]
    return Norm(c, active), inputs


def convolution(shape: tuple[int, ...], out: int, side: int) -> tuple[nn.Cell, list[Tensor]]:
    cell = Conv2d(shape[1], out, side)
    cell.weight.set_data(numbers(*cell.weight.shape, seed=5))
    cell.bias.set_data(numbers(out, seed=6))
    return cell, [numbers(*shape)]


CASES = {
    "norm": lambda: norm((2, 32, 3, 7), 0, False),
    "norm and swish": lambda: norm((2, 64, 5, 5), 0, True),
    "maps": lambda: norm((2, 32, 5, 7), 1, False),
    "maps and swish": lambda: norm((1, 64, 3, 5), 1, True),
    "maps half as large": lambda: norm((2, 32, 6, 10), 2, True),
    "maps a quarter as large": lambda: norm((1, 32, 4, 12), 4, False),
    "strips": lambda: norm((2, 64, 57, 41), 0, True),
    "strips and maps": lambda: norm((1, 32, 60, 44), 4, True),
    "convolution": lambda: convolution((2, 3, 5, 7), 35, 3),
    "convolution of one pixel": lambda: convolution((1, 20, 1, 1), 3, 3),
    "convolution of each pixel": lambda: convolution((2, 9, 4, 5), 17, 1),
    "strips of a convolution": lambda: convolution((3, 17, 40, 37), 66, 3),
    "tiles of a convolution": lambda: convolution((2, 19, 9, 13), 35, 3),
    "tiles of a wide convolution": lambda: convolution((1, 16, 3, 263), 18, 3),
    "tiles of a long convolution": lambda: convolution((1, 16, 150, 2), 16, 3),
    "doubled": lambda: (DoublePixels(), [numbers(2, 3, 5, 7)]),
}


def results(case: str, fused: bool) -> list[np.ndarray]:
    """Output of a cell and its slopes, those of its weights included."""
    cell, inputs = CASES[case]()
    if not fused:
        part, name = (cell.norm, "plain") if isinstance(cell, Norm) else (cell, "kernel")
        assert getattr(part, name) is not None
        setattr(part, name, None)
    cell.set_train(True)
    out = cell(*inputs)
    slope = numbers(*out.shape, seed=9)
    weights = tuple(cell.trainable_params()) or None
    gradient = ms.grad(
        lambda *inputs: (cell(*inputs) * slope).sum(), tuple(range(len(inputs))), weights
    )(*inputs)
    by_inputs, by_weights = gradient if weights else (gradient, ())
    by_inputs = by_inputs if isinstance(by_inputs, tuple) else (by_inputs,)
    return [x.asnumpy() for x in (out, *by_inputs, *by_weights)]


@pytest.mark.parametrize("case", CASES)
def test_kernels_and_their_slopes_equal_the_operators(case):
    fused, plain = (results(case, fused) for fused in (True, False))
    assert len(fused) == len(plain) > 1
    for ours, theirs in zip(fused, plain):
        np.testing.assert_allclose(ours, theirs, atol=3e-5 * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize("case", [case for case in CASES if "strips" in case or "doubled" in case])
def test_results_do_not_depend_on_the_threads(case):
    several = results(case, True)
    loaded(library()).set_threads(1)
    try:
        one = results(case, True)
    finally:
        loaded(library()).set_threads(2)
    assert all(np.array_equal(a, b) for a, b in zip(several, one))


def test_compiled_slopes_are_those_of_pynative():
    cell, inputs = CASES["maps half as large"]()
    weights = ms.ParameterTuple(cell.trainable_params())
    plain = ms.grad(cell, (0, 1, 2), weights)(*inputs)

    @ms.jit
    def compiled(x, scale, shift):
        return ops.grad(cell, (0, 1, 2), weights)(x, scale, shift)

    for ours, theirs in zip(compiled(*inputs), plain):
        for a, b in zip(ours, theirs):
            np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())


def test_a_view_is_read_as_it_looks():
    x = numbers(7, 3, 32, 5)
    turned = x.transpose(1, 2, 3, 0)
    solid = Tensor(np.ascontiguousarray(turned.asnumpy()))
    cell = Norm(32, True)
    np.testing.assert_array_equal(cell(turned).asnumpy(), cell(solid).asnumpy())


def test_maps_that_do_not_fit_are_refused():
    cell, (x, scale, shift) = CASES["maps half as large"]()
    with pytest.raises((RuntimeError, ValueError)):
        cell(x, scale[:, :, :2], shift[:, :, :2]).asnumpy()


def test_other_dtypes_take_the_operators():
    half = Norm(32, True)(numbers(1, 32, 3, 3).astype(ms.float16))
    assert half.dtype == ms.float16


def test_off_the_cpu_there_are_no_kernels(monkeypatch):
    monkeypatch.setattr("emu3.runtime.device_target", lambda: "Ascend")
    for made in (norms.plain_kernel, norms.mapped_kernel, conv.double_kernel, conv.conv_kernel):
        assert made() is None
