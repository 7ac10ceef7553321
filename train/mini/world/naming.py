"""Reads names of cells back into ground and things: strict, and a thousand times as fast as pixels.

A thing is there when every cell that shows any of it has its name; whatever else differs from the
ground is a thing of no kind, so that a picture with one wrong cell is not right.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

from train.mini.world.cells import forms, ground_kinds, thing_kinds
from train.mini.world.grounds import GROUNDS
from train.mini.world.palette import COLOURS, SIZES
from train.mini.world.reading import Read, Reading
from train.mini.world.scenes import Thing


def read_names(names: np.ndarray) -> Reading:
    """Read names (rows, cols)."""
    rows, cols = names.shape
    ground = max(GROUNDS, key=lambda one: (ground_kinds(one, rows, cols) == names).sum())
    left = names != ground_kinds(ground, rows, cols)
    things = []
    for row, col in np.ndindex(rows, cols):
        if left[row, col]:
            thing = _thing_at(names, left, row, col)
            things.append(_unknown(row, col) if thing is None else _known(thing))
            for cell in [(row, col)] if thing is None else _shown_cells(thing):
                left[cell] = False
    ordered = sorted(things, key=lambda t: (t.centre[1], t.centre[0]))
    return Reading(rows, cols, ground, tuple(ordered))


def _known(thing: Thing) -> Read:
    return Read(
        thing.kind, thing.colour, thing.size, thing.facing, thing.centre, float(thing.side), 1.0
    )


def _unknown(row: int, col: int) -> Read:
    return Read(None, None, next(iter(SIZES)), "left", (row + 0.5, col + 0.5), 1.0, 0.0)


def _thing_at(names: np.ndarray, left: np.ndarray, row: int, col: int) -> Thing | None:
    """The thing of most cells that is whole and shows in this cell."""
    whole = [
        thing
        for thing in _may_show(int(names[row, col]), row, col)
        if _is_whole(thing, names, left)
    ]
    return max(whole, key=lambda thing: len(_shown_cells(thing)), default=None)


def _may_show(name: int, row: int, col: int) -> Iterator[Thing]:
    for kind, colour, size, facing, down, across in _index().get(name, ()):
        if row >= down and col >= across:
            yield Thing(kind, colour, size, row - down, col - across, facing)


def _is_whole(thing: Thing, names: np.ndarray, left: np.ndarray) -> bool:
    rows, cols = names.shape
    if thing.base > rows or thing.col + thing.side > cols:
        return False
    box = slice(thing.row, thing.base), slice(thing.col, thing.col + thing.side)
    wanted, shown = _kinds(thing.kind, thing.colour, thing.size, thing.facing)
    return bool(((names[box] == wanted) & left[box])[shown].all())


def _shown_cells(thing: Thing) -> list[tuple[int, int]]:
    _, shown = _kinds(thing.kind, thing.colour, thing.size, thing.facing)
    return [(thing.row + r, thing.col + c) for r, c in np.argwhere(shown)]


@cache
def _kinds(kind: str, colour: str, size: str, facing: str) -> tuple[np.ndarray, np.ndarray]:
    return thing_kinds(Thing(kind, colour, size, 0, 0, facing))


@cache
def _index() -> dict[int, list[tuple]]:
    """Each name of a thing: the things that show it, and in which of their cells."""
    found: dict[int, list[tuple]] = {}
    for kind, facing in forms():
        for colour in COLOURS:
            for size in SIZES:
                names, shown = _kinds(kind, colour, size, facing)
                for row, col in np.argwhere(shown):
                    about = (kind, colour, size, facing, int(row), int(col))
                    found.setdefault(int(names[row, col]), []).append(about)
    return found
