"""How scenes are composed at random: as a person would, with little chance in places.

One thing stands near the middle, several are balanced about it. What belongs on land stands on it,
what belongs in the sky flies above; on paper (grounds without a horizon) all things float.
"""

from dataclasses import dataclass, replace

import numpy as np

from train.mini.world.grounds import GROUNDS, SCENERY, horizon
from train.mini.world.palette import BASE_COLOURS, NEW_COLOUR, NEW_KIND, SIZES
from train.mini.world.scenes import RATIOS, SMALL, Scene, Thing, fits, held_out
from train.mini.world.things import BASE_KINDS, FACINGS, KINDS

PAPERS = tuple(name for name in GROUNDS if name not in SCENERY)
# home -> grounds where a thing is at home, the likelier first; the last share is paper's.
AT_HOME = {
    "land": (("day", "meadow", "snow", "night"), 0.2),
    "sea": (("sea",), 0.25),
    "water": (("sea",), 0.25),
    "sky": (("day", "night", "meadow", "snow", "sea"), 0.2),
    "any": (("day", "meadow", "night", "snow"), 0.75),
}
AT_NIGHT = ("moon", "star")
RATIO_SHARES = {"1:1": 0.64, "4:3": 0.09, "3:4": 0.09, "16:9": 0.09, "9:16": 0.09}
COUNT_SHARES = (0.34, 0.38, 0.28)
ASIDE = 0.08  # chance that a group stands a cell to either side of the middle
PLACED = 0.22  # share of single things that stand elsewhere, which their captions say
ALIKE = 0.3  # share of groups whose things are all alike
TRIES = 12


@dataclass(frozen=True)
class Palette:
    """The colours and kinds that scenes are drawn from."""

    colours: tuple[str, ...]
    kinds: tuple[str, ...]


BASE = Palette(BASE_COLOURS, BASE_KINDS)
FULL = Palette((*BASE_COLOURS, NEW_COLOUR), (*BASE_KINDS, NEW_KIND))


def random_scene(
    rng: np.random.Generator,
    split: str = "train",
    ratio: str | None = None,
    count: int | None = None,
    palette: Palette = BASE,
) -> Scene:
    """Compose a scene at random.

    Args:
        rng: the only source of chance.
        split: "train" (no held-out combination), "held_out" (at least one) or "any".
        ratio: a key of RATIOS or SMALL; None draws one of RATIOS, the square most often.
        count: number of things, 1 to 3; None draws it.
        palette: the colours and kinds to choose from.
    """
    while True:
        shape = ratio or _choice(rng, list(RATIO_SHARES), list(RATIO_SHARES.values()))
        scene = _any_scene(rng, *(RATIOS | SMALL)[shape], count, palette)
        if scene and (split == "any" or held_out(scene) == (split == "held_out")):
            return scene


def random_new_scene(
    rng: np.random.Generator,
    split: str = "train",
    ratio: str | None = None,
    count: int | None = None,
) -> Scene:
    """As `random_scene`, with a thing of the colour or the kind that only fine-tuning teaches."""
    while True:
        scene = random_scene(rng, split, ratio, count, FULL)
        if any(t.colour == NEW_COLOUR or t.kind == NEW_KIND for t in scene.things):
            return scene


def _choice(rng: np.random.Generator, names: list, shares: list | None = None) -> str:
    return names[rng.choice(len(names), p=shares)]


def _any_scene(
    rng: np.random.Generator, rows: int, cols: int, count: int | None, palette: Palette
) -> Scene | None:
    count = count or int(rng.choice([1, 2, 3], p=COUNT_SHARES))
    looks = _looks(rng, count, palette)
    ground = _ground(rng, [kind for kind, _, _ in looks])
    return arranged(rng, rows, cols, ground, looks)


def _looks(rng: np.random.Generator, count: int, palette: Palette) -> list[tuple[str, str, str]]:
    """Kind, colour and size of each thing; natural colours and middle sizes come more often."""
    if count > 1 and rng.random() < ALIKE:
        return [random_look(rng, palette, count)] * count
    return [random_look(rng, palette, count) for _ in range(count)]


def random_look(rng: np.random.Generator, palette: Palette, count: int) -> tuple[str, str, str]:
    """Kind, colour and size of one of `count` things."""
    kind = _choice(rng, list(palette.kinds))
    return kind, random_colour(rng, kind, palette), random_size(rng, count)


def random_colour(rng: np.random.Generator, kind: str, palette: Palette = BASE) -> str:
    """Any colour; in a quarter of cases one of the kind's natural ones."""
    if rng.random() < 0.25:
        return _choice(rng, list(KINDS[kind].natural))
    return _choice(rng, list(palette.colours))


def random_size(rng: np.random.Generator, count: int) -> str:
    """A size; where there are many things, small ones more often."""
    shares = {1: [0.2, 0.45, 0.35], 2: [0.35, 0.5, 0.15], 3: [0.72, 0.28, 0.0]}[min(count, 3)]
    return _choice(rng, list(SIZES), shares)


def _ground(rng: np.random.Generator, kinds: list[str]) -> str:
    """A ground where all of them are at home, else paper."""
    scenery, paper = [], 0.0
    for home in (KINDS[kind].home for kind in kinds):
        grounds, share = AT_HOME[home]
        scenery.append(grounds)
        paper = max(paper, share)
    both = [name for name in scenery[0] if all(name in others for others in scenery)]
    if not both or rng.random() < paper:
        return _choice(rng, list(PAPERS), [0.5, 0.25, 0.25])
    if "night" in both and any(kind in AT_NIGHT for kind in kinds):
        both += ["night"] * 3
    return _choice(rng, both)


