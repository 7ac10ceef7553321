"""What is joined between the products: our kernels against the operators that stand in for them."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from emu3.nn import attention, forms, rmsnorm, swiglu
from emu3.nn.attention import Attend, Heads, Rotary
from emu3.nn.kernels.library import loaded
from emu3.nn.kernels.operators import library
from emu3.nn.masked import MASKED
from emu3.nn.rmsnorm import RMSNorm
from emu3.nn.swiglu import SwiGLU

pytestmark = pytest.mark.skipif(library() is None, reason="no compiler for the kernels here")


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape, np.float32))


def bias(batch: int, rows: int, keys: int) -> Tensor:
    """Causal for the last `rows` of `keys`, with more hidden here and there, as branches are."""
    seen = np.arange(keys) <= np.arange(keys - rows, keys)[:, None]
    seen = np.repeat(seen[None], batch, 0)
    seen[-1, :, : keys // 2 - 1] = False
    seen[:, np.arange(rows), np.arange(keys - rows, keys)] = True
    return Tensor(np.where(seen, np.float32(0), np.float32(MASKED))[:, None])


class Fixed(nn.Cell):
    """A cell on some inputs, with the others fixed."""

    def __init__(self, cell: nn.Cell, *rest) -> None:
        super().__init__()
        self.cell, self.rest = cell, rest

    def construct(self, *inputs: Tensor) -> Tensor:
        return self.cell(*inputs, *self.rest)


def attending(batch, heads, groups, rows, keys, width, biases=1) -> tuple:
    inputs = [numbers(batch, heads, rows, width, seed=1)]
    inputs += [numbers(batch, groups, keys, width, seed=seed) for seed in (2, 3)]
    return Attend("eager", 0.0), inputs, (bias(biases, rows, keys),)


class Gated(nn.Cell):
    """x, gate, up -> silu(x gate^T) * (x up^T)."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.product = swiglu.gated_kernel(), ops.MatMul(transpose_b=True)

    def construct(self, x: Tensor, gate: Tensor, up: Tensor) -> Tensor:
        if self.kernel is None:
            return ops.silu(self.product(x, gate)) * self.product(x, up)
        return self.kernel(x, gate, up)


CASES = {
    "swiglu": lambda: (SwiGLU(), [numbers(3, 5, 21), numbers(3, 5, 21, seed=1)], ()),
    "swiglu of many": lambda: (SwiGLU(), [numbers(90, 200), numbers(90, 200, seed=1)], ()),
    "rms norm": lambda: (RMSNorm(21, 1e-5), [numbers(3, 5, 21)], ()),
    "rms norm of many": lambda: (RMSNorm(64, 1e-5), [numbers(300, 64)], ()),
    "heads": lambda: (Heads(), [numbers(2, 7, 30)], (numbers(1, 7, 10),)),
    "rotary": lambda: (Rotary(), [numbers(2, 7, 30)], (numbers(1, 7, 10), numbers(1, 7, 10))),
    "rotary by row": lambda: (
        Rotary(),
        [numbers(2, 7, 64)],
        (numbers(2, 7, 16), numbers(2, 7, 16)),
    ),
    "matmul": lambda: (forms.MatMul(), [numbers(19, 37), numbers(43, 37, seed=1)], ()),
    "matmul of many": lambda: (forms.MatMul(), [numbers(130, 520), numbers(90, 520, seed=1)], ()),
    "gated products of many": lambda: (
        Gated(),
        [numbers(130, 520), *(numbers(90, 520, seed=seed) / 20 for seed in (1, 2))],
        (),
    ),
    "attention": lambda: attending(2, 4, 2, 7, 7, 10),
    "attention after others": lambda: attending(1, 2, 1, 40, 101, 32),
    "attention by branches": lambda: attending(2, 2, 2, 70, 70, 48, biases=2),
}


def results(case: str, fused: bool) -> list[np.ndarray]:
    """Output of a cell and its slopes, those of its weights included."""
    cell, inputs, rest = CASES[case]()
    assert cell.kernel is not None
    if not fused:
        cell.kernel = None
    if isinstance(cell, RMSNorm):
        cell.weight.set_data(numbers(cell.weight.size, seed=5))
    cell = Fixed(cell, *rest)
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
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize("case", [case for case in CASES if "of many" in case or "after" in case])
def test_results_do_not_depend_on_the_threads(case):
    several = results(case, True)
    loaded(library()).set_threads(1)
    try:
        one = results(case, True)
    finally:
        loaded(library()).set_threads(2)
    assert all(np.array_equal(a, b) for a, b in zip(several, one))


def test_a_row_that_sees_nothing_gives_zero_and_no_slope():
    cell, inputs, _ = attending(1, 1, 1, 3, 3, 16)
    hidden = Tensor(np.full((1, 1, 3, 3), MASKED, np.float32))
    assert not cell(*inputs, hidden).asnumpy().any()
    slopes = ms.grad(lambda *x: cell(*x, hidden).sum(), (0, 1, 2))(*inputs)
    assert not any(slope.asnumpy().any() for slope in slopes)


def test_other_dtypes_take_the_operators():
    half = SwiGLU()(numbers(2, 8).astype(ms.float16), numbers(2, 8).astype(ms.float16))
    assert half.dtype == ms.float16


def test_off_the_cpu_there_are_no_kernels(monkeypatch):
    monkeypatch.setattr("emu3.runtime.device_target", lambda: "Ascend")
    rotary, attend = attention.rotary_kernel, attention.attention_kernel
    for made in (swiglu.kernel, rmsnorm.kernel, forms.matmul_kernel, rotary, attend):
        assert made() is None


def test_slopes_inside_a_compiled_function():
    gate, up = numbers(4, 33), numbers(4, 33, seed=1)
    cell = SwiGLU()
    plain = ms.grad(lambda g, u: (ops.silu(g) * u).sum(), (0, 1))(gate, up)

    @ms.jit
    def compiled(g, u):
        return ops.grad(cell, (0, 1))(g, u)

    for ours, theirs in zip(compiled(gate, up), plain):
        np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), atol=1e-6)
