"""A tokenizer trained on pictures alone rebuilds clips too."""

import numpy as np
from mindspore import Tensor

from emu3.tokenizer import Emu3VisionVQModel
from tests.support import randomised, tiny_vision_config
from train.mini.vision_training import forget_past


def test_forgetting_the_past_leaves_pictures_alone_and_holds_them_over_a_clip():
    model = randomised(Emu3VisionVQModel(tiny_vision_config()), 3).set_train(False)
    codes = np.random.default_rng(0).integers(0, 32, (2, 3, 4), np.int32)
    before = model.decode(Tensor(codes)).asnumpy()
    spoiled = model.decode(Tensor(codes[:, None])).asnumpy()
    assert not np.allclose(spoiled[:, 3], before, atol=1e-2)
    forget_past(model)
    assert np.array_equal(model.decode(Tensor(codes)).asnumpy(), before)
    clip = model.decode(Tensor(codes[:, None])).asnumpy()  # (b, t, c, h, w)
    for frame in range(4):
        np.testing.assert_allclose(clip[:, frame], before, atol=1e-5)
