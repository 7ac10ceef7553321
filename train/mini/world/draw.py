"""Scenes as pixels: sprites laid over their ground, on the grid of cells or anywhere."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from train.mini.world.grounds import ground_array
from train.mini.world.palette import CELL
from train.mini.world.scenes import Scene, Thing
from train.mini.world.things import sprite


@dataclass(frozen=True)
class Placed:
    """A thing at a place in pixels; `side` is its box's."""

    kind: str
    colour: str
    facing: str
    side: int
    top: int
    left: int


def placed(thing: Thing) -> Placed:
    """A thing of the grid in pixels."""
    return Placed(
        thing.kind,
        thing.colour,
        thing.facing,
        thing.side * CELL,
        thing.row * CELL,
        thing.col * CELL,
    )


def draw(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of (CELL * rows, CELL * cols) pixels."""
    return Image.fromarray(draw_array(scene))


def draw_array(scene: Scene) -> np.ndarray:
    """The scene as uint8 (CELL * rows, CELL * cols, 3)."""
    return compose(
        ground_array(scene.ground, scene.rows, scene.cols), [placed(t) for t in scene.things]
    )


def compose(ground: np.ndarray, things: list[Placed]) -> np.ndarray:
    """Things over a ground (h, w, 3): uint8 of the same shape. What lies outside is cut off."""
    canvas = ground.copy()
    for thing in things:
        lay(
            canvas,
            sprite(thing.kind, thing.colour, thing.side, thing.facing),
            thing.top,
            thing.left,
        )
    return np.round(canvas).astype(np.uint8)


def lay(canvas: np.ndarray, picture: np.ndarray, top: int, left: int) -> None:
    """Lay a sprite (side, side, 4) over a canvas (h, w, 3), in place."""
    (height, width), (tall, wide) = canvas.shape[:2], picture.shape[:2]
    first, last = max(top, 0), min(top + tall, height)
    start, stop = max(left, 0), min(left + wide, width)
    if first >= last or start >= stop:
        return
    seen = picture[first - top : last - top, start - left : stop - left]
    box = canvas[first:last, start:stop]
    box *= 1 - seen[..., 3:]
    box += seen[..., :3]
