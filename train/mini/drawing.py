"""Scenes as pixels: the ground is a pattern of cells, shapes are laid over it by their coverage."""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from train.mini.scenes import CELL, COLOURS, TONES, Ground, Scene


def draw(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of (CELL * rows, CELL * cols) pixels."""
    return Image.fromarray(draw_array(scene))


def draw_array(scene: Scene) -> np.ndarray:
    """The scene as uint8 (CELL * rows, CELL * cols, 3)."""
    tile = ground_tile(scene.ground)
    canvas = np.tile(tile, (scene.rows, scene.cols, 1)).astype(np.float32)
    for shape in scene.shapes:
        mask = shape_mask(shape.kind, shape.side * CELL)[..., None]
        top, left = shape.row * CELL, shape.col * CELL
        box = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
        box += mask * (np.array(COLOURS[shape.colour], np.float32) - box)
    return np.round(canvas).astype(np.uint8)


def foreground(scene: Scene) -> np.ndarray:
    """Coverage of the shapes, float32 in [0, 1], (CELL * rows, CELL * cols)."""
    cover = np.zeros((scene.rows * CELL, scene.cols * CELL), np.float32)
    for shape in scene.shapes:
        side = shape.side * CELL
        top, left = shape.row * CELL, shape.col * CELL
        cover[top : top + side, left : left + side] = shape_mask(shape.kind, side)
    return cover


@cache
def ground_tile(ground: Ground) -> np.ndarray:
    """One cell of the ground, uint8 (CELL, CELL, 3)."""
    first, second = (np.array(c, np.uint8) for c in TONES[ground.tone])
    y, x = np.mgrid[0:CELL, 0:CELL]
    pattern = {
        "plain": np.zeros((CELL, CELL), bool),
        "striped": y % 8 >= 4,
        "dotted": (y % 8 - 3.5) ** 2 + (x % 8 - 3.5) ** 2 < 5,
    }[ground.texture]
    return np.where(pattern[..., None], second, first)


@cache
def shape_mask(kind: str, side: int) -> np.ndarray:
    """Anti-aliased coverage of a shape in its box, float32 (side, side) in [0, 1]."""
    fine = 8
    image = Image.new("L", (side * fine, side * fine))
    pen = ImageDraw.Draw(image)
    points = [((1 + x) / 2 * side * fine, (1 + y) / 2 * side * fine) for x, y in _outline(kind)]
    if kind == "circle":
        pen.ellipse((fine // 2, fine // 2, side * fine - fine // 2, side * fine - fine // 2), 255)
    else:
        pen.polygon(points, 255)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32) / 255


def _outline(kind: str) -> list[tuple[float, float]]:
    """Corners in [-1, 1], x to the right and y down; empty for the circle."""
    if kind == "square":
        return [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]
    if kind == "triangle":
        return [(0, -0.96), (0.98, 0.9), (-0.98, 0.9)]
    if kind == "diamond":
        return [(0, -1), (0.78, 0), (0, 1), (-0.78, 0)]
    if kind == "cross":
        a, b = 0.34, 0.96
        right = [(a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b)]
        return right + [(-x, -y) for x, y in right]
    if kind == "star":
        angles = np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2 == 0, 1.06, 0.45)
        return [(float(r * np.sin(t)), float(0.08 - r * np.cos(t))) for r, t in zip(radii, angles)]
    if kind == "heart":
        t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return list(zip((0.96 * np.sin(t) ** 3).tolist(), (-(y + 2.5) / 15.2).tolist()))
    return []
