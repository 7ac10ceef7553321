"""The teacher's targets against counting every scene that a caption allows."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from train.mini.cells import GROUNDS, cell_kinds, kind_count
from train.mini.language import caption
from train.mini.language.facts import Facts, ShapeFact, clear_place
from train.mini.scenes import SIZES, Ground, Scene, Shape, apart, random_scene, relation
from train.mini.teacher import EARLY, OUT_OF_ORDER, redrawn, targets

STATED = {
    "a size and no place": Facts((ShapeFact("circle", "red", "small"),)),
    "a place and no size": Facts((ShapeFact("star", "blue", None, "top", "left"),)),
    "two in any place": Facts(
        (ShapeFact("circle", "red", "small"), ShapeFact("square", "blue", "medium"))
    ),
    "a relation": Facts(
        (ShapeFact("circle", "red", "small"), ShapeFact("star", "green", "small")),
        ((0, "below", 1),),
    ),
    "two relations": Facts(
        (
            ShapeFact("circle", "red", "small"),
            ShapeFact("star", "green", "small"),
            ShapeFact("cross", "blue", "small", None, "left"),
        ),
        ((0, "right of", 1), (0, "below", 2)),
    ),
}
ROWS, COLS = 4, 4
GROUND = Ground("white", "plain")


def states(fact):
    sizes = [fact.size] if fact.size else list(SIZES)
    shapes = [Shape(fact.kind, fact.colour, s, *at) for s in sizes for at in np.ndindex(ROWS, COLS)]
    inside = [s for s in shapes if s.row + s.side <= ROWS and s.col + s.side <= COLS]
    blank = Scene(ROWS, COLS, GROUND, ())
    places = [clear_place(s, blank) for s in inside]
    return [
        s for s, (r, c) in zip(inside, places) if fact.row in (None, r) and fact.col in (None, c)
    ]


def begin(shape):
    kinds = cell_kinds(Scene(ROWS, COLS, GROUND, (shape,))).ravel()
    return int(np.flatnonzero(kinds >= len(GROUNDS))[0])


def allowed(facts):
    """Every scene that the facts allow, and its weight."""
    for shapes in product(*(states(f) for f in facts.shapes)):
        pairs = [(a, b) for i, a in enumerate(shapes) for b in shapes[:i]]
        stated = all(relation(shapes[i], shapes[j]) == n for i, n, j in facts.relations)
        if stated and all(apart(a, b) for a, b in pairs):
            late = sum(begin(a) < begin(b) for a, b in pairs)
            early = np.prod([early_weight(f, s) for f, s in zip(facts.shapes, shapes)])
            yield Scene(ROWS, COLS, GROUND, shapes), OUT_OF_ORDER**late * early


def early_weight(fact, shape):
    cells = sorted({begin(s) for s in states(fact)})
    return np.exp(-EARLY * cells.index(begin(shape)) / max(1, len(cells) - 1))


def full(ids, shares):
    table = np.zeros((len(ids), kind_count()))
    np.add.at(table, (np.arange(len(ids))[:, None], ids), shares)
    return table


@pytest.mark.parametrize("name", STATED)
def test_targets_are_the_shares_of_all_scenes_that_are_still_possible(name):
    scenes, weights = zip(*allowed(STATED[name]))
    grids = np.array([cell_kinds(s).ravel() for s in scenes])
    weights = np.array(weights)
    for chosen in np.random.default_rng(0).integers(0, len(scenes), 8):
        table = full(*targets(scenes[chosen], STATED[name]))
        for cell in range(ROWS * COLS):
            possible = (grids[:, :cell] == grids[chosen, :cell]).all(1)
            shares = np.bincount(grids[possible, cell], weights[possible], kind_count())
            np.testing.assert_allclose(table[cell], shares / shares.sum(), atol=1e-5)


def test_redrawn_scenes_come_as_often_as_the_teacher_says():
    facts = STATED["a relation"]
    scenes, weights = zip(*allowed(facts))
    rng, drawn = np.random.default_rng(0), Counter()
    for _ in range(4000):
        drawn[cell_kinds(redrawn(scenes[0], facts, rng)).tobytes()] += 1
    for scene, share in zip(scenes, np.array(weights) / sum(weights)):
        spread = max(1.0, np.sqrt(4000 * share))
        assert abs(drawn.pop(cell_kinds(scene).tobytes(), 0) - 4000 * share) < 5 * spread
    assert not drawn


def test_every_scene_is_likely_under_its_own_caption():
    rng = np.random.default_rng(1)
    for language in ("en", "zh") * 100:
        scene = random_scene(rng, "any")
        _, facts = caption(scene, rng, language)
        scene = redrawn(scene, facts, rng)
        table = full(*targets(scene, facts))
        np.testing.assert_allclose(table.sum(1), 1, rtol=1e-4)
        assert table[np.arange(len(table)), cell_kinds(scene).ravel()].min() > 0


def test_facts_that_are_not_true_are_refused():
    scene = Scene(ROWS, COLS, GROUND, (Shape("circle", "red", "small", 0, 0),))
    with pytest.raises(ValueError, match="not true"):
        targets(scene, Facts((ShapeFact("circle", "blue"),)))