def at_home(kind: str, ground: str) -> bool:
    """Whether a thing of this kind may be on this ground."""
    return ground in PAPERS or ground in AT_HOME[KINDS[kind].home][0]


def lane(kind: str, ground: str) -> str:
    """Where a kind is on a ground: "float" on paper, else "land", "water" or "sky"."""
    if ground in PAPERS:
        return "float"
    home = KINDS[kind].home
    if home == "any":
        return "sky" if kind == "star" or ground == "sea" else "land"
    return "land" if home == "sea" else home


def lane_row(place: str, side: int, ground: str, rows: int, sky_low: bool = True) -> int:
    """Top row of a thing of `side` cells in its lane; in the sky low (alone there) or high."""
    line = horizon(ground, rows)
    if place == "land":
        return rows - 2 - side
    if place == "water":
        return min(line + (side < 3), rows - side)
    if place == "sky":
        return max(0, min((rows - side) // 2, line - side)) if sky_low else 0
    return (rows - side) // 2


def arranged(
    rng: np.random.Generator,
    rows: int,
    cols: int,
    ground: str,
    looks: list[tuple[str, str, str]],
) -> Scene | None:
    """Things of these looks, composed; None when there is no room for them."""
    for _ in range(TRIES):
        things = [Thing(*look, 0, 0, _facing(rng, look[0])) for look in looks]
        if len(things) == 1 and rng.random() < PLACED:
            scene = _aside(rng, Scene(rows, cols, ground, tuple(things), True))
        else:
            scene = _balanced(rng, Scene(rows, cols, ground, tuple(things)))
        if scene and fits(scene):
            ordered = sorted(scene.things, key=lambda t: (t.centre[1], t.centre[0]))
            return replace(scene, things=tuple(ordered))
    return None


def _facing(rng: np.random.Generator, kind: str) -> str:
    return _choice(rng, list(FACINGS)) if KINDS[kind].faces else "left"


def _aside(rng: np.random.Generator, scene: Scene) -> Scene | None:
    """A single thing away from the middle: to a side, in its lane; on paper or in the sky up too.

    None when it would be in the middle after all.
    """
    (thing,) = scene.things
    rows, cols, side = scene.rows, scene.cols, thing.side
    place = lane(thing.kind, scene.ground)
    col = _choice(rng, [0, (cols - side) // 2, cols - side])
    row = lane_row(place, side, scene.ground, rows)
    if place in ("float", "sky"):
        lowest = rows if place == "float" else horizon(scene.ground, rows)
        row = _choice(rng, [0, row, lowest - side] if place == "float" else [0, row])
    middle = lane_row(place, side, scene.ground, rows), (cols - side) // 2
    if (row, col) == middle:
        return None
    return replace(scene, things=(thing.at(row, col),))


def _balanced(rng: np.random.Generator, scene: Scene) -> Scene | None:
    """Things in one row about the middle, or some above the others."""
    order = [scene.things[i] for i in rng.permutation(len(scene.things))]
    upper, lower = _split(rng, order, scene.ground)
    placed = []
    for things, others, high in ((upper, lower, True), (lower, upper, False)):
        if not things:
            continue
        other = max((t.side for t in others), default=0)
        row = _in_a_row(rng, things, scene, other, high)
        if row is None:
            return None
        placed += row
    return replace(scene, things=tuple(placed))


def _split(
    rng: np.random.Generator, things: list[Thing], ground: str
) -> tuple[list[Thing], list[Thing]]:
    """Which things stand above and which below; all below where they make one row."""
    if ground not in PAPERS:
        sky = [t for t in things if lane(t.kind, ground) == "sky"]
        rest = [t for t in things if t not in sky] if len(sky) < len(things) else []
        return (sky, rest) if rest else ([], sky)
    if len(things) == 1 or rng.random() < (0.6 if len(things) == 2 else 0.45):
        return [], things
    cut = 1 if len(things) == 2 or rng.random() < 0.5 else 2
    return things[:cut], things[cut:]


def _in_a_row(
    rng: np.random.Generator, things: list[Thing], scene: Scene, other: int, high: bool
) -> list[Thing] | None:
    """Things side by side about the middle; None when they do not fit.

    `other` is the side of the largest thing below or, unless `high`, above; 0 if there is none.
    """
    rows, cols = scene.rows, scene.cols
    wide = sum(t.side for t in things)
    spare = cols - wide - (len(things) - 1)
    if spare < 0:
        return None
    gap = 2 if len(things) > 1 and spare > len(things) and rng.random() < 0.4 else 1
    spare = cols - wide - gap * (len(things) - 1)
    col = spare // 2 + (spare % 2 and int(rng.integers(2)))
    if rng.random() < 2 * ASIDE:
        col += int(rng.choice([-1, 1]))
    col = min(max(col, 0), spare)
    tallest = max(t.side for t in things)
    placed = []
    for thing in things:
        place = lane(thing.kind, scene.ground)
        row = lane_row(place, thing.side, scene.ground, rows, sky_low=other == 0)
        if other and place == "float":  # two rows about the middle, a cell apart
            top = max(0, (rows - tallest - other - 1) // 2)
            row = top + tallest - thing.side if high else rows - top - tallest
        placed.append(thing.at(row, col))
        col += thing.side + gap
    return placed
