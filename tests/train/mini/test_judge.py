"""The judge reads drawn scenes, also soft and noisy ones, and is not lenient."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from train.mini.drawing import draw
from train.mini.judge import check, read, same
from train.mini.language import all_facts, caption
from train.mini.scenes import COLOURS, FULL, KINDS, SIZES, Ground, Scene, Shape, random_scene

SCENE = Scene(
    rows=7,
    cols=7,
    ground=Ground("cream", "striped"),
    shapes=(
        Shape("star", "red", "medium", row=1, col=0),
        Shape("circle", "blue", "medium", row=5, col=0),
        Shape("square", "green", "small", row=5, col=5),
    ),
)


def soft_and_noisy(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur of one pixel, noise of 8 levels, JPEG of quality 30: about 26 dB."""
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(1)), np.float32)
    pixels = pixels + rng.normal(0, 8, pixels.shape)
    stored = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stored, "JPEG", quality=30)
    return Image.open(stored)


def test_drawn_scenes_are_read_completely():
    rng = np.random.default_rng(0)
    for _ in range(100):
        scene = random_scene(rng, "any", palette=FULL)
        reading = read(draw(scene))
        assert check(reading, all_facts(scene))["right"], scene
        assert sorted(s.centre for s in reading.shapes) == sorted(s.centre for s in scene.shapes)


def test_soft_and_noisy_scenes_are_read():
    rng = np.random.default_rng(1)
    scenes = [random_scene(rng, "any", palette=FULL) for _ in range(100)]
    pictures = (soft_and_noisy(draw(scene), rng) for scene in scenes)
    right = [check(p, all_facts(s))["right"] for p, s in zip(pictures, scenes)]
    assert sum(right) >= 98


def test_captions_hold_for_their_pictures():
    rng = np.random.default_rng(2)
    for _ in range(100):
        scene = random_scene(rng, "any")
        text, facts = caption(scene, rng, "en")
        verdict = check(draw(scene), facts)
        assert verdict["right"], (text, verdict)


@pytest.mark.parametrize("colour", [c for c in COLOURS if c != "red"])
def test_another_colour_is_seen(colour):
    verdict = check(_with_first(colour=colour), all_facts(SCENE))
    assert not verdict["right"]
    assert not verdict["colour"]


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "star"])
def test_another_kind_is_seen(kind):
    verdict = check(_with_first(kind=kind), all_facts(SCENE))
    assert not verdict["right"]
    assert not verdict["kind"]


@pytest.mark.parametrize("size", [s for s in SIZES if s != "medium"])
def test_another_size_is_seen(size):
    verdict = check(_with_first(size=size), all_facts(SCENE))
    assert not verdict["right"]
    assert not verdict["size"]


def test_swapped_colours_are_seen():
    star, circle, square = SCENE.shapes
    shapes = (replace(star, colour="blue"), replace(circle, colour="red"), square)
    assert not check(draw(replace(SCENE, shapes=shapes)), all_facts(SCENE))["right"]


def test_another_place_is_seen():
    verdict = check(_with_first(col=4), all_facts(SCENE))
    assert not verdict["right"]
    assert not verdict["place"]


def test_reversed_relation_is_seen():
    _, facts = _stating("star", "above", "circle")
    star, circle, square = SCENE.shapes
    shapes = (replace(star, row=5), replace(circle, row=1), square)
    assert check(draw(SCENE), facts)["right"]
    verdict = check(draw(replace(SCENE, shapes=shapes)), facts)
    assert not verdict["right"]
    assert not verdict["relation"]


def test_another_ground_is_seen():
    for ground in (Ground("cream", "plain"), Ground("white", "striped"), Ground("cream", "dotted")):
        verdict = check(draw(replace(SCENE, ground=ground)), all_facts(SCENE))
        assert not verdict["right"]
        assert not verdict["ground"]


def test_missing_and_extra_shapes_are_seen():
    extra = Shape("cross", "black", "small", row=1, col=5)
    for shapes in (SCENE.shapes[:2], (*SCENE.shapes, extra)):
        verdict = check(draw(replace(SCENE, shapes=shapes)), all_facts(SCENE))
        assert not verdict["right"]
        assert not verdict["count"]


def test_half_a_shape_has_no_kind():
    pixels = np.array(draw(SCENE))
    pixels[16:32, :32] = pixels[:16, :32]
    kinds = [s.kind for s in read(pixels).shapes if s.colour == "red"]
    assert kinds != ["star"]


def test_a_two_coloured_shape_has_no_colour():
    pixels = np.array(draw(SCENE))
    half = pixels[80:96, :32]
    half[(half == COLOURS["blue"]).all(-1)] = COLOURS["green"]
    assert None in [s.colour for s in read(pixels).shapes]


def test_same_compares_all_that_is_read():
    reading = read(draw(SCENE))
    noisy = soft_and_noisy(draw(SCENE), np.random.default_rng(3))
    assert same(reading, read(noisy))["right"]
    for change in ({"kind": "cross"}, {"colour": "pink"}, {"size": "large"}, {"row": 0}):
        assert not same(reading, read(_with_first(**change)))["right"]
    assert not same(reading, read(draw(replace(SCENE, shapes=SCENE.shapes[1:]))))["right"]


def _with_first(**changes) -> Image.Image:
    first, *rest = SCENE.shapes
    return draw(replace(SCENE, shapes=(replace(first, **changes), *rest)))


def _stating(kind: str, relation: str, other: str):
    rng = np.random.default_rng(4)
    while True:
        text, facts = caption(SCENE, rng, "en")
        kinds = [s.kind for s in facts.shapes[:2]]
        if facts.relations[:1] == ((0, relation, 1),) and kinds == [kind, other]:
            return text, facts
