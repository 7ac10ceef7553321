"""Curves of a run's logs as pictures: one panel a figure, drawn with Pillow."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

PANEL = (640, 240)  # pixels
PARTS = 60  # a curve is so many means of as many steps each
SMALLEST = 1e-6  # what a logarithmic scale shows at least
Points = list[tuple[int, float]]


def read_columns(path: Path, names: tuple[str, ...]) -> dict[str, Points]:
    """(step, value) of the named columns of a log whose first row names them, in order.

    Rows that people wrote, values that are no finite numbers, and columns that are not there, are
    passed over.
    """
    found = defaultdict(list)
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            for name in names:
                try:
                    point = int(row["step"]), float(row[name])
                except (KeyError, TypeError, ValueError):
                    continue
                if np.isfinite(point[1]):
                    found[name].append(point)
    return dict(found)


def curves(figures: dict[str, Points], shares: tuple[str, ...] = ()) -> Image.Image:
    """A panel for each figure by step: on a logarithmic scale, or from 0 to 1 for `shares`."""
    panels = [curve(name, points, name in shares) for name, points in figures.items()]
    sheet = Image.new("RGB", (PANEL[0], PANEL[1] * max(1, len(panels))), "white")
    for number, panel in enumerate(panels):
        sheet.paste(panel, (0, number * PANEL[1]))
    return sheet


def curve(name: str, points: Points, share: bool = False) -> Image.Image:
    """One figure by step, smoothed; there is at least one point."""
    image = Image.new("RGB", PANEL, "white")
    pen = ImageDraw.Draw(image)
    parts = np.array_split(np.array(points, np.float64), min(PARTS, len(points)))
    steps, values = np.array([part.mean(0) for part in parts]).T
    scaled = values if share else np.log(np.maximum(values, SMALLEST))
    low, high = (0.0, 1.0) if share else (scaled.min() - 0.05, scaled.max() + 0.05)
    xs = 50 + (PANEL[0] - 70) * steps / max(steps[-1], 1)
    ys = 30 + (PANEL[1] - 60) * (high - scaled) / (high - low)
    pen.line((50, 30, 50, PANEL[1] - 30, PANEL[0] - 20, PANEL[1] - 30), "grey")
    line = [*zip(xs.tolist(), ys.tolist())]
    pen.line(line, (224, 52, 56), 2)
    pen.ellipse((*(z - 2 for z in line[-1]), *(z + 2 for z in line[-1])), (224, 52, 56))
    pen.text((56, 8), f"{name}: {points[-1][1]:.4g} at step {points[-1][0]}", "black")
    for y, value in ((26, high), (PANEL[1] - 36, low)):
        pen.text((4, y), f"{value if share else np.exp(value):.3g}", "grey")
    return image
