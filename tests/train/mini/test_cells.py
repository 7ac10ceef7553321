"""Kinds of cells: equal looks, equal numbers."""

import numpy as np

from train.mini.cells import ALIKE, GROUNDS, cell_kinds, kind_count, kind_vectors, tiles
from train.mini.drawing import draw_array, foreground
from train.mini.scenes import CELL, FULL, Ground, Scene, Shape, random_scene


def scenes(count: int) -> list[Scene]:
    rng = np.random.default_rng(1)
    return [random_scene(rng, "any", palette=FULL) for _ in range(count)]


def test_cells_without_a_shape_have_the_number_of_their_ground():
    for scene in scenes(50):
        cover = foreground(scene).reshape(scene.rows, CELL, scene.cols, CELL).mean((1, 3))
        kinds = cell_kinds(scene)
        assert (kinds[cover == 0] == GROUNDS.index(scene.ground)).all()
        assert (kinds[cover > ALIKE] >= len(GROUNDS)).all()
        assert kinds.max() < kind_count()


def test_equal_numbers_on_one_ground_look_alike():
    shapes = (Shape("star", "red", "large", 0, 0), Shape("circle", "red", "large", 4, 4))
    scene = Scene(7, 7, Ground("white", "dotted"), shapes)
    kinds = cell_kinds(scene).ravel()
    look = draw_array(scene).reshape(7, CELL, 7, CELL, 3).swapaxes(1, 2).reshape(49, -1) / 255
    apart = np.abs(look[:, None] - look[None]).mean(-1)
    assert apart[kinds[:, None] == kinds[None]].max() < 2 * ALIKE


def test_colours_give_other_numbers_to_the_same_tiles():
    by_colour = [
        cell_kinds(Scene(3, 3, GROUNDS[0], (Shape("star", c, "large", 0, 0),)))
        for c in FULL.colours
    ]
    steps = np.diff(np.stack(by_colour)[:, by_colour[0] >= len(GROUNDS)], axis=0)
    assert (steps == len(tiles()) - 1).all()


def test_every_kind_has_a_vector_of_its_own():
    vectors = kind_vectors(16)
    assert vectors.shape == (kind_count(), 16)
    assert len(np.unique(vectors.round(3), axis=0)) == kind_count()
