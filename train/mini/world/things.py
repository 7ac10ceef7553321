"""The kinds of things: what each looks like, where it belongs, which way it moves.

A thing is drawn in a square box of 100 by 100 units, x to the right and y down, large and then
made small, so that edges are smooth at every size. Its colour is that of its body; windows,
wheels and trunks keep their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw

from train.mini.world.palette import COLOURS, NEW_KIND, Rgb, dark, light, mixed

FINE = 512  # pixels along a side while drawing
LINE = 3.4  # units
INK: Rgb = (52, 50, 72)
GLASS: Rgb = (255, 240, 178)
WOOD: Rgb = (132, 88, 60)
SNOW: Rgb = (255, 255, 255)
LEAF: Rgb = (72, 160, 84)

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Kind:
    """A kind of thing.

    Attributes:
        home: "land", "sea", "water" (below its surface), "sky" or "any".
        natural: its usual colours, the first the most usual.
        paint: draws it with a `Pen`.
        faces: whether it looks to a side, so that it comes in two mirrored forms.
        moves: verbs of `train.mini.world.motion` that it can do.
    """

    home: str
    natural: tuple[str, ...]
    paint: Callable[["Pen"], None]
    faces: bool = False
    moves: tuple[str, ...] = ()


class Pen:
    """Draws in units of a box, in the shades of one colour; `edge` is that of outlines."""

    def __init__(self, colour: Rgb, edge: Rgb | None = None) -> None:
        self.body, self.light, self.dark = colour, light(colour), edge or dark(colour)
        self.image = Image.new("RGBA", (FINE, FINE), (*self.dark, 0))
        self.draw = ImageDraw.Draw(self.image)

    def blob(self, points: Points, fill: Rgb, edge: Rgb | None = None, line: float = LINE) -> None:
        """A polygon with rounded corners of line."""
        scaled = [(x * FINE / 100, y * FINE / 100) for x, y in points]
        self.draw.polygon(scaled, fill)
        if edge is not None:
            self.stroke([*points, points[0], points[1]], edge, line)

    def stroke(self, points: Points, colour: Rgb, line: float = LINE) -> None:
        """A line with round ends and corners."""
        scaled = [(x * FINE / 100, y * FINE / 100) for x, y in points]
        width = line * FINE / 100
        self.draw.line(scaled, colour, round(width), joint="curve")
        for x, y in (scaled[0], scaled[-1]):
            self.draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), colour)

    def oval(
        self, x: float, y: float, rx: float, ry: float, fill: Rgb, edge: Rgb | None = None
    ) -> None:
        """An ellipse about (x, y)."""
        box = [v * FINE / 100 for v in (x - rx, y - ry, x + rx, y + ry)]
        self.draw.ellipse(box, fill, edge, round(LINE * FINE / 100) if edge else 0)

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        fill: Rgb,
        edge: Rgb | None = None,
        radius: float = 3,
    ) -> None:
        """A rectangle with round corners."""
        box = [v * FINE / 100 for v in (left, top, right, bottom)]
        width = round(LINE * FINE / 100) if edge else 0
        self.draw.rounded_rectangle(box, radius * FINE / 100, fill, edge, width)


def around(x: float, y: float, radii: list[float], turn: float = 0.0) -> Points:
    """Points at even angles about (x, y), from the top clockwise, at `radii` in turn."""
    angles = turn + np.arange(len(radii)) * 2 * np.pi / len(radii)
    return [(x + r * np.sin(a), y - r * np.cos(a)) for r, a in zip(radii, angles)]


def _house(pen: Pen) -> None:
    pen.box(68, 12, 79, 40, mixed(pen.body, INK, 0.3), pen.dark)
    pen.box(16, 44, 84, 95, mixed(pen.body, SNOW, 0.72), pen.dark)
    pen.blob([(50, 6), (95, 49), (5, 49)], pen.body, pen.dark)
    pen.box(42, 64, 59, 94, pen.body, pen.dark)
    pen.box(23, 58, 36, 73, GLASS, pen.dark, 1)
    pen.box(65, 58, 78, 73, GLASS, pen.dark, 1)
    pen.oval(50, 32, 6.5, 6.5, GLASS, pen.dark)


def _tree(pen: Pen) -> None:
    pen.blob([(43, 60), (57, 60), (61, 95), (39, 95)], WOOD, mixed(WOOD, INK, 0.4))
    crown = [(50, 25, 22), (28, 46, 21), (72, 46, 21), (50, 50, 24)]
    for x, y, r in crown:
        pen.oval(x, y, r, r, pen.dark)
    for x, y, r in crown:
        pen.oval(x, y, r - LINE, r - LINE, pen.body)
    for x, y in ((42, 22), (24, 42), (62, 38)):
        pen.oval(x, y, 6, 5, pen.light)


def _car(pen: Pen) -> None:
    pen.blob([(24, 50), (34, 26), (66, 26), (80, 50)], pen.body, pen.dark)
    pen.blob([(32, 48), (38.5, 33), (49, 33), (49, 48)], GLASS)
    pen.blob([(54, 48), (54, 33), (63, 33), (71, 48)], GLASS)
    pen.box(5, 46, 95, 78, pen.body, pen.dark, 10)
    pen.box(8, 62, 92, 69, pen.light, None, 2)
    pen.oval(8.5, 55, 4, 4.5, GLASS)
    for x in (27, 73):
        pen.oval(x, 79, 14, 14, INK)
        pen.oval(x, 79, 6, 6, (214, 216, 226))


def _boat(pen: Pen) -> None:
    pen.box(47, 6, 52, 72, WOOD, None, 1)
    pen.blob([(43, 13), (43, 62), (9, 62)], SNOW, dark(SNOW))
    pen.blob([(56, 22), (86, 62), (56, 62)], pen.light, pen.dark)
    pen.blob([(4, 68), (96, 68), (80, 93), (20, 93)], pen.body, pen.dark)
    pen.stroke([(14, 77), (86, 77)], SNOW, 3)


def _sun(pen: Pen) -> None:
    for x, y in around(50, 50, [42] * 8):
        ray = [(50 + (x - 50) * 0.78, 50 + (y - 50) * 0.78), (x, y)]
        pen.stroke(ray, pen.dark, 10)
        pen.stroke(ray, pen.body, 10 - 2 * LINE)
    pen.oval(50, 50, 31, 31, pen.body, pen.dark)
    for x in (39, 61):
        pen.oval(x, 46, 3.6, 4.6, INK)
        pen.oval(x + (x - 50) * 0.6, 57, 4.5, 3, mixed(pen.body, COLOURS["red"], 0.35))
    pen.stroke(_arc(50, 50, 13, 30, 150), INK, 3.2)


def _arc(x: float, y: float, r: float, first: float, last: float) -> Points:
    """Points on a circle between two angles in degrees, from the right clockwise."""
    angles = np.radians(np.linspace(first, last, 24))
    return [(x + r * np.cos(a), y + r * np.sin(a)) for a in angles]


def _moon(pen: Pen) -> None:
    outer = _arc(46, 50, 44, 48, 312)
    inner = _arc(69, 50, 33.6, 289, 71)
    pen.blob([*outer, *inner], pen.body, pen.dark)
    for x, y, r in ((22, 42, 5), (30, 68, 6.5), (34, 24, 4)):
        pen.oval(x, y, r, r, mixed(pen.body, pen.dark, 0.3))


def _cloud(pen: Pen) -> None:
    puffs = [(26, 58, 21), (48, 42, 26), (73, 56, 22)]
    for x, y, r in puffs:
        pen.oval(x, y, r, r, pen.dark)
    pen.box(7, 56, 93, 80, pen.dark, None, 12)
    for x, y, r in puffs:
        pen.oval(x, y, r - LINE, r - LINE, pen.body)
    pen.box(7 + LINE, 56, 93 - LINE, 80 - LINE, pen.body, None, 9)
    pen.stroke(_arc(48, 42, 16, 200, 280), pen.light, 4)


def _flower(pen: Pen) -> None:
    pen.stroke([(50, 44), (50, 94)], LEAF, 6)
    for side in (-1, 1):
        tip = [(50, 88), (50 + side * 14, 72), (50 + side * 31, 66), (50 + side * 22, 82)]
        pen.blob(tip, LEAF, mixed(LEAF, INK, 0.3), 2.4)
    petals = around(50, 34, [18.5] * 6)
    for x, y in petals:
        pen.oval(x, y, 12.5, 12.5, pen.body, pen.dark)
    pen.oval(50, 34, 15, 15, pen.body)
    pen.oval(50, 34, 10, 10, (255, 226, 92), (214, 160, 40))


def _fish(pen: Pen) -> None:
    pen.blob([(68, 50), (95, 26), (89, 50), (95, 75)], pen.light, pen.dark)
    pen.blob([(36, 32), (54, 13), (64, 34)], pen.light, pen.dark)
    pen.oval(42, 51, 37, 25, pen.body, pen.dark)
    pen.stroke(_arc(22, 51, 21, -48, 48), pen.dark, 3)
    for x in (52, 64):
        pen.stroke(_arc(x - 9, 51, 11, -42, 42), pen.light, 3)
    pen.oval(22, 44, 6, 6, SNOW)
    pen.oval(20.5, 44.5, 3.2, 3.6, INK)


def _bird(pen: Pen) -> None:
    pen.blob([(74, 52), (96, 38), (94, 62)], pen.body, pen.dark)
    pen.blob([(22, 37), (22, 51), (4, 46)], (250, 166, 50), (196, 110, 30), 2.4)
    pen.oval(56, 56, 29, 22, pen.body, pen.dark)
    pen.oval(33, 41, 19, 18, pen.body, pen.dark)
    pen.oval(43, 50, 12, 11, pen.body)
    pen.oval(52, 66, 15, 7.5, pen.light)
    pen.blob([(46, 50), (78, 50), (70, 18), (58, 22)], pen.light, pen.dark)
    pen.oval(28, 38, 5.4, 5.8, SNOW)
    pen.oval(27, 38.5, 3, 3.4, INK)


def _balloon(pen: Pen) -> None:
    for x in (36, 64):
        pen.stroke([(x, 58), (50 + (x - 50) * 0.6, 78)], WOOD, 2.6)
    pen.box(38, 75, 62, 94, WOOD, mixed(WOOD, INK, 0.4))
    pen.blob([(21, 50), (79, 50), (63, 68), (37, 68)], pen.body, pen.dark)
    pen.oval(50, 37, 34, 33, pen.body, pen.dark)
    pen.oval(50, 37, 13, 31, pen.light)
    pen.blob([(37, 37), (63, 37), (57, 66), (43, 66)], pen.light)


def _rocket(pen: Pen) -> None:
    pen.blob([(42, 78), (58, 78), (50, 97)], (255, 196, 60), (240, 120, 40))
    for side in (-1, 1):
        fin = [
            (50 + side * 16, 52),
            (50 + side * 33, 72),
            (50 + side * 31, 86),
            (50 + side * 14, 76),
        ]
        pen.blob(fin, pen.dark, pen.dark)
    curve = [(50, 4), (60, 16), (67, 34), (68, 56), (62, 79)]
    pen.blob([*curve, *[(100 - x, y) for x, y in curve[::-1]]], pen.body, pen.dark)
    pen.blob([(50, 5), (59, 16), (63, 25), (37, 25), (41, 16)], pen.light, pen.dark)
    pen.oval(50, 43, 10.5, 10.5, (190, 226, 250), INK)


def _mushroom(pen: Pen) -> None:
    pen.box(36, 48, 64, 95, (250, 238, 214), (178, 152, 120), 10)
    cap = [*_arc(50, 54, 44, 180, 360), (86, 63), (14, 63)]
    pen.blob(cap, pen.body, pen.dark)
    for x, y, r in ((50, 27, 7.5), (27, 45, 6.5), (73, 45, 6.5), (50, 52, 5)):
        pen.oval(x, y, r, r, mixed(pen.body, SNOW, 0.85))
    for x in (44, 56):
        pen.oval(x, 75, 2.6, 3.8, INK)


def _butterfly(pen: Pen) -> None:
    for side in (-1, 1):
        pen.oval(50 + side * 24, 34, 22, 24, pen.body, pen.dark)
        pen.oval(50 + side * 20, 70, 17, 18, pen.body, pen.dark)
        pen.oval(50 + side * 26, 32, 10, 11, pen.light)
        pen.oval(50 + side * 21, 71, 7, 7.5, pen.light)
        pen.stroke([(50, 24), (50 + side * 10, 8)], INK, 2.6)
    pen.oval(50, 52, 5.5, 32, INK)


def _star(pen: Pen) -> None:
    pen.blob(around(50, 53, [45, 20] * 5), pen.body, pen.dark)


def _circle(pen: Pen) -> None:
    pen.oval(50, 50, 42, 42, pen.body, pen.dark)
    pen.oval(36, 33, 9, 7, pen.light)


def _square(pen: Pen) -> None:
    pen.box(10, 10, 90, 90, pen.body, pen.dark, 4)


def _triangle(pen: Pen) -> None:
    pen.blob([(50, 9), (93, 88), (7, 88)], pen.body, pen.dark)


def _diamond(pen: Pen) -> None:
    pen.blob([(50, 6), (84, 50), (50, 94), (16, 50)], pen.body, pen.dark)
    pen.blob([(50, 14), (50, 50), (23, 50)], pen.light)


def _heart(pen: Pen) -> None:
    t = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    points = zip(50 + 42 * np.sin(t) ** 3, 47 - 2.7 * y)
    pen.blob([(float(x), float(y)) for x, y in points], pen.body, pen.dark)
    pen.oval(32, 30, 7, 6, pen.light)


KINDS: dict[str, Kind] = {
    "house": Kind("land", ("red", "blue", "yellow"), _house),
    "tree": Kind("land", ("green",), _tree, moves=("grow", "shrink")),
    "car": Kind("land", ("red", "blue", "yellow"), _car, True, ("go",)),
    "boat": Kind("sea", ("red", "blue", "brown"), _boat, True, ("go",)),
    "sun": Kind("sky", ("yellow", "orange"), _sun, moves=("rise", "set")),
    "moon": Kind("sky", ("yellow", "white"), _moon, moves=("rise", "set")),
    "cloud": Kind("sky", ("white",), _cloud, moves=("go",)),
    "flower": Kind("land", ("red", "yellow", "purple"), _flower, moves=("grow", "shrink")),
    "fish": Kind("water", ("orange", "blue", "red"), _fish, True, ("go",)),
    "bird": Kind("sky", ("blue", "red", "brown"), _bird, True, ("go",)),
    "balloon": Kind("sky", ("red", "yellow", "blue"), _balloon, moves=("rise", "set")),
    "rocket": Kind("sky", ("white", "red"), _rocket, moves=("rise",)),
    "mushroom": Kind("land", ("red", "brown"), _mushroom, moves=("grow", "shrink")),
    "butterfly": Kind("sky", ("orange", "blue", "purple"), _butterfly, moves=("fall", "rise")),
    "star": Kind("any", ("yellow",), _star, moves=("fall", "grow", "shrink")),
    "circle": Kind("any", ("blue", "red"), _circle, moves=("bounce", "fall", "grow", "shrink")),
    "square": Kind("any", ("green", "orange"), _square, moves=("fall", "grow", "shrink")),
    "triangle": Kind("any", ("orange", "purple"), _triangle, moves=("fall", "grow", "shrink")),
    "diamond": Kind("any", ("blue", "purple"), _diamond, moves=("fall", "grow", "shrink")),
    "heart": Kind("any", ("red",), _heart, moves=("fall", "grow", "shrink")),
}
BASE_KINDS = tuple(name for name in KINDS if name != NEW_KIND)
FACINGS = ("left", "right")


def picture(kind: str, colour: Rgb, edge: Rgb | None = None) -> Image.Image:
    """The thing as drawn, to the left where it faces a side: RGBA, FINE pixels along a side."""
    pen = Pen(colour, edge)
    KINDS[kind].paint(pen)
    return pen.image


@cache
def _usual(kind: str, colour: str) -> Image.Image:
    return picture(kind, COLOURS[colour])


def shrunk(image: Image.Image, side: int, mirrored: bool) -> np.ndarray:
    """A picture of a thing as `sprite` gives it."""
    array = np.array(image.resize((side, side), Image.Resampling.BOX), np.float32)
    array[..., 3] /= 255
    array[..., :3] *= array[..., 3:]
    return array[:, ::-1] if mirrored else array


@lru_cache(2048)
def sprite(kind: str, colour: str, side: int, facing: str = "left") -> np.ndarray:
    """The thing in a box of `side` pixels: float32 (side, side, 4), colour times alpha, and alpha.

    Colours are in [0, 255], alpha in [0, 1].
    """
    return shrunk(_usual(kind, colour), side, facing == "right" and KINDS[kind].faces)
