"""Scenes the project draws itself: 1 to 3 coloured shapes on a plain or textured ground.

All lengths are in cells of 8x8 pixels, the patch one code of emu3-mini's vision tokenizer covers.
Shapes sit on whole cells, so equal shapes give equal patches and a small net can learn them.
"""

import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

CELL = 8
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "orange": (245, 135, 20),
    "yellow": (250, 210, 30),
    "green": (40, 150, 60),
    "cyan": (40, 200, 210),
    "blue": (45, 80, 215),
    "purple": (130, 60, 180),
    "pink": (245, 120, 190),
    "brown": (125, 75, 40),
    "black": (25, 25, 30),
}
KINDS = ("circle", "square", "triangle", "diamond", "star", "cross")
SIZES = {"small": 3, "medium": 4, "large": 5}
# name -> two light tones; a plain ground uses the first alone.
TONES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "white": ((252, 252, 252), (208, 210, 216)),
    "grey": ((216, 218, 222), (176, 178, 186)),
    "cream": ((250, 240, 214), (224, 204, 160)),
    "pale blue": ((212, 228, 246), (164, 190, 226)),
}
TEXTURES = ("plain", "striped", "checked", "dotted")
# ratio -> rows, cols of the picture in cells; what the processor gives for an area of 96*96.
RATIOS = {"1:1": (12, 12), "4:3": (10, 14), "3:4": (14, 10), "16:9": (9, 16), "9:16": (16, 9)}
RELATIONS = ("above", "below", "left of", "right of")
SPLITS = ("train", "held_out", "any")


@dataclass(frozen=True)
class Shape:
    """One shape; `row`, `col` are the top-left cell of its square bounding box."""

    kind: str
    colour: str
    size: str
    row: int
    col: int

    @property
    def side(self) -> int:
        """Side of the bounding box in cells."""
        return SIZES[self.size]

    @property
    def centre(self) -> tuple[float, float]:
        """Centre (row, col) in cells."""
        return self.row + self.side / 2, self.col + self.side / 2


@dataclass(frozen=True)
class Ground:
    """What lies behind the shapes: a tone of `TONES` and a texture of `TEXTURES`."""

    tone: str
    texture: str


@dataclass(frozen=True)
class Scene:
    """A picture of `8 * rows` x `8 * cols` pixels with shapes that never touch."""

    rows: int
    cols: int
    ground: Ground
    shapes: tuple[Shape, ...]


def relation(a: Shape, b: Shape, margin: float = 1.0) -> str | None:
    """How `a` lies to `b`, by the dominant axis of their centres.

    None when the axes differ by less than `margin` cells, so that neither dominates.
    """
    dy, dx = a.centre[0] - b.centre[0], a.centre[1] - b.centre[1]
    if abs(abs(dy) - abs(dx)) < margin:
        return None
    if abs(dy) > abs(dx):
        return "above" if dy < 0 else "below"
    return "left of" if dx < 0 else "right of"


def combination_held_out(kind: str, colour: str, relation_name: str) -> bool:
    """Whether "a `colour` `kind` `relation_name` something" never occurs in training (1 in 8)."""
    return zlib.crc32(f"{colour} {kind} {relation_name}".encode()) % 8 == 0


def held_out(scene: Scene) -> bool:
    """Whether any shape of the scene stands in a held-out combination to another."""
    pairs = ((a, b) for a in scene.shapes for b in scene.shapes if a is not b)
    named = ((a, relation(a, b)) for a, b in pairs)
    return any(name and combination_held_out(a.kind, a.colour, name) for a, name in named)


def random_scene(
    rng: np.random.Generator,
    split: str = "train",
    ratio: str | None = None,
    count: int | None = None,
) -> Scene:
    """Draw a scene at random.

    Args:
        rng: the only source of chance.
        split: "train" (no held-out combination), "held_out" (at least one) or "any".
        ratio: a key of `RATIOS`; None draws one, square pictures most often.
        count: number of shapes, 1 to 3; None draws it (held-out scenes have at least 2).
    """
    while True:
        scene = _any_scene(rng, ratio, count)
        if split == "any" or held_out(scene) == (split == "held_out"):
            return scene


def _any_scene(rng: np.random.Generator, ratio: str | None, count: int | None) -> Scene:
    ratio = ratio or str(rng.choice(list(RATIOS), p=[0.4, 0.15, 0.15, 0.15, 0.15]))
    count = count or int(rng.choice([1, 2, 3], p=[0.3, 0.4, 0.3]))
    rows, cols = RATIOS[ratio]
    ground = Ground(str(rng.choice(list(TONES))), str(rng.choice(TEXTURES, p=[0.55] + [0.15] * 3)))
    while True:
        shapes: list[Shape] = []
        for _ in range(count * 8):
            shape = _random_shape(rng, rows, cols)
            if all(_apart(shape, other) for other in shapes):
                shapes.append(shape)
            if len(shapes) == count:
                return Scene(rows, cols, ground, tuple(shapes))


def _random_shape(rng: np.random.Generator, rows: int, cols: int) -> Shape:
    size = str(rng.choice(list(SIZES)))
    side = SIZES[size]
    return Shape(
        kind=str(rng.choice(KINDS)),
        colour=str(rng.choice(list(COLOURS))),
        size=size,
        row=int(rng.integers(0, rows - side + 1)),
        col=int(rng.integers(0, cols - side + 1)),
    )


def _apart(a: Shape, b: Shape) -> bool:
    """Whether a whole cell of ground lies between two bounding boxes."""
    gap_rows = max(a.row, b.row) - min(a.row + a.side, b.row + b.side)
    gap_cols = max(a.col, b.col) - min(a.col + a.side, b.col + b.side)
    return max(gap_rows, gap_cols) >= 1


def draw(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of (8 * rows, 8 * cols) pixels."""
    return Image.fromarray(draw_array(scene))


def draw_array(scene: Scene) -> np.ndarray:
    """The scene as uint8 (8 * rows, 8 * cols, 3)."""
    tile = ground_tile(scene.ground)
    canvas = np.tile(tile, (scene.rows, scene.cols, 1)).astype(np.float32)
    for shape in scene.shapes:
        mask = shape_mask(shape.kind, shape.side * CELL)[..., None]
        top, left = shape.row * CELL, shape.col * CELL
        box = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
        box += mask * (np.array(COLOURS[shape.colour], np.float32) - box)
    return np.round(canvas).astype(np.uint8)


def foreground(scene: Scene) -> np.ndarray:
    """Coverage of the shapes, float32 in [0, 1], (8 * rows, 8 * cols)."""
    cover = np.zeros((scene.rows * CELL, scene.cols * CELL), np.float32)
    for shape in scene.shapes:
        side = shape.side * CELL
        top, left = shape.row * CELL, shape.col * CELL
        cover[top : top + side, left : left + side] = shape_mask(shape.kind, side)
    return cover


@cache
def ground_tile(ground: Ground) -> np.ndarray:
    """One 8x8 cell of the ground, uint8 (8, 8, 3)."""
    first, second = (np.array(c, np.uint8) for c in TONES[ground.tone])
    y, x = np.mgrid[0:CELL, 0:CELL]
    pattern = {
        "plain": np.zeros((CELL, CELL), bool),
        "striped": y >= 4,
        "checked": (y >= 4) ^ (x >= 4),
        "dotted": (y - 3.5) ** 2 + (x - 3.5) ** 2 < 5,
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
    return []
