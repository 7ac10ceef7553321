"""What a perfect model of scenes would expect of each cell: targets without chance in them.

Where a shape may stand is mostly free, so the cell that a drawn scene shows next is a noisy target.
But all scenes that a caption allows can be counted. Given the cells so far, the next one is ground
or the first tile of a shape with exactly known probabilities, and those are the targets here, as in
distillation (Hinton et al. 2015, arXiv 1503.02531) from a teacher that is no network. Inside a
shape that has begun, the scene's own cell is the target.

Scenes count the more, the sooner their shapes begin: who fills a picture row by row and puts a
shape off must know the last cell that has room for it, and a sampler that prefers likely tokens
would put it off again and again.

A state of a fact is a size and a place that it allows; f and g are facts not yet seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations

import numpy as np

from train.mini.cells import GROUNDS, cell_kinds, first_tile
from train.mini.language.facts import Facts, ShapeFact, clear_place
from train.mini.scenes import GAP, MARGIN, MOST_SHAPES, SIZES, Ground, Scene, Shape, relation

# Weight of a scene that shows two shapes in the other order than the caption names them.
OUT_OF_ORDER = 0.1
# A state at the last cell its fact allows has exp(-EARLY) of the weight of one at the first.
EARLY = 20.0
CANDIDATES = 1 + MOST_SHAPES * len(SIZES)


@dataclass(frozen=True)
class States:
    """The n states of a fact: shapes, and of each the cell it begins at, number of its size and
    weight; by size the id of the first tile."""

    shapes: tuple[Shape, ...]
    start: np.ndarray
    size: np.ndarray
    weight: np.ndarray
    tiles: tuple[int, ...]


def targets(scene: Scene, facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """Cell kinds and their probabilities, (cells, CANDIDATES) int32 and float32 each.

    The first candidate is what the scene shows if the cell is none of the others. A kind has its
    whole probability at one candidate. `facts` must be true of the scene. For "a star" in a row of
    four cells, where a star in the last one is unlikely:

        scene     ground        ground        star          ground
        targets   star .4       star .5       star .8       ground 1
                  ground .6     ground .5     ground .2
    """
    kinds = cell_kinds(scene).ravel()
    ids = np.repeat(kinds[:, None], CANDIDATES, 1)
    shares = np.zeros(ids.shape, np.float32)
    shares[:, 0] = 1
    ground = GROUNDS.index(scene.ground)
    began = 0
    for states, weights, start in _phases(scene, facts):
        tiles, by_cell = _by_first_tile(states, weights, len(kinds))
        total = np.cumsum(by_cell.sum(0)[::-1])[::-1]  # of what begins here or later
        cells = np.arange(began, start + 1)
        cells = cells[((kinds[cells] == ground) | (cells == start)) & (total[cells] > 0)]
        begins = by_cell[:, cells] / total[cells]
        ids[cells, 0], ids[cells, 1 : 1 + len(tiles)] = ground, tiles
        shares[cells, 0] = np.maximum(0, 1 - begins.sum(0))
        shares[cells, 1 : 1 + len(tiles)] = begins.T
        began = start + 1
    return ids, shares


def redrawn(scene: Scene, facts: Facts, rng: np.random.Generator, sharpness: float = 1.0) -> Scene:
    """Another scene that the facts allow, by the teacher's own chances; the ground stays.

    Weights of early places are taken to the power `sharpness`: above 1 shapes begin still sooner.
    """
    states = [_states(f, scene.rows, scene.cols) for f in facts.shapes]
    base, left, shapes = [s.weight**sharpness for s in states], list(range(facts.count)), []
    while left:
        weights = [_next(f, [g for g in left if g != f], base, facts, scene) for f in left]
        flat = np.concatenate(weights)
        number = rng.choice(len(flat), p=flat / flat.sum())
        ends = np.cumsum([len(w) for w in weights])
        f = left[int(np.searchsorted(ends, number, "right"))]
        at = number - ends[left.index(f)] + len(states[f].shapes)
        shapes.append(replace(states[f].shapes[at], colour=facts.shapes[f].colour))
        left.remove(f)
        for g in left:
            base[g] = base[g] * _pair(facts, f, g, scene.rows, scene.cols)[at]
    return replace(scene, shapes=tuple(shapes))


def _by_first_tile(
    states: list[States], weights: list[np.ndarray], cells: int
) -> tuple[list[int], np.ndarray]:
    """First tiles of the facts' sizes, and the weight (tiles, cells) to begin there with each."""
    rows: dict[int, np.ndarray] = {}
    for s, weight in zip(states, weights):
        for size, tile in enumerate(s.tiles):
            begins = np.bincount(s.start, np.where(s.size == size, weight, 0), cells)
            rows[tile] = rows.get(tile, 0) + begins
    return list(rows), np.stack(list(rows.values()))


def _phases(scene: Scene, facts: Facts) -> Iterator[tuple[list[States], list[np.ndarray], int]]:
    """For each shape in the order of their first cells: the facts not seen before it with the
    weight of each state to come next, and the cell at which the shape begins."""
    states = [_states(f, scene.rows, scene.cols) for f in facts.shapes]
    shown = _assignment(scene, facts)
    at = [s.shapes.index(_plain(shape)) for s, shape in zip(states, shown)]
    order = sorted(range(facts.count), key=lambda f: states[f].start[at[f]])
    base = [s.weight for s in states]
    for k, seen in enumerate(order):
        left = sorted(order[k:])
        weights = [_next(f, [g for g in left if g != f], base, facts, scene) for f in left]
        yield [states[f] for f in left], weights, int(states[seen].start[at[seen]])
        for f in left:
            if f != seen:
                base[f] = base[f] * _pair(facts, seen, f, scene.rows, scene.cols)[at[seen]]


