"""Linear and Embedding: arithmetic, names and initial values."""

import numpy as np
import pytest
from mindspore import Tensor

from emu3.nn.linear import Embedding, Linear


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear_multiplies_by_the_transposed_weight(shape, has_bias):
    layer = Linear(5, 4, has_bias=has_bias)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    wanted = x @ layer.weight.asnumpy().T
    if has_bias:
        layer.bias.set_data(Tensor(np.arange(4, dtype=np.float32)))
        wanted = wanted + np.arange(4)
    np.testing.assert_allclose(layer(Tensor(x)).asnumpy(), wanted, atol=1e-6)


def test_names_are_the_published_ones():
    names = [name for name, _ in Linear(5, 4, has_bias=True).parameters_and_names()]
    assert names == ["weight", "bias"]
    assert [name for name, _ in Embedding(3, 2).parameters_and_names()] == ["weight"]


def test_embedding_picks_rows():
    layer = Embedding(6, 2)
    ids = np.array([[5, 0], [3, 3]], np.int32)
    np.testing.assert_array_equal(layer(Tensor(ids)).asnumpy(), layer.weight.asnumpy()[ids])


@pytest.mark.parametrize("pad", [None, 9])
def test_pad_outside_the_table_zeroes_no_row(pad):
    assert (np.abs(Embedding(6, 4, pad=pad).weight.asnumpy()).sum(1) > 0).all()
