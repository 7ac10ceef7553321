"""RMSNorm computes in float32 whatever its input."""

import mindspore as ms
import numpy as np
from mindspore import Tensor

from emu3.nn.rmsnorm import rms_norm


def test_rms_norm_equals_its_formula():
    x = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    weight = np.arange(8, dtype=np.float32)
    wanted = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-5) * weight
    got = rms_norm(Tensor(x), Tensor(weight), 1e-5).asnumpy()
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_squares_beyond_float16_do_not_overflow():
    x = Tensor(np.full((1, 4), 1000.0), ms.float16)
    y = rms_norm(x, Tensor(np.ones(4), ms.float16), 1e-5)
    assert y.dtype == ms.float16
    np.testing.assert_allclose(y.asnumpy(), 1, atol=1e-3)
