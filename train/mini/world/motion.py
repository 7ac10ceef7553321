"""How things move: the physics of the world, stated here and nowhere else.

A clip is a list of moments, one for each latent frame, which is `FRAMES` frames long; between two
moments a thing moves evenly. The first moment is still: it is a picture. From moment to moment

* what goes moves a cell to where it faces, and turns round at the edge of the picture;
* what rises moves up (a rocket two cells, all others one) and stays at the top, but the sun and the
  moon then set; what sets moves down a cell and stays on the horizon or the land, but the sun and
  the moon then rise;
* what falls moves down two cells until it lies on the land, or, on paper, at the lower edge;
* what bounces falls likewise, and springs up again four cells high, without end;
* what grows takes the next size, what shrinks the one before, its base in place, up to the last.
"""

from dataclasses import dataclass, replace

import numpy as np

from train.mini.world.compose import (
    AT_HOME,
    BASE,
    PAPERS,
    Palette,
    at_home,
    lane,
    lane_row,
    random_colour,
)
from train.mini.world.draw import Placed, compose
from train.mini.world.grounds import ground_array, horizon
from train.mini.world.palette import CELL, SIZES
from train.mini.world.scenes import (
    RATIOS,
    SMALL,
    Scene,
    Thing,
    fits,
    moving_held_out,
    pair_held_out,
)
from train.mini.world.things import FACINGS, KINDS

FRAMES = 4  # of a moment
MOMENTS = 4  # of a clip, unless told
HIGH = 4  # cells a thing springs up
FAST = 2  # cells a moment of what falls, bounces or is a rocket
TURNS_ROUND = ("sun", "moon")
LONG = 16  # moments for which two things must keep apart


@dataclass(frozen=True)
class Moving:
    """Which thing of a scene moves, and how now: `way` is -1 to the left or up, 1 the other way."""

    index: int
    verb: str
    way: int


@dataclass(frozen=True)
class Clip:
    """Moments of one ground and the same things; `moving` is as of the last moment."""

    moments: tuple[Scene, ...]
    moving: tuple[Moving, ...]

    @property
    def frames(self) -> int:
        """How many there are."""
        return FRAMES * len(self.moments)


def step(scene: Scene, moving: tuple[Moving, ...]) -> tuple[Scene, tuple[Moving, ...]]:
    """The next moment."""
    things, after = list(scene.things), []
    for one in moving:
        things[one.index], now = _moved(things[one.index], one, scene)
        after.append(now)
    return replace(scene, things=tuple(things)), tuple(after)


def _moved(thing: Thing, moving: Moving, scene: Scene) -> tuple[Thing, Moving]:
    if moving.verb == "go":
        return _gone(thing, moving, scene.cols)
    if moving.verb in ("grow", "shrink"):
        return _resized(thing, moving.way), moving
    top, bottom = limits(thing, moving.verb, scene)
    fast = moving.verb in ("fall", "bounce") or thing.kind == "rocket"
    row = thing.row + moving.way * (FAST if fast else 1)
    springs = moving.verb == "bounce" or thing.kind in TURNS_ROUND
    if springs and not top <= row <= bottom:
        moving = replace(moving, way=-moving.way)
        row = thing.row + moving.way * (FAST if fast else 1)
    row = min(max(row, top), bottom)
    return thing.at(row, thing.col), moving


def _gone(thing: Thing, moving: Moving, cols: int) -> tuple[Thing, Moving]:
    if not 0 <= thing.col + moving.way <= cols - thing.side:
        moving = replace(moving, way=-moving.way)
    facing = FACINGS[moving.way > 0] if KINDS[thing.kind].faces else thing.facing
    return replace(thing, col=thing.col + moving.way, facing=facing), moving


def _resized(thing: Thing, way: int) -> Thing:
    """The next size: its base stays, its middle as nearly as whole cells let it."""
    sizes = list(SIZES)
    number = sizes.index(thing.size) + way
    if not 0 <= number < len(sizes):
        return thing
    grown = replace(thing, size=sizes[number])
    aside = 1 if max(grown.side, thing.side) == SIZES["large"] else 0
    return grown.at(thing.base - grown.side, thing.col - way * aside)


def limits(thing: Thing, verb: str, scene: Scene) -> tuple[int, int]:
    """Highest and lowest row of what moves up and down."""
    paper = scene.ground in PAPERS
    land = scene.rows - (0 if paper else 2) - thing.side
    if verb == "bounce":
        return max(land - HIGH, 0), land
    line = horizon(scene.ground, scene.rows)
    return 0, land if verb == "fall" or paper else min(line - thing.side, land)


def run(scene: Scene, moving: tuple[Moving, ...], moments: int, skip: int = 0) -> Clip:
    """A clip of so many moments, the first of them `skip` moments after `scene`."""
    seen = []
    for number in range(skip + moments):
        if number:
            scene, moving = step(scene, moving)
        seen.append(scene)
    return Clip(tuple(seen[skip:]), moving)


def extended(clip: Clip, moments: int) -> Clip:
    """The clip and what the rules say comes next."""
    more = run(clip.moments[-1], clip.moving, moments + 1)
    return Clip((*clip.moments, *more.moments[1:]), more.moving)


def frames_of(clip: Clip) -> np.ndarray:
    """The clip as uint8 (frames, h, w, 3)."""
    first = clip.moments[0]
    ground = ground_array(first.ground, first.rows, first.cols)
    pictures = []
    for before, now in zip((first, *clip.moments), clip.moments):
        for number in range(1, FRAMES + 1):
            pairs = zip(before.things, now.things)
            things = [between(a, b, number / FRAMES) for a, b in pairs]
            pictures.append(compose(ground, things))
    return np.stack(pictures)


