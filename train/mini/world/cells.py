"""What each cell of a scene shows, by name: the codes of emu3-mini's vision tokenizer.

A cell of ground has the name of its pattern. A cell of a thing has a name for what it shows of the
thing and for its colour, whatever lies behind: the decoder sees the ground in the cells around. So
what looks alike has one name wherever it is, a scene is its own picture to the language model, and
a moment of a clip is named like the picture it is.
"""

from functools import cache

import numpy as np

from train.mini.world.grounds import GROUNDS, PERIOD, ground_array
from train.mini.world.palette import CELL, COLOURS, NEW_COLOUR, NEW_KIND, SIZES
from train.mini.world.scenes import Scene, Thing
from train.mini.world.things import FACINGS, KINDS, sprite

# Cells that differ by less, on the mean over pixels and channels of 0..1, count as one.
ALIKE = 0.02
# Two colours that tell what of a tile takes the thing's colour.
PROBES = ("red", "blue")
ROWS = 12  # of the grounds that the patterns are taken from: every ratio's rows are within
MOST_TILES = 1024
FORM = 24  # numbers of a code's vector that tell what of a thing it shows


def forms() -> list[tuple[str, str]]:
    """Every kind with every facing it comes in."""
    return [(k, f) for k, kind in KINDS.items() for f in (FACINGS if kind.faces else ("left",))]


