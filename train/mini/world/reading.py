"""Reads a picture back into its ground and things by plain pixel analysis: nothing is learned.

The ground is the one that explains most of the picture. What differs from it falls into connected
pieces; each is compared with every kind, facing and likely colour, drawn as large as the piece and
laid over the ground, and named after the drawing that explains most of it. Nothing depends on
the grid of cells. Lengths are in cells unless said.
"""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image
from scipy import ndimage

from train.mini.world.cells import forms
from train.mini.world.draw import lay
from train.mini.world.grounds import GROUNDS, ground_array
from train.mini.world.palette import CELL, COLOURS, SIZES
from train.mini.world.things import sprite

# Distances in RGB levels: a pixel this far from the ground belongs to a thing.
FOREGROUND = 40.0
# A ground is judged by distances cut here, so that things do not outweigh it.
GROUND_CAP = 30.0
SOFTEN = 1.0  # pixels by which picture and ground are smoothed before they are compared
EDGE = 3  # pixels about a box that are looked at too
SPECK = 30  # pieces of fewer pixels are specks; the smallest thing, a small moon, has 250
JOIN = 2  # pieces nearer than twice so many pixels are one; things keep a cell apart
OBLONG = 1.3  # a piece's sides may be longer or shorter than the drawing's by this factor
MATCH = 0.45  # share of a piece that a drawing must explain to name it
LIKELY = 3  # colours tried, the most frequent first
CLOSE = 3  # forms tried at other places and sizes
SURE = 0.9  # share beyond which a form need not be tried elsewhere


@dataclass(frozen=True)
class Read:
    """A thing found in a picture; kind and colour are None when it resembles no known one."""

    kind: str | None
    colour: str | None
    size: str
    facing: str
    centre: tuple[float, float]
    side: float
    match: float


@dataclass(frozen=True)
class Reading:
    """All that is seen in a picture of `rows` x `cols` cells; things from left to right."""

    rows: float
    cols: float
    ground: str
    things: tuple[Read, ...]


def read(image: Image.Image | np.ndarray) -> Reading:
    """Read a picture, uint8 RGB (h, w, 3) or PIL, of whole cells."""
    pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    pixels = pixels.astype(np.float32)
    rows, cols = pixels.shape[0] // CELL, pixels.shape[1] // CELL
    soft = _softened(pixels)
    ground = min(GROUNDS, key=lambda name: _away(soft, name).clip(max=GROUND_CAP).mean())
    behind = _soft_ground(ground, rows, cols)
    things = [_thing(soft, behind, piece) for piece in _pieces(_away(soft, ground) > FOREGROUND)]
    ordered = sorted(things, key=lambda t: (t.centre[1], t.centre[0]))
    return Reading(rows, cols, ground, tuple(ordered))