def between(a: Thing, b: Thing, share: float) -> Placed:
    """What is `share` of the way from `a` to `b`, in whole pixels; it looks as `b` does."""

    def part(first: int, last: int) -> int:
        return round((first + (last - first) * share) * CELL)

    side = part(a.side, b.side)
    return Placed(b.kind, b.colour, b.facing, side, part(a.base, b.base) - side, part(a.col, b.col))


# How a scene that moves is set up.
ALONE = 0.55  # share of clips of one thing; most others have one that stands, some two that move
BOTH_MOVE = 0.3


def random_clip(
    rng: np.random.Generator,
    split: str = "train",
    ratio: str = "1:1",
    moments: int = MOMENTS,
    skip: int = 0,
    palette: Palette = BASE,
) -> Clip:
    """A clip at random; `split` as in `random_scene`, `skip` as in `run`."""
    rows, cols = (RATIOS | SMALL)[ratio]
    while True:
        kinds = [kind for kind in palette.kinds if KINDS[kind].moves]
        kind = kinds[rng.integers(len(kinds))]
        verb = str(rng.choice(KINDS[kind].moves))
        colour = random_colour(rng, kind, palette)
        ground = _ground_for(rng, kind, verb)
        scene, moving = _start(rng, rows, cols, ground, kind, colour, verb)
        if rng.random() > ALONE:
            scene, moving = _with_another(rng, scene, moving, palette)
        clip = run(scene, moving, max(LONG, skip + moments))
        out = clip_held_out(clip)
        if all(map(fits, clip.moments)) and (split == "any" or out == (split == "held_out")):
            return run(scene, moving, moments, skip)


def clip_held_out(clip: Clip) -> bool:
    """Whether the clip holds a combination that never occurs in training."""
    things = clip.moments[0].things
    if any(
        moving_held_out(things[m.index].kind, things[m.index].colour, m.verb) for m in clip.moving
    ):
        return True
    return len(things) > 1 and (pair_held_out(*things) or pair_held_out(*things[::-1]))


def _ground_for(rng: np.random.Generator, kind: str, verb: str) -> str:
    """Where a kind is at home; what falls or bounces needs land, or is on paper."""
    grounds, _ = AT_HOME[KINDS[kind].home]
    paper = 0.35 if KINDS[kind].home == "any" else 0.12
    if rng.random() < paper:
        return str(rng.choice(PAPERS))
    grounds = [g for g in grounds if not (verb in ("fall", "bounce", "set") and g == "sea")]
    return str(rng.choice(grounds))


def _start(
    rng: np.random.Generator, rows: int, cols: int, ground: str, kind: str, colour: str, verb: str
) -> tuple[Scene, tuple[Moving, ...]]:
    """One thing at the start of its way, which leads by the middle."""
    size = {"grow": "small", "shrink": "large", "bounce": "small"}.get(verb)
    size = size or str(rng.choice(["small", "medium"], p=[0.6, 0.4]))
    way = 1 if verb in ("set", "fall", "bounce", "grow") else -1
    if verb == "go":
        way = int(rng.choice([-1, 1]))
    thing = Thing(kind, colour, size, 0, 0, FACINGS[way > 0] if KINDS[kind].faces else "left")
    scene = Scene(rows, cols, ground, (thing,))
    place = lane(kind, ground)
    row, col = lane_row(place, thing.side, ground, rows), (cols - thing.side) // 2
    if verb == "go":
        col -= way * int(rng.integers(1, 3))
    else:
        col += int(rng.choice([0, 0, 0, 1, -1]))
    if verb == "fall" or verb == "bounce" or verb == "set":
        row = limits(thing, verb, scene)[0]
    elif verb == "rise":
        row = limits(thing, verb, scene)[1]
    elif verb in ("grow", "shrink"):
        land = rows - (2 if place in ("land", "float") else horizon_gap(ground, rows))
        row = land - thing.side
    thing = thing.at(row, min(max(col, 0), cols - thing.side))
    return replace(scene, things=(thing,)), (Moving(0, verb, way),)


def horizon_gap(ground: str, rows: int) -> int:
    """Cells below the base of what grows in the sky."""
    return rows - horizon(ground, rows)


def _with_another(
    rng: np.random.Generator, scene: Scene, moving: tuple[Moving, ...], palette: Palette
) -> tuple[Scene, tuple[Moving, ...]]:
    """The same with a second thing, which stands or, now and then, moves too."""
    (mover,) = scene.things
    kinds = [k for k in palette.kinds if k != mover.kind and at_home(k, scene.ground)]
    kind = kinds[rng.integers(len(kinds))]
    size = str(rng.choice(["small", "medium"]))
    other = Thing(kind, random_colour(rng, kind, palette), size, 0, 0, str(rng.choice(FACINGS)))
    if not KINDS[kind].faces:
        other = replace(other, facing="left")
    place = lane(kind, scene.ground)
    row = lane_row(place, other.side, scene.ground, scene.rows, sky_low=False)
    passed = moving[0].verb == "go" and place == lane(mover.kind, scene.ground) == "land"
    if passed:  # it stands on the horizon, the other goes by in front
        mover = mover.at(scene.rows - mover.side, mover.col)
        row = horizon(scene.ground, scene.rows) - other.side
    free = scene.cols - other.side
    col = (
        free // 2 + int(rng.integers(-1, 2))
        if passed or moving[0].verb == "go"
        else (int(rng.choice([0, free])))
    )
    things = (mover, other.at(row, min(max(col, 0), free)))
    if not passed and rng.random() < BOTH_MOVE and "go" in KINDS[kind].moves:
        way = -1 if other.facing == "left" else 1
        moving = (*moving, Moving(1, "go", way))
    return replace(scene, things=things), moving
