"""What lies behind the things: eight grounds, each drawn from cells that come again and again.

A ground with a horizon is sky above and land or water below. Patterns come again every `PERIOD`
cells across, and in the sky and below it every second row, so that few different cells make
pictures of any size.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from train.mini.world.palette import CELL, Rgb, mixed

PERIOD = 4  # cells after which a pattern comes again
FINE = 4  # drawn so many times larger
DOT = 4  # pixels, the radius of a dot on paper
# name -> cells from the horizon to the lower edge; 0 for grounds that have none.
GROUNDS = {"day": 3, "night": 3, "sea": 4, "meadow": 3, "snow": 3}
GROUNDS |= {"plain": 0, "striped": 0, "dotted": 0}
SCENERY = tuple(name for name, below in GROUNDS.items() if below)
SKY: dict[str, Rgb] = {
    "day": (186, 224, 250),
    "night": (40, 46, 96),
    "sea": (190, 228, 248),
    "meadow": (198, 230, 244),
    "snow": (180, 198, 228),
}
LAND: dict[str, Rgb] = {
    "day": (164, 214, 132),
    "night": (62, 96, 108),
    "sea": (96, 180, 222),
    "meadow": (190, 222, 112),
    "snow": (224, 232, 246),
}
PAPER: dict[str, tuple[Rgb, Rgb]] = {
    "plain": ((250, 234, 200), (250, 234, 200)),
    "striped": ((222, 236, 250), (194, 216, 242)),
    "dotted": ((250, 224, 214), (238, 192, 182)),
}


def horizon(ground: str, rows: int) -> int:
    """The row at which land or water begins; `rows` where there is no horizon."""
    return rows - GROUNDS[ground]


@cache
def ground_array(ground: str, rows: int, cols: int) -> np.ndarray:
    """The ground alone: float32 (CELL * rows, CELL * cols, 3), levels 0..255."""
    size = (cols * CELL * FINE, rows * CELL * FINE)
    if ground in PAPER:
        image = _paper(ground, size)
    else:
        image = _scenery(ground, size, horizon(ground, rows) * CELL)
    small = image.resize((cols * CELL, rows * CELL), Image.Resampling.BOX)
    array = np.asarray(small, np.float32)
    array.setflags(write=False)
    return array


def _paper(ground: str, size: tuple[int, int]) -> Image.Image:
    """Paper of one colour, or with stripes or dots.

    No two cells that touch show the same detail: networks of convolutions tell the places within a
    cell by what is beside it (docs/making_mini.md).
    """
    first, second = PAPER[ground]
    image = Image.new("RGB", size, first)
    pen = ImageDraw.Draw(image)
    rows, cols = size[1] // (CELL * FINE), size[0] // (CELL * FINE)
    for row, col in np.ndindex(rows, cols):
        top, left = row * CELL, col * CELL
        above = rows - 1 - row  # counted from the lower edge, as cells' names are
        if ground == "striped" and above % 2:
            box = [v * FINE for v in (left, top, left + CELL, top + CELL)]
            pen.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), second)
        if ground == "dotted" and (above + col) % 2:
            _dot(pen, (left + CELL / 2, top + CELL / 2), DOT, second)
    return image


def _scenery(ground: str, size: tuple[int, int], line: int) -> Image.Image:
    """Sky down to `line` pixels, then land or water, with what one sees there."""
    sky, land = SKY[ground], LAND[ground]
    image = Image.new("RGB", size, sky)
    pen = ImageDraw.Draw(image)
    width, height = size[0] // FINE, size[1] // FINE
    period = PERIOD * CELL
    for left in range(0, width, period):
        for top in range(line - 2 * CELL, -2 * CELL, -2 * CELL):
            if ground in ("night", "snow"):
                colour = (250, 236, 170) if ground == "night" else (255, 255, 255)
                for x, y, r in ((9, 8, 1.1), (40, 23, 1.5), (56, 6, 0.9)):
                    _dot(pen, (left + x, top + y), r + 0.4 * (ground == "snow"), colour)
    if ground != "sea":
        _hills(pen, mixed(land, sky, 0.45), line - 5, 5, 20, size)
    _hills(pen, land, line, 0 if ground == "sea" else 3, 0, size)
    for left in range(0, width, period):
        for top in range(line, height, 2 * CELL):
            _near(pen, ground, left, top, land)
    return image


def _hills(
    pen: ImageDraw.ImageDraw, colour: Rgb, line: float, high: float, shift: int, size: tuple
) -> None:
    """Everything below a wavy line."""
    xs = np.arange(0, size[0] // FINE + 1)
    ys = line - high * np.sin(2 * np.pi * (xs + shift) / (PERIOD * CELL))
    points = [(x * FINE, y * FINE) for x, y in zip(xs.tolist(), ys.tolist())]
    pen.polygon([*points, (size[0], size[1]), (0, size[1])], colour)


def _near(pen: ImageDraw.ImageDraw, ground: str, left: int, top: int, land: Rgb) -> None:
    """What lies on two rows of the land, or the waves of the water."""
    if ground == "sea":
        for x, y in ((6, 10), (38, 22)):
            box = [v * FINE for v in (left + x, top + y - 4, left + x + 14, top + y + 4)]
            pen.arc(box, 20, 160, mixed(land, (255, 255, 255), 0.55), 2 * FINE)
    elif ground == "meadow":
        for x, y, colour in (
            (10, 12, (255, 255, 255)),
            (42, 20, (250, 170, 160)),
            (26, 27, (255, 226, 120)),
            (57, 9, (255, 226, 120)),
        ):
            _dot(pen, (left + x, top + y), 1.8, colour)
    else:
        colour = mixed(land, (20, 60, 60), 0.16 if ground != "snow" else 0.1)
        for x, y in ((8, 14), (44, 24)):
            for lean in (-2, 0, 2):
                ends = (left + x + lean / 2, top + y, left + x + 2 * lean, top + y - 4)
                pen.line([v * FINE for v in ends], colour, round(1.2 * FINE))


def _dot(pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: Rgb) -> None:
    x, y = centre
    pen.ellipse([v * FINE for v in (x - radius, y - radius, x + radius, y + radius)], colour)
