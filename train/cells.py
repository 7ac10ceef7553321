"""What each cell of a scene shows: the small inventory that emu3-mini's codes have to name."""

from functools import cache

import numpy as np

from train.scenes import CELL, COLOURS, KINDS, SIZES, TEXTURES, TONES, Ground, Scene, shape_mask

GROUNDS = tuple(Ground(tone, texture) for tone in TONES for texture in TEXTURES)


@cache
def tiles() -> dict[bytes, int]:
    """Index of every distinct cell of the drawn shapes, by its coverage; 0 is the empty one."""
    found = {bytes(CELL * CELL * 4): 0}
    for kind in KINDS:
        for cells in SIZES.values():
            for row, col in np.ndindex(cells, cells):
                found.setdefault(_tile(kind, cells, row, col), len(found))
    return found


def _tile(kind: str, cells: int, row: int, col: int) -> bytes:
    mask = shape_mask(kind, cells * CELL)
    return mask[row * CELL : (row + 1) * CELL, col * CELL : (col + 1) * CELL].tobytes()


@cache
def _shape_tiles(kind: str, cells: int) -> np.ndarray:
    known = tiles()
    indices = [known[_tile(kind, cells, row, col)] for row, col in np.ndindex(cells, cells)]
    return np.array(indices).reshape(cells, cells)


def cell_kinds(scene: Scene) -> np.ndarray:
    """What each cell shows, int32 (rows, cols): equal numbers look alike but for the ground.

    Below len(GROUNDS): that ground alone. Above: a tile of a shape in a colour, on any ground.
    """
    kinds = np.full((scene.rows, scene.cols), GROUNDS.index(scene.ground), np.int32)
    for shape in scene.shapes:
        part = _shape_tiles(shape.kind, shape.side)
        colour = list(COLOURS).index(shape.colour)
        box = kinds[shape.row : shape.row + shape.side, shape.col : shape.col + shape.side]
        box[part > 0] = (len(GROUNDS) + colour * len(tiles()) + part)[part > 0]
    return kinds
