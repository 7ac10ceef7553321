"""Numpy views of tensors of every dtype."""

import mindspore as ms
import numpy as np
import pytest

from emu3.arrays import as_numpy


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16, ms.float32, ms.int32])
def test_tensors_keep_their_values(dtype):
    array = as_numpy(ms.Tensor([[1, 2], [3, 4]], dtype))
    assert isinstance(array, np.ndarray)
    assert array.astype(int).tolist() == [[1, 2], [3, 4]]


def test_bfloat16_becomes_float32():
    assert as_numpy(ms.Tensor([1.5], ms.bfloat16)).dtype == np.float32


def test_lists_and_numbers_become_arrays():
    assert as_numpy([1, 2]).tolist() == [1, 2]
    assert as_numpy(3).ndim == 0