def _softened(pixels: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(pixels, (SOFTEN, SOFTEN, 0))


@cache
def _soft_ground(ground: str, rows: int, cols: int) -> np.ndarray:
    return _softened(ground_array(ground, rows, cols))


def _away(soft: np.ndarray, ground: str) -> np.ndarray:
    """How far each pixel is from a ground, (h, w)."""
    rows, cols = soft.shape[0] // CELL, soft.shape[1] // CELL
    return np.linalg.norm(soft - _soft_ground(ground, rows, cols), axis=-1)


def _pieces(mask: np.ndarray) -> list[tuple[slice, slice, np.ndarray]]:
    """Boxes (rows, columns) and masks of connected pieces, filled, without specks."""
    near = ndimage.binary_dilation(np.pad(mask, JOIN), iterations=JOIN)[JOIN:-JOIN, JOIN:-JOIN]
    labels, count = ndimage.label(near, structure=np.ones((3, 3)))
    pieces = []
    for number in range(1, count + 1):
        piece = mask & (labels == number)
        if piece.sum() < SPECK:
            continue
        box = ndimage.find_objects(piece.astype(np.int8))[0]
        pieces.append((*box, ndimage.binary_fill_holes(piece[box])))
    return pieces


@cache
def _extent(kind: str, facing: str) -> tuple[float, float, float, float]:
    """Top, left, bottom, right of what a form shows in its box, as shares of the side."""
    side = 128
    alpha = sprite(kind, "red", side, facing)[..., 3] > 0.5
    rows, cols = np.nonzero(alpha.any(1))[0], np.nonzero(alpha.any(0))[0]
    return tuple(v / side for v in (rows[0], cols[0], rows[-1] + 1, cols[-1] + 1))


def _thing(pixels: np.ndarray, behind: np.ndarray, piece: tuple) -> Read:
    rows, cols, mask = piece
    colours = _likely_colours(pixels[rows, cols], mask)
    tried = []
    for kind, facing in forms():
        place = _fitted(kind, facing, rows, cols)
        if place is None:
            continue
        for colour in colours:
            form = (kind, facing, colour)
            tried.append((_explained(pixels, behind, form, place), form, place))
    tried.sort(key=lambda one: -one[0])
    if tried and tried[0][0] < SURE:
        tried = [_refined(pixels, behind, one) for one in tried[:CLOSE]]
    best = max(tried, default=None)
    if best is None or best[0] < MATCH:
        centre = ((rows.start + rows.stop) / 2 / CELL, (cols.start + cols.stop) / 2 / CELL)
        side = max(rows.stop - rows.start, cols.stop - cols.start) / CELL
        return Read(None, None, _size(side), "left", centre, side, best[0] if best else 0.0)
    match, (kind, facing, colour), (side, top, left) = best
    centre = ((top + side / 2) / CELL, (left + side / 2) / CELL)
    return Read(kind, colour, _size(side / CELL), facing, centre, side / CELL, match)


def _size(side: float) -> str:
    return min(SIZES, key=lambda name: abs(SIZES[name] - side))


def _likely_colours(pixels: np.ndarray, mask: np.ndarray) -> list[str]:
    """The palette's colours nearest to most pixels of a piece, the most frequent first."""
    palette = np.array(list(COLOURS.values()), np.float32)
    nearest = np.linalg.norm(pixels[mask][:, None] - palette, axis=-1).argmin(1)
    votes = np.bincount(nearest, minlength=len(palette))
    return [list(COLOURS)[i] for i in np.argsort(-votes, kind="stable")[:LIKELY]]


def _fitted(kind: str, facing: str, rows: slice, cols: slice) -> tuple[int, int, int] | None:
    """Side, top and left in pixels at which a form fills a box; None if it is of another shape."""
    top, left, bottom, right = _extent(kind, facing)
    tall = (rows.stop - rows.start) / (bottom - top)
    wide = (cols.stop - cols.start) / (right - left)
    if not 1 / OBLONG <= tall / wide <= OBLONG:
        return None
    side = round((tall + wide) / 2)
    middle = (rows.start + rows.stop) / 2, (cols.start + cols.stop) / 2
    first = middle[0] - side * (top + bottom) / 2, middle[1] - side * (left + right) / 2
    return side, round(first[0]), round(first[1])


@lru_cache(2048)
def _soft_sprite(kind: str, colour: str, side: int, facing: str) -> np.ndarray:
    """A sprite with room for its softened edge, (side + 2 * EDGE, side + 2 * EDGE, 4)."""
    room = ((EDGE, EDGE), (EDGE, EDGE), (0, 0))
    return _softened(np.pad(sprite(kind, colour, side, facing), room))


def _explained(
    pixels: np.ndarray, behind: np.ndarray, form: tuple, place: tuple[int, int, int]
) -> float:
    """Share of what differs from the ground, in and about a form's box, that the form explains."""
    kind, facing, colour = form
    side, top, left = place
    first, start = max(top - EDGE, 0), max(left - EDGE, 0)
    window = slice(first, max(top + side + EDGE, 0)), slice(start, max(left + side + EDGE, 0))
    canvas, seen = behind[window].copy(), pixels[window]
    if not canvas.size:
        return 0.0
    there = np.abs(seen - canvas).sum()
    soft = _soft_sprite(kind, colour, side, facing)
    lay(canvas, soft, top - first - EDGE, left - start - EDGE)
    return float(1 - np.abs(seen - canvas).sum() / max(there, 1.0))


def _refined(pixels: np.ndarray, behind: np.ndarray, one: tuple) -> tuple:
    """The best of a form's neighbours in size and place: (explained, form, place)."""
    for reach in (2, 1):
        _, form, (side, top, left) = one
        for grown in (-reach, 0, reach):
            for down in (-reach, 0, reach):
                for across in (-reach, 0, reach):
                    off = grown // 2
                    place = (side + grown, top + down - off, left + across - off)
                    one = max(one, (_explained(pixels, behind, form, place), form, place))
    return one
