"""What the tokenizer's training batches and terms mean."""

import json
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor

from emu3.errors import InputError
from train.mini.scenes import CELL
from train.mini.vision_batches import Batches
from train.mini.vision_step import SHARPNESS, NameStep, NamingLoss
from train.mini.vision_training import new_model


def test_batches_are_a_function_of_the_step():
    first, again, other = Batches(0, 3, 5)(5), Batches(0, 3, 5)(5), Batches(0, 3, 5)(6)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_pixels_of_shapes_and_of_textures_weigh_more():
    pixels, weights, _ = Batches(1, 6, 5)(0)
    assert set(np.unique(weights)) == {1, 3, 6}
    for picture, weight in zip(pixels, weights[:, 0]):
        plain = picture[:, weight == 1]
        assert plain.size == 0 or np.ptp(plain, axis=1).max() == 0


def test_a_codebook_of_another_size_is_refused(tmp_path):
    sizes = json.loads(Path("configs/emu3_mini_vision.json").read_text())
    path = tmp_path / "vision.json"
    path.write_text(json.dumps(sizes | {"codebook_size": 5}))
    with pytest.raises(InputError, match="codebook_size 5"):
        new_model(str(path))


def test_the_naming_loss_is_cross_entropy_by_distance_plus_squared_distance():
    rng = np.random.default_rng(0)
    vectors, table = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    kinds = np.array([0, 6, 2, 2, 5], np.int32)
    distances = ((vectors[:, None] - table[None]) ** 2).sum(-1)
    shares = np.exp(-SHARPNESS * distances)
    shares = shares / shares.sum(1, keepdims=True)
    expected = -np.log(shares[np.arange(5), kinds]).mean()
    expected += ((vectors - table[kinds]) ** 2).mean()
    inputs = Tensor(vectors.astype(np.float32)), Tensor(table.astype(np.float32)), Tensor(kinds)
    assert float(NamingLoss()(*inputs)) == pytest.approx(expected, rel=1e-4)


def test_naming_trains_the_encoder_and_nothing_else():
    model = new_model("configs/emu3_mini_vision.json")
    before = {name: p.asnumpy().copy() for name, p in model.parameters_and_names()}
    pixels, _, kinds = Batches(0, 1, 5)(0)
    step = NameStep(model).set_train(True)
    losses = [float(step(Tensor(pixels), Tensor(kinds), Tensor(1e-3))[0]) for _ in range(3)]
    assert losses[-1] < losses[0]
    changed = {
        n for n, p in model.parameters_and_names() if not np.array_equal(before[n], p.asnumpy())
    }
    assert changed and all(n.startswith(("encoder.", "quant_conv.")) for n in changed)


def test_the_codebook_starts_with_colours_that_tell_shapes_apart():
    model = new_model("configs/emu3_mini_vision.json")
    table = model.quantize.embedding.weight.asnumpy()
    distances = ((table[:, None] - table[None]) ** 2).sum(-1) + 9 * np.eye(len(table))
    assert distances.min() > 0.2
    codes = model.quantize.nearest(Tensor(table)).asnumpy()
    np.testing.assert_array_equal(codes, np.arange(len(table)))
    assert model.spatial_scale_factor == CELL
