"""Drawn scenes: reproducible, never touching, held-out combinations kept apart."""

import numpy as np
import pytest

from emu3.mllm.grammar import latent_size
from train.mini.drawing import draw_array, foreground, shape_mask
from train.mini.scenes import (
    BASE,
    CELL,
    COLOURS,
    FULL,
    IMAGE_AREA,
    KINDS,
    NEW_COLOUR,
    NEW_KIND,
    RATIOS,
    SIZES,
    Shape,
    combination_held_out,
    held_out,
    random_scene,
    relation,
)


def scenes(split, count=100):
    rng = np.random.default_rng(3)
    return [random_scene(rng, split) for _ in range(count)]


def test_the_same_seed_draws_the_same_picture():
    for a, b in zip(scenes("train", 5), scenes("train", 5)):
        np.testing.assert_array_equal(draw_array(a), draw_array(b))


def test_ratios_are_what_the_processor_gives_for_the_area():
    for ratio, cells in RATIOS.items():
        assert latent_size(ratio, IMAGE_AREA, CELL) == cells


def test_training_never_shows_a_held_out_combination():
    for scene in scenes("train"):
        for a in scene.shapes:
            for b in scene.shapes:
                name = relation(a, b) if a is not b else None
                assert not (name and combination_held_out(a.kind, a.colour, name))


def test_scenes_show_nothing_beyond_their_palette():
    shapes = [shape for scene in scenes("any", 300) for shape in scene.shapes]
    assert {shape.kind for shape in shapes} == set(KINDS) - {NEW_KIND}
    assert {shape.colour for shape in shapes} == set(COLOURS) - {NEW_COLOUR}
    rng = np.random.default_rng(4)
    full = [s for _ in range(300) for s in random_scene(rng, palette=FULL).shapes]
    assert {shape.kind for shape in full} == set(KINDS)
    assert {shape.colour for shape in full} == set(COLOURS)
    assert random_scene(rng).palette == BASE


def test_held_out_scenes_all_show_one():
    assert all(held_out(scene) for scene in scenes("held_out", 40))


def test_a_share_of_all_combinations_is_held_out():
    all_of_them = [
        combination_held_out(kind, colour, name)
        for kind in KINDS
        for colour in COLOURS
        for name in ("above", "below", "left of", "right of")
    ]
    assert 0.05 < np.mean(all_of_them) < 0.2


def test_shapes_stay_inside_and_apart():
    for scene in scenes("any"):
        cover = np.zeros((scene.rows, scene.cols), int)
        for shape in scene.shapes:
            assert shape.row >= 0 and shape.row + shape.side <= scene.rows
            assert shape.col >= 0 and shape.col + shape.side <= scene.cols
            cover[shape.row : shape.row + shape.side, shape.col : shape.col + shape.side] += 1
        assert cover.max() == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_shapes_fill_their_box_and_differ(kind, size):
    side = SIZES[size] * CELL
    mask = shape_mask(kind, side)
    assert mask.shape == (side, side)
    assert mask.sum(0).max() > 0.7 * side or mask.sum(1).max() > 0.6 * side
    others = [shape_mask(other, side) for other in KINDS if other != kind]
    assert min(np.abs(mask - other).mean() for other in others) > 0.05


def test_the_foreground_is_where_colour_is():
    scene = next(s for s in scenes("any") if len(s.shapes) == 1)
    colour = np.array(COLOURS[scene.shapes[0].colour])
    inside = foreground(scene) == 1
    assert (draw_array(scene)[inside] == colour).all()


@pytest.mark.parametrize(("row", "col", "name"), [(5, 1, "above"), (1, 5, "left of"), (5, 5, None)])
def test_a_relation_needs_a_dominant_axis(row, col, name):
    a, b = Shape("star", "red", "small", 1, 1), Shape("star", "red", "small", row, col)
    assert relation(a, b) == name