def _next(f: int, others: list[int], base: list, facts: Facts, scene: Scene) -> np.ndarray:
    """Weight of each state of fact f as the next to begin, over all that may follow."""
    size = scene.rows, scene.cols
    after = [_pair(facts, f, g, *size) * base[g] for g in others]
    if not others:
        return base[f]
    if len(others) == 1:
        return base[f] * after[0].sum(1)
    between = _pair(facts, *others, *size) + _pair(facts, *others[::-1], *size).T
    return base[f] * ((after[0] @ between) * after[1]).sum(1)


def _pair(facts: Facts, f: int, g: int, rows: int, cols: int) -> np.ndarray:
    """(n_f, n_g): weight of a state of f and one of g that begins later; 0 where both cannot be."""
    stated = [(name, (i, j) == (f, g)) for i, name, j in facts.relations if {i, j} == {f, g}]
    weight = 1.0 if f < g else OUT_OF_ORDER
    parts = [_place_of(facts.shapes[i]) for i in (f, g)]
    return weight * _together(*parts, tuple(stated), rows, cols)


def _place_of(fact: ShapeFact) -> ShapeFact:
    """The fact without its colour, which no geometry depends on."""
    return ShapeFact(fact.kind, None, fact.size, fact.row, fact.col)


@lru_cache(maxsize=3000)
def _together(a: ShapeFact, b: ShapeFact, stated: tuple, rows: int, cols: int) -> np.ndarray:
    first, second = _states(a, rows, cols), _states(b, rows, cols)
    y, x, side = (np.array(v)[:, None] for v in _geometry(first))
    v, u, other = (np.array(w)[None] for w in _geometry(second))
    gap = np.maximum(
        np.maximum(y, v) - np.minimum(y + side, v + other),
        np.maximum(x, u) - np.minimum(x + side, u + other),
    )
    fits = (gap >= GAP) & (second.start[None] > first.start[:, None])
    dy = (y + side / 2) - (v + other / 2)
    dx = (x + side / 2) - (u + other / 2)
    for name, forward in stated:
        sign = 1 if forward else -1
        along, across = (dy, dx) if name in ("above", "below") else (dx, dy)
        wanted = -1 if name in ("above", "left of") else 1
        fits &= (np.abs(along) - np.abs(across) >= MARGIN) & (np.sign(along) * sign == wanted)
    return fits.astype(np.float32)


def _geometry(states: States) -> tuple[list[int], list[int], list[int]]:
    return tuple(zip(*((s.row, s.col, s.side) for s in states.shapes)))


def _plain(shape: Shape) -> Shape:
    return Shape(shape.kind, "", shape.size, shape.row, shape.col)


def _states(fact: ShapeFact, rows: int, cols: int) -> States:
    """The states of a fact in a picture of so many cells."""
    found = _uncoloured(_place_of(fact), rows, cols)
    names = [fact.size] if fact.size else list(SIZES)
    tiles = (
        tuple(first_tile(fact.kind, name, fact.colour)[0] for name in names) if fact.colour else ()
    )
    return replace(found, tiles=tiles)


@lru_cache(maxsize=3000)
def _uncoloured(fact: ShapeFact, rows: int, cols: int) -> States:
    blank = Scene(rows, cols, Ground("white", "plain"), ())
    shapes, start, size = [], [], []
    names = [fact.size] if fact.size else list(SIZES)
    for number, name in enumerate(names):
        side = SIZES[name]
        _, down, right = first_tile(fact.kind, name, "red")
        for row, col in np.ndindex(max(0, rows - side + 1), max(0, cols - side + 1)):
            shape = Shape(fact.kind, "", name, row, col)
            y, x = clear_place(shape, blank)
            if fact.row in (None, y) and fact.col in (None, x):
                shapes.append(shape)
                start.append((row + down) * cols + col + right)
                size.append(number)
    cells, rank = np.unique(np.array(start, int), return_inverse=True)
    weight = np.exp(-EARLY * rank / max(1, len(cells) - 1))
    return States(tuple(shapes), np.array(start, int), np.array(size, int), weight, ())


def _assignment(scene: Scene, facts: Facts) -> tuple[Shape, ...]:
    """The scene's shapes in the order of the facts."""
    for shapes in permutations(scene.shapes):
        if all(_true(f, s, scene) for f, s in zip(facts.shapes, shapes)) and all(
            relation(shapes[i], shapes[j]) == name for i, name, j in facts.relations
        ):
            return shapes
    raise ValueError(f"{facts} is not true of {scene}")


def _true(fact: ShapeFact, shape: Shape, scene: Scene) -> bool:
    row, col = clear_place(shape, scene)
    pairs = [(fact.kind, shape.kind), (fact.colour, shape.colour), (fact.size, shape.size)]
    pairs += [(fact.row, row), (fact.col, col)]
    return all(stated in (None, true) for stated, true in pairs)
