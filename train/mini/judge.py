"""Reads a picture back into shapes by plain pixel analysis: nothing here is learned.

The ground is the tile of `scenes` that explains most of the picture; what differs from it falls
into connected pieces; a piece's colour is the palette's nearest, its kind, size and place are
those of the drawn mask that covers it best. Lengths are in cells unless said.
"""

from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from PIL import Image
from scipy import ndimage

from train.mini.drawing import ground_tile, shape_mask
from train.mini.language.facts import COLS, ROWS, Facts, ShapeFact, third
from train.mini.scenes import CELL, COLOURS, KINDS, SIZES, TEXTURES, TONES, Ground, relation

# Distances in RGB levels: a pixel this far from the ground belongs to a shape.
FOREGROUND = 48.0
# A ground is judged by distances cut here, so that shapes do not outweigh it.
GROUND_CAP = 30.0
# A texture shows at no less than this share of its drawn contrast.
TEXTURE = 0.35
# Pieces of fewer pixels are specks; the smallest shape, a small star, has about 160.
SPECK = 24
# Pieces nearer than twice this many pixels are one; shapes keep at least 8 apart.
JOIN = 1
# A mask must cover a piece this well (intersection over union) to name its kind; both are
# smoothed by a Gaussian of this many pixels, as a small tokenizer softens edges.
MATCH = 0.7
SOFTEN = 1.0
# The colour is read where a piece is at least this share of its greatest depth, and this share
# of those pixels must agree on it.
CORE = 0.45
AGREE = 0.6
# Half the margin that `scenes.relation` asks of a relation that may be stated.
RELATION_MARGIN = 0.5
# Two readings agree on a place up to this many cells.
SAME_PLACE = 0.4
MOST_SHAPES = 6


@dataclass(frozen=True)
class ReadShape:
    """A shape found in a picture; kind or colour is None when it resembles no known one."""

    kind: str | None
    colour: str | None
    size: str
    centre: tuple[float, float]
    box: tuple[int, int, int, int]
    match: float


@dataclass(frozen=True)
class Reading:
    """All that the judge sees; `rows`, `cols` are the picture's size in cells."""

    rows: float
    cols: float
    ground: Ground
    shapes: tuple[ReadShape, ...]

    @property
    def count(self) -> int:
        """Number of shapes seen, unknown ones included."""
        return len(self.shapes)


def read(image: Image.Image | np.ndarray) -> Reading:
    """Read a picture, uint8 RGB (h, w, 3) or PIL, into its ground and shapes (largest first)."""
    pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    pixels = pixels.astype(np.float32)
    ground, behind = _ground(pixels)
    away = np.linalg.norm(pixels - behind, axis=-1)
    shapes = [_shape(pixels, behind, piece) for piece in _pieces(away > FOREGROUND)]
    height, width = pixels.shape[:2]
    return Reading(height / CELL, width / CELL, ground, tuple(shapes))


def check(picture: Image.Image | np.ndarray | Reading, facts: Facts) -> dict[str, bool]:
    """Whether a picture shows what a text states, by attribute.

    The keys are those of count, colour, kind, size, place, relation, ground that `facts` states,
    and "right": all of them. Shapes are paired with facts the way that suits the picture best.
    """
    reading = picture if isinstance(picture, Reading) else read(picture)
    seen = [*reading.shapes[:MOST_SHAPES], *[None] * max(0, facts.count - reading.count)]
    verdicts = [_verdict(reading, paired, facts) for paired in permutations(seen, facts.count)]
    return max(verdicts, key=lambda v: (v["right"], sum(v.values())))


