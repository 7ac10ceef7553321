"""Names of cells as the picture they name: what a vision tokenizer without fault would draw."""

from functools import cache

import numpy as np

from train.mini.world.cells import forms, ground_kinds, pattern_count, thing_kinds
from train.mini.world.grounds import GROUNDS, ground_array
from train.mini.world.palette import CELL, COLOURS, SIZES
from train.mini.world.scenes import Thing
from train.mini.world.things import sprite


def painted(names: np.ndarray) -> np.ndarray:
    """The picture uint8 (CELL * rows, CELL * cols, 3) of names (rows, cols).

    Behind things lies the ground that most of the other cells name; what a cell names is drawn
    whatever the cells beside it are.
    """
    canvas = ground_array(_ground_of(names), *names.shape).copy()
    for (row, col), name in np.ndenumerate(names):
        box = canvas[row * CELL : (row + 1) * CELL, col * CELL : (col + 1) * CELL]
        if name < pattern_count():
            box[:] = _pattern(int(name))
        else:
            tile = _tile(int(name))
            box *= 1 - tile[..., 3:]
            box += tile[..., :3]
    return np.round(canvas).astype(np.uint8)


def _ground_of(names: np.ndarray) -> str:
    """The ground that most cells agree with."""
    return max(GROUNDS, key=lambda ground: (ground_kinds(ground, *names.shape) == names).sum())


@cache
def _pattern(name: int) -> np.ndarray:
    """A cell (CELL, CELL, 3) of ground."""
    rows, cols = 12, 8
    for ground in GROUNDS:
        for row, col in np.argwhere(ground_kinds(ground, rows, cols) == name)[:1]:
            return _cell(ground_array(ground, rows, cols), row, col)
    raise ValueError(f"no ground shows {name}")


@cache
def _tile(name: int) -> np.ndarray:
    """A cell (CELL, CELL, 4) of a thing, colour times alpha, and alpha."""
    kind, colour, facing, size, row, col = _shown()[name]
    return _cell(sprite(kind, colour, SIZES[size] * CELL, facing), row, col)


@cache
def _shown() -> dict[int, tuple]:
    """Each name of a thing: a thing that shows it, and at which of its cells."""
    found: dict[int, tuple] = {}
    for kind, facing in forms():
        for colour in COLOURS:
            for size in SIZES:
                names, shown = thing_kinds(Thing(kind, colour, size, 0, 0, facing))
                for row, col in np.argwhere(shown):
                    found.setdefault(int(names[row, col]), (kind, colour, facing, size, row, col))
    return found


def _cell(picture: np.ndarray, row: int, col: int) -> np.ndarray:
    return picture[row * CELL : (row + 1) * CELL, col * CELL : (col + 1) * CELL]
