"""Scenes as other hands would draw them: off the grid, other lines and tints, other paper.

The vision tokenizer learns to see in them what it would see in ours, so that a person's own
drawing is understood. Names are those of the scene on the grid.
"""

import numpy as np
from PIL import Image

from train.mini.world.draw import lay
from train.mini.world.grounds import ground_array
from train.mini.world.palette import CELL, COLOURS, Rgb, mixed
from train.mini.world.scenes import Scene, Thing
from train.mini.world.things import INK, KINDS, picture, shrunk

AWAY = 7  # pixels off the grid: less than half a cell
GROWN = (0.87, 1.13)
# What programs mean by the names of our colours.
PURE: dict[str, Rgb] = {
    "red": (255, 0, 0),
    "orange": (255, 165, 0),
    "yellow": (255, 255, 0),
    "green": (0, 128, 0),
    "blue": (0, 0, 255),
    "purple": (128, 0, 128),
    "brown": (139, 69, 19),
    "white": (255, 255, 255),
    "pink": (255, 192, 203),
}
BLANK = 0.6  # share of plain grounds that are a sheet of any light tint


def by_another_hand(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The scene as someone else would draw it: uint8 (h, w, 3)."""
    canvas = _paper(scene, rng)
    edged = int(rng.integers(3))  # our outlines, none, or ink
    for thing in scene.things:
        _lay_another(canvas, thing, edged, rng)
    canvas += rng.normal(0, rng.choice([0, 0, 3]), canvas.shape)
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8)


def _paper(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    canvas = ground_array(scene.ground, scene.rows, scene.cols).copy()
    if scene.ground == "plain" and rng.random() < BLANK:
        tint = rng.uniform(215, 256, 3) if rng.random() < 0.5 else np.full(3, 255.0)
        if not any(thing.colour == "white" for thing in scene.things):
            canvas[:] = tint
    return canvas


def _lay_another(canvas: np.ndarray, thing: Thing, edged: int, rng: np.random.Generator) -> None:
    colour = mixed(COLOURS[thing.colour], PURE[thing.colour], float(rng.random()))
    colour = tuple(int(np.clip(level + rng.integers(-14, 15), 0, 255)) for level in colour)
    edge = (None, colour, INK)[edged]
    if thing.colour == "white" and edged == 1:
        edge = None  # white without an outline cannot be seen
    side = round(thing.side * CELL * rng.uniform(*GROWN))
    drawn: Image.Image = picture(thing.kind, colour, edge)
    mirrored = thing.facing == "right" and KINDS[thing.kind].faces
    off = (thing.side * CELL - side) // 2
    top, left = (
        v * CELL + off + int(rng.integers(-AWAY, AWAY + 1)) for v in (thing.row, thing.col)
    )
    top = min(max(top, 0), canvas.shape[0] - side)
    left = min(max(left, 0), canvas.shape[1] - side)
    lay(canvas, shrunk(drawn, side, mirrored), top, left)
