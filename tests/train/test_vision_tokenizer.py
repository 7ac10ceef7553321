"""What the tokenizer's training batches and terms mean."""

import numpy as np
from mindspore import Tensor

from emu3.tokenizer import Emu3VisionVQModel
from tests.support import tiny_vision_config
from train.cells import GROUNDS, cell_kinds
from train.scenes import CELL, Ground, Scene, Shape, draw_array
from train.vision_tokenizer import Batches, inner_spread, reseed_unused, seed_codebook


def test_batches_are_a_function_of_the_step():
    first, again, other = Batches(0, 3, 5)(5), Batches(0, 3, 5)(5), Batches(0, 3, 5)(6)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_ground_cells_hold_their_ground_and_nothing_else():
    pixels, weights, kinds = Batches(1, 4, 5)(0)
    cells = kinds.reshape(4, 5, 5)
    assert (cells < len(GROUNDS)).any() and (cells >= len(GROUNDS)).any()
    for picture, weight, shown in zip(pixels, weights, cells):
        tiles = picture.reshape(3, 5, CELL, 5, CELL).transpose(1, 3, 0, 2, 4)
        plain = tiles[shown < len(GROUNDS)]
        np.testing.assert_array_equal(plain, np.broadcast_to(plain[:1], plain.shape))
        assert weight.max() == 6


def test_pairs_show_the_same_shapes_elsewhere():
    _, _, kinds = Batches(2, 2, 5)(0)
    first, second = (sorted(k[k >= len(GROUNDS)]) for k in kinds.reshape(2, -1))
    assert first == second


def test_equal_cells_on_equal_ground_look_alike_and_others_do_not():
    shapes = (Shape("star", "red", "large", 0, 0), Shape("star", "red", "large", 4, 4))
    scene = Scene(7, 7, Ground("white", "dotted"), shapes)
    kinds = cell_kinds(scene).ravel()
    tiles = draw_array(scene).reshape(7, CELL, 7, CELL, 3).swapaxes(1, 2).reshape(49, -1)
    same_kind = kinds[:, None] == kinds[None]
    same_look = (tiles[:, None] == tiles[None]).all(-1)
    np.testing.assert_array_equal(same_kind, same_look)


def test_inner_spread_is_the_share_of_variance_within_kinds():
    vectors = np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]], np.float32)
    kinds = np.array([3, 3, 70], np.int32)
    weights = np.array([0.25, 0.25, 0.5])[:, None]
    middle = (weights * vectors).sum(0)
    expected = 0.5 / (weights * (vectors - middle) ** 2).sum()
    np.testing.assert_allclose(inner_spread(Tensor(vectors), Tensor(kinds)), expected, rtol=1e-5)


def test_every_kind_gets_a_code_and_unused_codes_go_where_they_are_wanted():
    model = Emu3VisionVQModel(tiny_vision_config())
    rng = np.random.default_rng(0)
    codes, width = model.quantize.embedding.weight.shape
    kinds = len(GROUNDS) + np.repeat(np.arange(codes // 2), 4)
    centres = rng.normal(0, 5, (codes // 2, width))
    vectors = np.repeat(centres, 4, 0) + rng.normal(0, 0.1, (len(kinds), width))
    vectors = vectors.astype(np.float32)
    seed_codebook(model, vectors, kinds, rng)
    found = model.quantize.nearest(Tensor(vectors)).asnumpy()
    table = model.quantize.embedding.weight.asnumpy()
    assert np.abs(table[found] - vectors).max() < 1
    far = vectors + 100
    assert reseed_unused(model, far, np.zeros(len(far), int), kinds, rng) == codes - 1
    assert (model.quantize.embedding.weight.asnumpy()[1:] > 50).all()
