"""Drawings as a person would make them with Pillow: no code, grid or style of the world's own."""

import numpy as np
from PIL import Image, ImageColor, ImageDraw

SUBJECTS = ("circle", "square", "triangle", "diamond", "star", "house", "tree", "sun", "balloon")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "brown")
SIDES = (96, 512)


def drawing(rng: np.random.Generator) -> tuple[Image.Image, str, str]:
    """A picture of one thing, what it is and its colour.

    Its sides are 96 to 512 pixels, its ground white, light or nothing (alpha), its lines none,
    thin or thick.
    """
    kind, colour = str(rng.choice(SUBJECTS)), str(rng.choice(COLOURS))
    side = int(rng.integers(*SIDES, endpoint=True))
    paper = [(255, 255, 255, 255), (255, 252, 240, 255), (0, 0, 0, 0)][rng.integers(3)]
    image = Image.new("RGBA", (side * 3, side * 3), paper)
    size = side * 3 * rng.uniform(0.3, 0.55)
    x, y = (side * 3 * rng.uniform(0.38, 0.62) for _ in range(2))
    edge = None if rng.random() < 0.5 else (40, 40, 40)
    width = max(1, round(size * rng.uniform(0.015, 0.04)))
    pen = ImageDraw.Draw(image)
    _draw(pen, kind, ImageColor.getrgb(colour), (x - size / 2, y - size / 2, size), edge, width)
    return image.resize((side, side), Image.Resampling.LANCZOS), kind, colour


def _draw(pen, kind: str, colour, box: tuple[float, float, float], edge, width: int) -> None:
    left, top, size = box

    def at(*points: float) -> list[float]:
        return [(left, top)[i % 2] + p * size for i, p in enumerate(points)]

    def shape(*points: float) -> None:
        pen.polygon(at(*points), colour, edge, width)

    if kind == "circle":
        pen.ellipse(at(0, 0, 1, 1), colour, edge, width)
    elif kind == "square":
        pen.rectangle(at(0.05, 0.05, 0.95, 0.95), colour, edge, width)
    elif kind == "triangle":
        shape(0.5, 0.05, 0.98, 0.92, 0.02, 0.92)
    elif kind == "diamond":
        shape(0.5, 0, 0.85, 0.5, 0.5, 1, 0.15, 0.5)
    elif kind == "star":
        turns = np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2, 0.21, 0.5)
        shape(*np.stack([0.5 + radii * np.sin(turns), 0.5 - radii * np.cos(turns)], 1).ravel())
    elif kind == "house":
        pen.rectangle(at(0.15, 0.42, 0.85, 0.98), (245, 235, 220), edge or colour, width)
        shape(0.5, 0.02, 0.98, 0.46, 0.02, 0.46)
        pen.rectangle(at(0.42, 0.65, 0.6, 0.98), colour, edge, width)
    elif kind == "tree":
        pen.rectangle(at(0.42, 0.6, 0.58, 1), "saddlebrown", edge, width)
        pen.ellipse(at(0.1, 0.0, 0.9, 0.7), colour, edge, width)
    elif kind == "sun":
        for turn in np.arange(8) * np.pi / 4:
            x, y = np.cos(turn), np.sin(turn)
            ray = at(0.5 + 0.3 * x, 0.5 + 0.3 * y, 0.5 + 0.5 * x, 0.5 + 0.5 * y)
            pen.line(ray, colour, max(2, round(size * 0.07)))
        pen.ellipse(at(0.2, 0.2, 0.8, 0.8), colour, edge, width)
    else:
        pen.line(at(0.35, 0.55, 0.45, 0.85), "saddlebrown", width + 1)
        pen.line(at(0.65, 0.55, 0.55, 0.85), "saddlebrown", width + 1)
        pen.rectangle(at(0.4, 0.82, 0.6, 0.98), "saddlebrown", edge, width)
        pen.ellipse(at(0.17, 0, 0.83, 0.72), colour, edge, width)
