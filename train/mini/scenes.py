"""Scenes the project draws itself: 1 to 3 coloured shapes on a plain or textured ground.

All lengths are in cells of 16x16 pixels, the patch one code of emu3-mini's vision tokenizer covers.
Shapes sit on whole cells, so equal shapes give equal patches and a small net can learn them.
"""

import zlib
from dataclasses import dataclass

import numpy as np

CELL = 16
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "orange": (245, 135, 20),
    "yellow": (250, 210, 30),
    "green": (40, 150, 60),
    "cyan": (40, 200, 210),
    "blue": (45, 80, 215),
    "purple": (130, 60, 180),
    "black": (25, 25, 30),
    "pink": (245, 120, 190),
}
KINDS = ("circle", "square", "triangle", "diamond", "star", "cross", "heart")
SIZES = {"small": 1, "medium": 2, "large": 3}
# name -> two light tones; a plain ground uses the first alone.
TONES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "white": ((252, 252, 252), (208, 210, 216)),
    "cream": ((250, 240, 214), (224, 204, 160)),
    "pale blue": ((212, 228, 246), (164, 190, 226)),
}
TEXTURES = ("plain", "striped", "dotted")
IMAGE_AREA = 112 * 112
# ratio -> rows, cols of the picture in cells; what the processor gives for IMAGE_AREA.
RATIOS = {"1:1": (7, 7), "4:3": (6, 8), "3:4": (8, 6), "16:9": (5, 9), "9:16": (9, 5)}
RATIO_SHARES = (0.4, 0.15, 0.15, 0.15, 0.15)
SMALL = {"4x4": (4, 4), "4x5": (4, 5), "5x4": (5, 4)}
RELATIONS = ("above", "below", "left of", "right of")
PLACE_TRIES = 20
MOST_SHAPES = 3
GAP = 1  # cells of ground between two shapes
MARGIN = 1.0  # cells by which one axis must dominate, for a relation to be clear


@dataclass(frozen=True)
class Palette:
    """The colours and kinds that scenes are drawn from."""

    colours: tuple[str, ...]
    kinds: tuple[str, ...]


FULL = Palette(tuple(COLOURS), KINDS)
# What emu3-mini's language model learns; fine-tuning teaches it the rest, which its vision
# tokenizer already knows.
BASE = Palette(FULL.colours[:-1], FULL.kinds[:-1])
NEW_COLOUR, NEW_KIND = FULL.colours[-1], FULL.kinds[-1]


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
    """A picture of `CELL * rows` x `CELL * cols` pixels with shapes that never touch.

    `palette` is what it was drawn from: questions about the scene ask after nothing else.
    """

    rows: int
    cols: int
    ground: Ground
    shapes: tuple[Shape, ...]
    palette: Palette = BASE


def relation(a: Shape, b: Shape, margin: float = MARGIN) -> str | None:
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
    """Whether "a `colour` `kind` `relation_name` something" never occurs in training.

    About 1 in 14 are held out so.
    """
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
    palette: Palette = BASE,
) -> Scene:
    """Draw a scene at random.

    Args:
        rng: the only source of chance.
        split: "train" (no held-out combination), "held_out" (at least one) or "any".
        ratio: a key of `RATIOS`, or of `SMALL` for a picture of few cells, on which a model learns
            sooner what belongs to what; None draws one of `RATIOS`, the square most often.
        count: number of shapes, 1 to 3; None draws it (held-out scenes have at least 2).
        palette: the colours and kinds to choose from.
    """
    while True:
        scene = _any_scene(rng, ratio, count, palette)
        if split == "any" or held_out(scene) == (split == "held_out"):
            return scene


def is_new(scene: Scene) -> bool:
    """Whether a shape has the colour or the kind that only fine-tuning teaches."""
    return any(s.colour == NEW_COLOUR or s.kind == NEW_KIND for s in scene.shapes)


def random_new_scene(
    rng: np.random.Generator, split: str = "train", ratio: str | None = None
) -> Scene:
    """As `random_scene`, with at least one shape of the new colour or kind."""
    while True:
        scene = random_scene(rng, split, ratio, palette=FULL)
        if is_new(scene):
            return scene


def _any_scene(
    rng: np.random.Generator, ratio: str | None, count: int | None, palette: Palette
) -> Scene:
    ratio = ratio or str(rng.choice(list(RATIOS), p=RATIO_SHARES))
    count = count or int(rng.choice([1, 2, 3], p=[0.3, 0.4, 0.3]))
    rows, cols = (RATIOS | SMALL)[ratio]
    while True:
        looks = [random_look(rng, palette) for _ in range(count)]
        shapes = place(rng, rows, cols, looks)
        if shapes is not None:
            return Scene(rows, cols, random_ground(rng), shapes, palette)


def random_ground(rng: np.random.Generator) -> Ground:
    """A tone and a texture, plain more often than not."""
    texture = rng.choice(TEXTURES, p=[0.5, 0.25, 0.25])
    return Ground(str(rng.choice(list(TONES))), str(texture))


def random_look(rng: np.random.Generator, palette: Palette) -> tuple[str, str, str]:
    """Kind, colour and size of a shape."""
    kind, colour = str(rng.choice(palette.kinds)), str(rng.choice(palette.colours))
    return kind, colour, str(rng.choice(list(SIZES)))


def place(
    rng: np.random.Generator, rows: int, cols: int, looks: list[tuple[str, str, str]]
) -> tuple[Shape, ...] | None:
    """Shapes that look so, each at a random place and a cell apart from every other.

    None when no room was found: three large shapes fit a square picture only.
    """
    for _ in range(PLACE_TRIES):
        shapes: list[Shape] = []
        for look in looks:
            side = SIZES[look[2]]
            places = np.ndindex(rows - side + 1, cols - side + 1)
            options = (Shape(*look, row, col) for row, col in places)
            free = [shape for shape in options if all(apart(shape, s) for s in shapes)]
            if not free:
                break
            shapes.append(free[rng.integers(len(free))])
        else:
            return tuple(shapes)
    return None


def apart(a: Shape, b: Shape) -> bool:
    """Whether a whole cell of ground lies between two bounding boxes."""
    gap_rows = max(a.row, b.row) - min(a.row + a.side, b.row + b.side)
    gap_cols = max(a.col, b.col) - min(a.col + a.side, b.col + b.side)
    return max(gap_rows, gap_cols) >= GAP
