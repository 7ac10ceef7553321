"""Products of factors rounded to bfloat16: against their definition, and who makes them."""

import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from emu3.errors import InputError
from emu3.nn import short_products as module
from emu3.nn.linear import Linear
from emu3.nn.short_products import short_products, use_products
from emu3.tensorfile import to_bfloat16

SIZES = [(1, 1, 1), (5, 3, 7), (13, 37, 35), (40, 700, 33)]


def rounded(values: np.ndarray) -> np.ndarray:
    bits = to_bfloat16(np.ascontiguousarray(values, np.float32)).astype(np.uint32) << 16
    return bits.view(np.float32).astype(np.float64)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("m, k, n", SIZES)
@pytest.mark.parametrize("kind", ["nt", "nn", "tn"])
def test_a_product_is_that_of_rounded_factors(kind, m, k, n):
    a = floats(*((k, m) if kind[0] == "t" else (m, k)))
    b = floats(*((n, k) if kind[1] == "t" else (k, n)))
    out = getattr(short_products(), kind)(Tensor(a), Tensor(b)).asnumpy()
    left = rounded(a).T if kind[0] == "t" else rounded(a)
    right = rounded(b).T if kind[1] == "t" else rounded(b)
    np.testing.assert_allclose(out, left @ right, rtol=1e-5, atol=1e-5 * k**0.5)


def test_rows_do_not_depend_on_those_beside_them():
    x, weight = floats(30, 50), floats(40, 50)
    nt = short_products().nt
    whole = nt(Tensor(x), Tensor(weight)).asnumpy()
    some = nt(Tensor(x[7:20]), Tensor(weight)).asnumpy()
    np.testing.assert_array_equal(whole[7:20], some)


@pytest.fixture
def layer():
    layer = Linear(37, 35)
    use_products(layer, "bfloat16")
    return layer


def test_layers_round_in_training_alone(layer):
    x, plain = Tensor(floats(13, 37)), Linear(37, 35)
    plain.weight.set_data(layer.weight)
    weight = layer.weight.asnumpy()
    out = layer.set_train(True)(x).asnumpy()
    np.testing.assert_allclose(out, rounded(floats(13, 37)) @ rounded(weight).T, atol=1e-5)
    np.testing.assert_array_equal(
        layer.set_train(False)(x).asnumpy(), plain.set_train(False)(x).asnumpy()
    )


def test_slopes_are_products_of_rounded_factors(layer):
    x, slope = floats(13, 37), floats(13, 35)
    weight = layer.weight.asnumpy()
    by_x, by_weight = ops.grad(
        lambda x: (layer.set_train(True)(x) * Tensor(slope)).sum(), 0, layer.weight
    )(Tensor(x))
    np.testing.assert_allclose(by_x.asnumpy(), rounded(slope) @ rounded(weight), atol=1e-5)
    np.testing.assert_allclose(by_weight.asnumpy(), rounded(slope).T @ rounded(x), atol=1e-5)


def test_without_kernels_bfloat16_is_refused(monkeypatch):
    monkeypatch.setattr(module, "short_products", lambda: None)
    with pytest.raises(InputError, match="change it to float32"):
        use_products(nn.Cell(), "bfloat16")
    use_products(nn.Cell(), "float32")
