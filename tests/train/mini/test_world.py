"""The world of emu3-mini: composed, moved, named and read as it says."""

import numpy as np
import pytest
from scipy import ndimage

from train.mini.words.checking import same
from train.mini.world import cells, motion
from train.mini.world.compose import FULL, random_scene
from train.mini.world.draw import draw_array
from train.mini.world.grounds import GROUNDS
from train.mini.world.motion import Clip, Moving, extended, frames_of, random_clip
from train.mini.world.paint import painted
from train.mini.world.palette import CELL, NEW_COLOUR, NEW_KIND
from train.mini.world.reading import read
from train.mini.world.scenes import RATIOS, Scene, Thing, fits, held_out


def scenes(number: int, seed: int = 0, **options) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [random_scene(rng, **options) for _ in range(number)]


def test_scenes_fit_into_their_pictures_and_training_keeps_its_word():
    for scene in scenes(200):
        assert fits(scene) and not held_out(scene)
        assert all(t.colour != NEW_COLOUR and t.kind != NEW_KIND for t in scene.things)
    assert all(map(held_out, scenes(20, split="held_out")))


def test_single_things_stand_near_the_middle():
    alone = [s for s in scenes(300, ratio="1:1", count=1) if not s.placed]
    outside = [s for s in alone if min(s.things[0].row, s.things[0].col) < 1]
    outside += [s for s in alone if max(s.things[0].base, s.things[0].col + s.things[0].side) > 7]
    assert len(outside) <= 0.05 * len(alone)
    away = [np.hypot(*(v / 8 - 0.5 for v in s.things[0].centre)) for s in alone]
    assert np.mean(away) <= 0.15


def test_names_of_a_thing_are_the_same_on_every_ground():
    car = Thing("car", "red", "medium", 3, 2, "right")
    named = [cells.cell_kinds(Scene(8, 8, ground, (car,)))[3:6, 2:5] for ground in GROUNDS]
    shown = cells.thing_kinds(car)[1]
    assert all(np.array_equal(names[shown], named[0][shown]) for names in named)


@pytest.mark.parametrize("ratio", RATIOS)
def test_cells_of_ground_that_share_a_name_look_alike(ratio):
    rows, cols = RATIOS[ratio]
    for ground in GROUNDS:
        look = {}
        picture = draw_array(Scene(rows, cols, ground, ()))
        names = cells.ground_kinds(ground, rows, cols)
        for row, col in np.ndindex(rows, cols):
            cell = picture[row * CELL : (row + 1) * CELL, col * CELL : (col + 1) * CELL]
            first = look.setdefault(names[row, col], cell.astype(int))
            assert np.abs(first - cell).max() <= 1


def test_every_name_has_a_vector_of_its_own():
    vectors = cells.kind_vectors(40)
    assert len(vectors) == cells.kind_count() == len(np.unique(vectors.round(2), axis=0))


def test_the_last_frame_of_a_moment_is_its_picture():
    clip = random_clip(np.random.default_rng(3))
    frames = frames_of(clip)
    for number, scene in enumerate(clip.moments):
        np.testing.assert_array_equal(frames[4 * number + 3], draw_array(scene))
    np.testing.assert_array_equal(frames[0], frames[3])


def places(thing: Thing, verb: str, way: int, ground: str, moments: int) -> list[tuple]:
    clip = motion.run(Scene(8, 8, ground, (thing,)), (Moving(0, verb, way),), moments)
    return [(s.things[0].row, s.things[0].col, s.things[0].facing) for s in clip.moments]


def test_what_goes_turns_round_at_the_edge():
    car = Thing("car", "red", "small", 4, 1)
    assert places(car, "go", -1, "day", 4) == [
        (4, 1, "left"),
        (4, 0, "left"),
        (4, 1, "right"),
        (4, 2, "right"),
    ]


def test_a_ball_bounces_for_ever_and_a_balloon_stays_at_the_top():
    ball = Thing("circle", "blue", "small", 0, 3)
    assert [row for row, _, _ in places(ball, "bounce", 1, "day", 7)] == [0, 2, 4, 2, 0, 2, 4]
    balloon = Thing("balloon", "red", "small", 2, 3)
    assert [row for row, _, _ in places(balloon, "rise", -1, "day", 5)] == [2, 1, 0, 0, 0]
    sun = Thing("sun", "yellow", "small", 1, 3)
    assert [row for row, _, _ in places(sun, "rise", -1, "day", 6)] == [1, 0, 1, 2, 3, 2]


def test_an_extended_clip_goes_on_as_one_that_was_never_cut():
    rng = np.random.default_rng(5)
    for _ in range(20):
        clip = random_clip(rng, moments=3)
        whole = extended(clip, 4).moments
        again = clip
        for _ in range(4):
            again = extended(again, 1)
        assert again.moments == whole and whole[:3] == clip.moments


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_the_judge_reads_what_was_drawn(blur):
    wrong = 0
    for scene in scenes(12, seed=9, split="any", palette=FULL):
        picture = ndimage.gaussian_filter(draw_array(scene).astype(float), (blur, blur, 0))
        seen = read(np.round(picture).astype(np.uint8))
        facts = [(*t.look, t.facing) for t in scene.things]
        wrong += seen.ground != scene.ground
        wrong += [(t.kind, t.colour, t.size, t.facing) for t in seen.things] != facts
    assert wrong <= 1


def test_a_clip_is_named_moment_by_moment():
    clip = random_clip(np.random.default_rng(1))
    names = cells.clip_kinds(clip.moments)
    assert names.shape == (4, 8, 8)
    np.testing.assert_array_equal(names[2], cells.cell_kinds(clip.moments[2]))
    assert Clip(clip.moments, ()).frames == 16


def test_painted_names_are_read_as_the_scene_they_are_of():
    for scene in scenes(12):
        assert same(read(painted(cells.cell_kinds(scene))), read(draw_array(scene)))
