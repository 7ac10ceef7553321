"""What each cell of a scene shows: the small inventory that emu3-mini's codes name, one by one."""

from functools import cache

import numpy as np

from train.mini.drawing import shape_mask
from train.mini.scenes import CELL, COLOURS, KINDS, SIZES, TEXTURES, TONES, Ground, Scene

# Cells of shapes whose coverage differs by less, on the mean over their pixels, count as one.
ALIKE = 0.03
GROUNDS = tuple(Ground(tone, texture) for tone in TONES for texture in TEXTURES)


@cache
def tiles() -> np.ndarray:
    """Coverage of every distinct cell of the drawn shapes, (tiles, CELL, CELL); 0 is empty."""
    found = [np.zeros((CELL, CELL), np.float32)]
    for kind in KINDS:
        for cells in SIZES.values():
            for row, col in np.ndindex(cells, cells):
                tile = _tile(kind, cells, row, col)
                if np.abs(np.stack(found) - tile).mean((1, 2)).min() >= ALIKE:
                    found.append(tile)
    return np.stack(found)


def _tile(kind: str, cells: int, row: int, col: int) -> np.ndarray:
    mask = shape_mask(kind, cells * CELL)
    return mask[row * CELL : (row + 1) * CELL, col * CELL : (col + 1) * CELL]


@cache
def _shape_tiles(kind: str, cells: int) -> np.ndarray:
    parts = (_tile(kind, cells, row, col) for row, col in np.ndindex(cells, cells))
    nearest = [np.abs(tiles() - part).mean((1, 2)).argmin() for part in parts]
    return np.array(nearest).reshape(cells, cells)


def kind_count() -> int:
    """How many different things a cell can show."""
    return len(GROUNDS) + len(COLOURS) * (len(tiles()) - 1)


def cell_kinds(scene: Scene) -> np.ndarray:
    """What each cell shows, int32 (rows, cols): equal numbers look alike but for the ground.

    Below len(GROUNDS): that ground alone. Above: a tile of a shape in a colour, on any ground.
    """
    kinds = np.full((scene.rows, scene.cols), GROUNDS.index(scene.ground), np.int32)
    for shape in scene.shapes:
        part = _shape_tiles(shape.kind, shape.side)
        first = len(GROUNDS) + list(COLOURS).index(shape.colour) * (len(tiles()) - 1)
        box = kinds[shape.row : shape.row + shape.side, shape.col : shape.col + shape.side]
        box[part > 0] = (first + part - 1)[part > 0]
    return kinds


def first_tile(kind: str, size: str, colour: str) -> tuple[int, int, int]:
    """Cell kind of a shape's first cell in reading order that is not ground, its row and column."""
    part = _shape_tiles(kind, SIZES[size])
    row, col = np.argwhere(part > 0)[0]
    tile = int(part[row, col]) - 1
    return len(GROUNDS) + list(COLOURS).index(colour) * (len(tiles()) - 1) + tile, row, col


def kind_vectors(width: int) -> np.ndarray:
    """A vector for each kind, float32 (kinds, width), in which likeness is nearness.

    Colour (3), texture (2), shape or ground (1), and the principal components of the coverage,
    of which the smaller ones are raised.
    """
    coverage = tiles().reshape(len(tiles()), -1)
    centred = coverage - coverage.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    form = centred @ axes[: width - 6].T
    form = 1.2 * form / np.sqrt(form.std(0) * form.std())
    rows = []
    for ground in GROUNDS:
        texture = [float(ground.texture == name) * 2 for name in TEXTURES[1:]]
        rows.append([*_level(TONES[ground.tone][0]), *texture, -1.5, *form[0]])
    for colour in COLOURS.values():
        rows += [[*_level(colour), 0, 0, 1.5, *tile] for tile in form[1:]]
    return np.array(rows, np.float32)


def _level(colour: tuple[int, int, int]) -> np.ndarray:
    return np.array(colour) / 64 - 2