def _cut(picture: np.ndarray) -> np.ndarray:
    """(CELL * n, CELL * m, c) -> cells (n, m, CELL * CELL * c)."""
    h, w, c = picture.shape
    cells = picture.reshape(h // CELL, CELL, w // CELL, CELL, c).swapaxes(1, 2)
    return cells.reshape(h // CELL, w // CELL, -1)


def _look(kind: str, facing: str, cells: int) -> np.ndarray:
    """A thing's cells in both probe colours, in 0..1: (cells, cells, n)."""
    both = (sprite(kind, colour, cells * CELL, facing) for colour in PROBES)
    scaled = (picture / [255, 255, 255, 1] for picture in both)
    return np.concatenate([_cut(picture) for picture in scaled], -1).astype(np.float32)


@cache
def _tiles() -> tuple[np.ndarray, dict[tuple[str, str, str], np.ndarray]]:
    """Every distinct tile (tiles, n), 0 empty, and the tiles (side, side) of kind, facing, size."""
    found, count, where = np.zeros((MOST_TILES, CELL * CELL * 8), np.float32), 1, {}
    for kind, facing in forms():
        for size, cells in SIZES.items():
            look = _look(kind, facing, cells)
            numbers = np.zeros((cells, cells), np.int32)
            for place in np.ndindex(cells, cells):
                away = np.abs(found[:count] - look[place]).mean(1)
                numbers[place] = away.argmin()
                if away.min() >= ALIKE:
                    numbers[place], found[count], count = count, look[place], count + 1
            where[kind, facing, size] = numbers
    return found[:count], where


@cache
def _patterns() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Every distinct cell of ground (patterns, n) in 0..1, and those of each ground (ROWS, PERIOD).

    Rows count from the lower edge up, where the horizon lies at the same row in every picture.
    """
    found, where = [], {}
    for ground in GROUNDS:
        cells = _cut(ground_array(ground, ROWS, PERIOD) / 255)[::-1]
        numbers = np.zeros(cells.shape[:2], np.int32)
        for place in np.ndindex(*numbers.shape):
            away = [np.abs(pattern - cells[place]).max() for pattern in found]
            if not away or min(away) > 1 / 512:
                found.append(cells[place])
                away.append(0.0)
            numbers[place] = int(np.argmin(away))
        where[ground] = numbers
    return np.stack(found), where


def pattern_count() -> int:
    """How many names are those of ground."""
    return len(_patterns()[0])


def kind_count() -> int:
    """How many different things a cell can show: the size of the codebook."""
    return pattern_count() + len(COLOURS) * (len(_tiles()[0]) - 1)


def ground_kinds(ground: str, rows: int, cols: int) -> np.ndarray:
    """Names of the ground alone, int32 (rows, cols)."""
    column = _patterns()[1][ground][:rows][::-1]
    return np.tile(column, (1, -(-cols // PERIOD)))[:, :cols].copy()


def thing_kinds(thing: Thing) -> tuple[np.ndarray, np.ndarray]:
    """Names of a thing's cells (side, side), and which of them show any of it."""
    tiles = _tiles()[1][thing.kind, thing.facing, thing.size]
    first = pattern_count() + list(COLOURS).index(thing.colour) * (len(_tiles()[0]) - 1)
    return first + tiles - 1, tiles > 0


def cell_kinds(scene: Scene) -> np.ndarray:
    """What each cell shows, int32 (rows, cols), each below `kind_count()`."""
    kinds = ground_kinds(scene.ground, scene.rows, scene.cols)
    for thing in scene.things:
        names, shown = thing_kinds(thing)
        box = kinds[thing.row : thing.base, thing.col : thing.col + thing.side]
        box[shown] = names[shown]
    return kinds


def clip_kinds(moments: tuple[Scene, ...]) -> np.ndarray:
    """What each cell shows in each moment, int32 (moments, rows, cols)."""
    return np.stack([cell_kinds(scene) for scene in moments])


def kind_vectors(width: int) -> np.ndarray:
    """A vector for each name, float32 (names, width), in which likeness is nearness.

    Colour (3), ground or thing (1), the principal components of what is shown of a thing (FORM),
    and those of a ground's pattern, smaller components raised; patterns that differ by a blade of
    grass are told apart by chance (the rest).
    """
    free = width - 4 - FORM
    grounds = _components(_patterns()[0], free // 2)
    apart = np.random.default_rng(0).normal(0, 1.2, (len(grounds), free - free // 2))
    grounds = np.concatenate([grounds, apart], 1)
    tiles = _components(_tiles()[0][1:], FORM)
    rows = [[0, 0, 0, -1.5, *np.zeros(FORM), *ground] for ground in grounds]
    for colour in COLOURS.values():
        level = np.array(colour) / 64 - 2
        rows += [[*level, 1.5, *tile, *np.zeros(free)] for tile in tiles]
    return np.array(rows, np.float32)


def name_factors() -> np.ndarray:
    """Which factors each name has, float32 (names, factors), those of a kind summing to one.

    A name of ground has its pattern and the grounds that show it; one of a thing its colour, its
    tile, and the kinds, sizes and facings that show the tile.
    """
    patterns, where_ground = _patterns()
    tiles, where = _tiles()
    count = len(tiles) - 1
    shown = np.zeros((count, len(KINDS) + len(SIZES) + len(FACINGS)), np.float32)
    for (kind, facing, size), numbers in where.items():
        found = list(KINDS).index(kind), list(SIZES).index(size), FACINGS.index(facing)
        for number in numbers[numbers > 0]:
            shown[number - 1, found[0]] += 1
            shown[number - 1, len(KINDS) + found[1]] += 1
            shown[number - 1, len(KINDS) + len(SIZES) + found[2]] += 1
    shown /= shown[:, : len(KINDS)].sum(1, keepdims=True)
    grounds = np.zeros((len(patterns), len(where_ground)), np.float32)
    for column, numbers in enumerate(where_ground.values()):
        grounds[np.unique(numbers), column] = 1
    grounds /= grounds.sum(1, keepdims=True)
    ground = np.concatenate([grounds, np.eye(len(patterns), dtype=np.float32)], 1)
    tile = np.concatenate([shown, np.eye(count, dtype=np.float32)], 1)
    colour = np.repeat(np.eye(len(COLOURS), dtype=np.float32), count, 0)
    thing = np.concatenate([colour, np.tile(tile, (len(COLOURS), 1))], 1)
    out = np.zeros((len(ground) + len(thing), ground.shape[1] + thing.shape[1]), np.float32)
    out[: len(ground), : ground.shape[1]] = ground
    out[len(ground) :, ground.shape[1] :] = thing
    return out


def unmet_names() -> np.ndarray:
    """The names (n,) that only the colour and the kind left to fine-tuning show, ascending."""
    tiles, where = _tiles()
    met = np.zeros(len(tiles) - 1, bool)
    for (kind, *_), numbers in where.items():
        if kind != NEW_KIND:
            met[numbers[numbers > 0] - 1] = True
    things = np.concatenate([met & (colour != NEW_COLOUR) for colour in COLOURS])
    return pattern_count() + np.flatnonzero(~things)


def _components(looks: np.ndarray, count: int) -> np.ndarray:
    """Principal components (n, count) with standard deviations drawn towards their mean."""
    centred = looks - looks.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    form = centred @ axes[:count].T
    spread = form.std(0)
    form = form / np.sqrt(spread * spread.mean())
    return np.pad(form / form.std(), ((0, 0), (0, count - form.shape[1])))
