"""What the tokenizer's training batches and terms mean."""

import numpy as np
from mindspore import Tensor

from train.scenes import CELL
from train.vision_tokenizer import GROUNDS, NO_GROUND, Batches, spread


def test_batches_are_a_function_of_the_step():
    first, again, other = Batches(0, 3, 8)(5), Batches(0, 3, 8)(5), Batches(0, 3, 8)(6)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_ground_cells_hold_their_ground_and_nothing_else():
    pixels, weights, grounds = Batches(1, 4, 8)(0)
    cells = grounds.reshape(4, 8, 8)
    assert (cells == NO_GROUND).any() and (cells != NO_GROUND).any()
    assert set(np.unique(cells)) <= {NO_GROUND, *range(len(GROUNDS))}
    for picture, weight, kinds in zip(pixels, weights, cells):
        tiles = picture.reshape(3, 8, CELL, 8, CELL).transpose(1, 3, 0, 2, 4)
        plain = tiles[kinds != NO_GROUND]
        np.testing.assert_array_equal(plain, np.broadcast_to(plain[:1], plain.shape))
        assert weight.max() == 6


def test_spread_measures_distance_within_each_ground_only():
    vectors = np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0], [5.0, 5.0]], np.float32)
    grounds = np.array([3, 3, NO_GROUND, 7], np.int32)
    value = float(spread(Tensor(vectors), Tensor(grounds)))
    np.testing.assert_allclose(value, (1 + 1) / (3 * 2), rtol=1e-6)
