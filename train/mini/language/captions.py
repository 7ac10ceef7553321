"""What a caption says: which facts, in which order, in which layout. Words live per language."""

from dataclasses import replace

import numpy as np

from train.mini.language.facts import Facts, ShapeFact, clear_place
from train.mini.scenes import Scene, Shape, relation

SHUFFLED = 0.3  # share of captions whose shapes stand in any order
VERTICAL = ("above", "below")


def plan_caption(scene: Scene, rng: np.random.Generator) -> tuple[Facts, str]:
    """Choose facts and a layout; shapes stand in the order of their mention.

    That is mostly their order in the picture, row by row, and always so where nothing else is said
    of where they are: the first one named is then the first one drawn. "Below" turns it round.

    Layouts: "list" (nothing but the shapes), "places" (at least one shape with its place),
    "relation" (shape 0 to shape 1; a third shape is added, perhaps with its place) and
    "chain" (shape 0 to shape 1 and to shape 2).
    """
    in_order = sorted(scene.shapes, key=lambda shape: (shape.row, shape.col))
    shapes = in_order
    if rng.random() < SHUFFLED:
        shapes = [in_order[i] for i in rng.permutation(len(in_order))]
    layout = _layout(shapes, scene, rng)
    if layout == "list":
        shapes = in_order
    elif layout == "relation" and relation(*shapes[:2]) in VERTICAL and rng.random() < 0.5:
        shapes = [shapes[1], shapes[0], *shapes[2:]]
    facts = _with_sizes([ShapeFact(s.kind, s.colour) for s in shapes], shapes, rng)
    if layout == "places":
        facts = [_placed(f, s, scene, rng) for f, s in zip(facts, shapes)]
    if layout == "relation" and len(shapes) == 3 and rng.random() < 0.6:
        facts[2] = _placed(facts[2], shapes[2], scene, rng)
    others = {"relation": (1,), "chain": (1, 2)}.get(layout, ())
    relations = tuple((0, relation(shapes[0], shapes[i]), i) for i in others)
    ground = scene.ground if rng.random() < 0.3 else None
    return Facts(tuple(facts), relations, ground), layout


def _layout(shapes: list[Shape], scene: Scene, rng: np.random.Generator) -> str:
    weights = {"list": 1.0}
    if any(_placings(s, scene) for s in shapes):
        weights["places"] = 2.0
    related = [relation(shapes[0], other) is not None for other in shapes[1:]]
    if related and related[0]:
        weights["relation"] = 3.0
    if len(related) == 2 and all(related):
        weights["chain"] = 1.0
    share = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=share / share.sum()))


def _with_sizes(
    facts: list[ShapeFact], shapes: list[Shape], rng: np.random.Generator
) -> list[ShapeFact]:
    chance = rng.choice([0.0, 1.0, 0.5], p=[0.4, 0.4, 0.2])
    return [replace(f, size=s.size) if rng.random() < chance else f for f, s in zip(facts, shapes)]


def _placed(fact: ShapeFact, shape: Shape, scene: Scene, rng: np.random.Generator) -> ShapeFact:
    options = _placings(shape, scene)
    if not options:
        return fact
    row, col = options[rng.integers(len(options))]
    return replace(fact, row=row, col=col)


def _placings(shape: Shape, scene: Scene) -> list[tuple[str | None, str | None]]:
    """The (row, col) statements that are clearly true and have a plain name."""
    row, col = clear_place(shape, scene)
    if row == col == "middle":
        return [(row, col)]
    rows, cols = row in ("top", "bottom"), col in ("left", "right")
    options = [(row, col)] * 2 if rows and cols else []
    return options + [(row, None)] * rows + [(None, col)] * cols