def same(a: Reading, b: Reading) -> dict[str, bool]:
    """Whether two pictures read alike, by attribute; "right": in all of them."""
    shapes = [ShapeFact(s.kind, s.colour, s.size) for s in a.shapes]
    seen = [*b.shapes[:MOST_SHAPES], *[None] * max(0, a.count - b.count)]
    facts = Facts(tuple(shapes), ground=a.ground)
    verdicts = []
    for paired in permutations(seen, a.count):
        verdict = _verdict(b, paired, facts)
        known = all(s is not None and None not in (s.kind, s.colour) for s in paired)
        pairs = zip(a.shapes, paired)
        verdict["place"] = known and all(_near(s.centre, t.centre) for s, t in pairs)
        verdict["right"] = verdict["right"] and verdict["place"]
        verdicts.append(verdict)
    return max(verdicts, key=lambda v: (v["right"], sum(v.values())))


def _near(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= SAME_PLACE


def _verdict(reading: Reading, paired: tuple, facts: Facts) -> dict[str, bool]:
    verdict = {"count": reading.count == facts.count}
    for name in ("colour", "kind", "size"):
        stated = [(getattr(f, name), s) for f, s in zip(facts.shapes, paired)]
        stated = [(value, s) for value, s in stated if value is not None]
        if stated:
            verdict[name] = all(s is not None and getattr(s, name) == v for v, s in stated)
    placed = [(f, s) for f, s in zip(facts.shapes, paired) if f.row or f.col]
    if placed:
        verdict["place"] = all(s is not None and _in_place(f, s, reading) for f, s in placed)
    if facts.relations:
        pairs = [(paired[i], name, paired[j]) for i, name, j in facts.relations]
        verdict["relation"] = all(_related(a, name, b) for a, name, b in pairs)
    if facts.ground is not None:
        verdict["ground"] = reading.ground == facts.ground
    return verdict | {"right": all(verdict.values())}


def _in_place(fact: ShapeFact, shape: ReadShape, reading: Reading) -> bool:
    row = third(shape.centre[0], reading.rows, ROWS)
    col = third(shape.centre[1], reading.cols, COLS)
    return fact.row in (None, row) and fact.col in (None, col)


def _related(a: ReadShape | None, name: str, b: ReadShape | None) -> bool:
    return a is not None and b is not None and relation(a, b, RELATION_MARGIN) == name


def _ground(pixels: np.ndarray) -> tuple[Ground, np.ndarray]:
    """The ground that explains most of the picture, and that ground alone (h, w, 3).

    Picture and ground are smoothed alike, so that a soft texture is still told from a plain tone
    of another lightness; but a texture must be there to be named.
    """
    height, width = pixels.shape[:2]
    smooth = ndimage.gaussian_filter(pixels, (SOFTEN, SOFTEN, 0))
    best = (np.inf, None, None)
    for ground in (Ground(tone, texture) for tone in TONES for texture in TEXTURES):
        tiles = (-(-height // CELL), -(-width // CELL), 1)
        behind = np.tile(ground_tile(ground), tiles)[:height, :width].astype(np.float32)
        if ground.texture != "plain" and _strength(pixels, behind) < TEXTURE:
            continue
        away = np.linalg.norm(
            smooth - ndimage.gaussian_filter(behind, (SOFTEN, SOFTEN, 0)), axis=-1
        )
        score = np.minimum(away, GROUND_CAP).mean()
        if score < best[0]:
            best = (score, ground, behind)
    return best[1], best[2]


def _strength(pixels: np.ndarray, behind: np.ndarray) -> float:
    """How strongly a texture shows where the ground is: 1 as drawn, 0 not at all."""
    middle = behind.mean((0, 1))
    open_ground = np.linalg.norm(pixels - middle, axis=-1) < 2 * GROUND_CAP
    pattern = (behind - middle)[open_ground]
    shown = ((pixels - middle)[open_ground] * pattern).sum()
    return float(shown / max(1.0, (pattern**2).sum()))


def _pieces(mask: np.ndarray) -> list[np.ndarray]:
    """Connected pieces of (h, w) bool without specks, near ones joined, largest first."""
    near = ndimage.binary_dilation(mask, iterations=JOIN)
    labels, count = ndimage.label(near, structure=np.ones((3, 3)))
    pieces = [mask & (labels == i) for i in range(1, count + 1)]
    pieces = [piece for piece in pieces if piece.sum() >= SPECK]
    return sorted(pieces, key=lambda piece: -piece.sum())


def _shape(pixels: np.ndarray, behind: np.ndarray, piece: np.ndarray) -> ReadShape:
    colour, agreed = _colour(pixels, piece)
    rows, cols = np.nonzero(piece)
    box = (int(rows.min()), int(cols.min()), int(rows.max()) + 1, int(cols.max()) + 1)
    kind, size, centre, match = _best_mask(_coverage(pixels, behind, piece, colour), box)
    kind = kind if match >= MATCH else None
    return ReadShape(kind, colour if agreed else None, size, centre, box, match)


def _colour(pixels: np.ndarray, piece: np.ndarray) -> tuple[str, bool]:
    """The palette colour of most inner pixels, and whether enough of them agree."""
    depth = ndimage.distance_transform_edt(piece)
    inside = pixels[depth >= CORE * depth.max()]
    palette = np.array(list(COLOURS.values()), np.float32)
    nearest = np.linalg.norm(inside[:, None] - palette, axis=-1).argmin(1)
    votes = np.bincount(nearest, minlength=len(palette))
    return list(COLOURS)[votes.argmax()], votes.max() >= AGREE * len(inside)


def _coverage(pixels: np.ndarray, behind: np.ndarray, piece: np.ndarray, colour: str) -> np.ndarray:
    """How much of each pixel the shape covers, (h, w) in [0, 1], zero away from the piece."""
    towards = np.array(COLOURS[colour], np.float32) - behind
    share = ((pixels - behind) * towards).sum(-1) / (towards**2).sum(-1)
    reach = ndimage.binary_dilation(piece, iterations=2)
    return np.where(reach, np.clip(share, 0, 1), 0)


def _best_mask(
    coverage: np.ndarray, box: tuple[int, int, int, int]
) -> tuple[str, str, tuple[float, float], float]:
    """Kind, size, centre and overlap of the drawn mask that covers best, tried near the box."""
    margin = max(SIZES.values()) * CELL
    padded = ndimage.gaussian_filter(np.pad(coverage, margin), SOFTEN)
    middle = ((box[0] + box[2]) / 2 + margin, (box[1] + box[3]) / 2 + margin)
    best = ("", "", (0.0, 0.0), -1.0)
    for kind in KINDS:
        for size, cells in SIZES.items():
            mask = _soft_mask(kind, cells * CELL)
            top, left, match = _best_shift(padded, mask, middle)
            if match > best[3]:
                half = len(mask) / 2
                centre = tuple((edge + half - margin) / CELL for edge in (top, left))
                best = (kind, size, centre, match)
    return best


@cache
def _soft_mask(kind: str, side: int) -> np.ndarray:
    """A drawn mask with room for its softened edge, (side + 8, side + 8)."""
    return ndimage.gaussian_filter(np.pad(shape_mask(kind, side), 4), SOFTEN)


def _best_shift(
    padded: np.ndarray, mask: np.ndarray, middle: tuple[float, float], reach: int = 4
) -> tuple[int, int, float]:
    """Top, left and intersection over union of `mask`'s best place within `reach` pixels."""
    side, total = mask.shape[0], padded.sum() + mask.sum()
    top, left = (round(m - side / 2) - reach for m in middle)
    extent = side + 2 * reach
    window = padded[top : top + extent, left : left + extent]
    views = np.lib.stride_tricks.sliding_window_view(window, (side, side))
    shared = np.minimum(views, mask).sum((-1, -2))
    match = shared / (total - shared)
    y, x = np.unravel_index(match.argmax(), match.shape)
    return top + int(y), left + int(x), float(match.max())
