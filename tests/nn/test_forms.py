"""Products with stored matrices: our kernels and the operators that stand in for them."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from emu3.nn.forms import MOST_ROWS, Lines, Product, product_kernel, quantised, widened

FORMS = {"float32": ms.float32, "bfloat16": ms.bfloat16, "int8": ms.int8}
SHAPES = [
    (MOST_ROWS + 1, 9, 100),
    (1, 7, 33),
    (2, 96, 128),
    (3, 50, 64),
    (5, 33, 1376),
    (8, 64, 200),
    (19, 70, 160),
]


def stored(values: np.ndarray, form: str) -> tuple[Tensor, ...]:
    """A matrix in a form: weight, and scales where there are some."""
    if form == "int8":
        return tuple(Tensor(part) for part in quantised(values))
    return (Tensor(values).astype(FORMS[form]),)


def case(rows: int, size: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """x (rows, columns) and a matrix (size, columns)."""
    rng = np.random.default_rng(0)
    shapes = (rows, columns), (size, columns)
    return tuple(rng.standard_normal(shape, np.float32) for shape in shapes)


def exact(x: np.ndarray, parts: tuple[Tensor, ...]) -> np.ndarray:
    """The product of the stored values, in float64."""
    weight = widened(*parts, *[None] * (2 - len(parts))).asnumpy()
    return x.astype(np.float64) @ weight.T.astype(np.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMS)
def test_a_product_is_that_of_the_stored_values(form, shape):
    if product_kernel(form) is None:
        pytest.skip("no compiler for the kernels here")
    x, values = case(*shape)
    parts = stored(values, form)
    wanted = exact(x, parts)
    made = Product(FORMS[form])(Tensor(x), *parts).asnumpy()
    assert np.abs(made - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("form", FORMS)
def test_without_kernels_the_product_is_the_same(form):
    x, values = case(3, 50, 160)
    parts = stored(values, form)
    slow = Product(FORMS[form])
    slow.kernel = slow.widen = None
    wanted = exact(x, parts)
    assert np.abs(slow(Tensor(x), *parts).asnumpy() - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_sums_have_one_order_whatever_the_form_and_the_rows():
    if product_kernel("float32") is None:
        pytest.skip("no compiler for the kernels here")
    x, values = case(7, 50, 200)
    narrow = Tensor(values).astype(ms.bfloat16)
    made = Product(ms.bfloat16)(Tensor(x), narrow).asnumpy()
    wide = Product(ms.float32)(Tensor(x), narrow.astype(ms.float32)).asnumpy()
    alone = Product(ms.bfloat16)(Tensor(x[6:]), narrow).asnumpy()
    assert np.array_equal(made, wide) and np.array_equal(made[6:], alone)


@pytest.mark.parametrize("form", FORMS)
def test_a_row_is_the_same_whatever_rows_stand_beside_it(form):
    if product_kernel(form) is None:
        pytest.skip("no compiler for the kernels here")
    x, values = case(11, 50, 200)
    parts = stored(values, form)
    together = Product(FORMS[form])(Tensor(x), *parts).asnumpy()
    for row in (0, 7, 8, 10):
        alone = Product(FORMS[form])(Tensor(x[row : row + 1]), *parts).asnumpy()
        assert np.array_equal(together[row : row + 1], alone)


def test_products_stand_side_by_side():
    x, values = case(2, 40, 100)
    first, second = stored(values[:30], "int8"), stored(values[30:], "int8")
    made = Product(ms.int8)(Tensor(x), first[0], second[0], first[1], second[1])
    wanted = np.concatenate([exact(x, first), exact(x, second)], 1)
    assert np.abs(made.asnumpy() - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("form", FORMS)
def test_lines_are_those_of_the_stored_values(form):
    if product_kernel(form) is None:
        pytest.skip("no compiler for the kernels here")
    parts = stored(case(1, 20, 150)[1], form)
    ids = Tensor([[3, 0], [19, 3]], ms.int32)
    wanted = widened(*parts, *[None] * (2 - len(parts))).asnumpy()[ids.asnumpy()]
    assert np.array_equal(Lines(FORMS[form])(ids, *parts).asnumpy(), wanted)


def test_a_product_runs_inside_a_compiled_loop():
    class Loop(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            weight, scales = quantised(np.eye(64, dtype=np.float32) * 2)
            self.weight = Parameter(Tensor(weight), name="weight", requires_grad=False)
            self.scales = Parameter(Tensor(scales), name="scales", requires_grad=False)
            self.product = Product(ms.int8)

        def construct(self, x, turn, end):
            while turn < end:
                x = self.product(x, self.weight, self.scales)
                turn = turn + 1
            return x

    x = Tensor(np.ones((2, 64), np.float32))
    made = ms.jit(Loop().construct)(x, Tensor(0), Tensor(3)).asnumpy()
    assert np.allclose(made, 8, rtol=1e-6)


def test_quantising_loses_at_most_half_a_step():
    values = case(1, 9, 100)[1]
    values[0] = 0
    weight, scales = quantised(values)
    error = np.abs(widened(Tensor(weight), Tensor(scales)).asnumpy() - values)
    assert weight.shape == values.shape and scales.shape == (9, 2) and not weight[0].any()
    assert (error <= np.repeat(scales, 64, 1)[:, :100] * 0.5001).all()
