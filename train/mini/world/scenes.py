"""Scenes: things on a ground. Places are in cells, of which a picture has `rows` x `cols`.

What is kept out of training is stated here: which pairs and which single things never occur.
"""

import zlib
from dataclasses import dataclass, replace
from itertools import permutations

from train.mini.world.palette import SIZES
from train.mini.world.things import KINDS

AREA = 128 * 128
# ratio -> rows, cols of the picture in cells; what the processor gives for AREA.
RATIOS = {"1:1": (8, 8), "4:3": (7, 9), "3:4": (9, 7), "16:9": (6, 11), "9:16": (11, 6)}
# Pictures of few cells, on which a model sooner learns which word belongs to which thing.
SMALL = {"tiny": (5, 5), "small": (6, 6)}
RELATIONS = ("above", "below", "left of", "right of")
OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
MOST_THINGS = 3
ONE_OUT = 10  # one combination in so many never occurs in training


@dataclass(frozen=True)
class Thing:
    """One thing; `row`, `col` are the top-left cell of its square box."""

    kind: str
    colour: str
    size: str
    row: int
    col: int
    facing: str = "left"

    @property
    def side(self) -> int:
        """Side of its box in cells."""
        return SIZES[self.size]

    @property
    def centre(self) -> tuple[float, float]:
        """Centre (row, col) in cells."""
        return self.row + self.side / 2, self.col + self.side / 2

    @property
    def base(self) -> int:
        """The row below its box."""
        return self.row + self.side

    @property
    def look(self) -> tuple[str, str, str]:
        """Kind, colour and size."""
        return self.kind, self.colour, self.size

    def at(self, row: int, col: int) -> "Thing":
        """The same thing elsewhere."""
        return replace(self, row=row, col=col)


@dataclass(frozen=True)
class Scene:
    """A picture of things that do not overlap, from left to right.

    `placed`: whether chance did not put the things near the middle, so that a caption says where.
    """

    rows: int
    cols: int
    ground: str
    things: tuple[Thing, ...]
    placed: bool = False


def overlap(a: Thing, b: Thing, gap: int = 0) -> bool:
    """Whether two boxes overlap, or come nearer than `gap` cells."""
    rows = min(a.base, b.base) - max(a.row, b.row)
    cols = min(a.col + a.side, b.col + b.side) - max(a.col, b.col)
    return rows > -gap and cols > -gap


def fits(scene: Scene) -> bool:
    """Whether every thing lies inside the picture, a cell from every other."""
    inside = all(
        t.row >= 0 and t.col >= 0 and t.base <= scene.rows and t.col + t.side <= scene.cols
        for t in scene.things
    )
    return inside and not any(overlap(a, b, 1) for a, b in permutations(scene.things, 2))


def relation(a: Thing, b: Thing, margin: float = 1.0) -> str | None:
    """How `a` lies to `b` by the longer way between their centres; None if neither is longer.

    One way counts as longer by at least `margin` cells.
    """
    dy, dx = a.centre[0] - b.centre[0], a.centre[1] - b.centre[1]
    if abs(abs(dy) - abs(dx)) < margin:
        return None
    if abs(dy) > abs(dx):
        return "above" if dy < 0 else "below"
    return "left of" if dx < 0 else "right of"


def _out(*words: str) -> bool:
    return zlib.crc32(" ".join(words).encode()) % ONE_OUT == 0


def alone_held_out(thing: Thing, ground: str) -> bool:
    """Whether this thing never stands alone on this ground in training."""
    return _out(*thing.look, ground)


def pair_held_out(a: Thing, b: Thing) -> bool:
    """Whether a thing of `a`'s colour and kind never stands beside one of `b`'s kind."""
    return (a.kind, a.colour) != (b.kind, b.colour) and _out(a.colour, a.kind, b.kind)


def moving_held_out(kind: str, colour: str, verb: str) -> bool:
    """Whether things of this kind and colour never move so in training."""
    return _out(kind, colour, verb)


def held_out(scene: Scene) -> bool:
    """Whether the scene holds a combination that never occurs in training."""
    if len(scene.things) == 1:
        return alone_held_out(scene.things[0], scene.ground)
    return any(pair_held_out(a, b) for a, b in permutations(scene.things, 2))


def faces(kind: str) -> bool:
    """Whether things of this kind look to a side."""
    return KINDS[kind].faces
