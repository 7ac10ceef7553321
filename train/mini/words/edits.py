"""Edits: what is asked, and the picture it leads to. All else stays as it is.

A thing moves two cells where asked, or as far as there is room, at least one; a larger or smaller
one keeps its base and its middle; what is added stands where its kind does, beside what is there.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from train.mini.words import LANGUAGES
from train.mini.words.facts import ThingFact
from train.mini.words.questions import reference
from train.mini.world.compose import BASE, PAPERS, Palette, at_home, lane, lane_row, random_colour
from train.mini.world.grounds import GROUNDS
from train.mini.world.palette import SIZES
from train.mini.world.scenes import MOST_THINGS, Scene, Thing, fits

FAR = 2  # cells
WAYS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
TRIES = 30


@dataclass(frozen=True)
class Edit:
    """What is asked of a picture in words, and how it is to look then."""

    before: Scene
    after: Scene
    text: str
    kind: str


def random_edit(
    scene: Scene, rng: np.random.Generator, language: str, palette: Palette = BASE
) -> Edit | None:
    """One thing that may be asked of a picture; None where nothing was found."""
    words = LANGUAGES[language]
    for _ in range(TRIES):
        kind = str(rng.choice(list(KINDS_OF_EDIT)))
        made = KINDS_OF_EDIT[kind](scene, rng, words, palette)
        if made is not None and fits(made[0]) and made[0] != scene:
            return Edit(scene, ordered(made[0]), made[1], kind)
    return None


def ordered(scene: Scene) -> Scene:
    """Things from left to right."""
    things = sorted(scene.things, key=lambda t: (t.centre[1], t.centre[0]))
    return replace(scene, things=tuple(things))


def _one(scene: Scene, rng: np.random.Generator) -> tuple[int, ThingFact] | None:
    """A thing that words can point at."""
    index = int(rng.integers(len(scene.things)))
    fact = reference(scene, index)
    return None if fact is None else (index, fact)


def _with(scene: Scene, index: int, thing: Thing) -> Scene:
    things = list(scene.things)
    things[index] = thing
    return replace(scene, things=tuple(things))


def _recolour(scene: Scene, rng: np.random.Generator, words, palette: Palette) -> tuple | None:
    if (one := _one(scene, rng)) is None:
        return None
    index, fact = one
    colour = str(rng.choice(palette.colours))
    text = words.edit("recolour", rng, ref=words.the(fact, rng), colour=words.COLOURS[colour])
    return _with(scene, index, replace(scene.things[index], colour=colour)), text


def _move(scene: Scene, rng: np.random.Generator, words, _: Palette) -> tuple | None:
    if (one := _one(scene, rng)) is None:
        return None
    index, fact = one
    thing = scene.things[index]
    ways = list(WAYS) if lane(thing.kind, scene.ground) in ("float", "sky") else ["left", "right"]
    way = str(rng.choice(ways))
    down, across = WAYS[way]
    for far in range(FAR, 0, -1):
        moved = _with(scene, index, thing.at(thing.row + far * down, thing.col + far * across))
        if fits(moved):
            fields = {"ref": words.the(fact, rng), "way": words.MOVES[way]}
            return moved, words.edit("move", rng, **fields)
    return None


def _resize(scene: Scene, rng: np.random.Generator, words, _: Palette) -> tuple | None:
    if (one := _one(scene, rng)) is None:
        return None
    index, fact = one
    size, thing = str(rng.choice(list(SIZES))), scene.things[index]
    side = SIZES[size]
    aside = (thing.side - side) // 2 if side <= thing.side else -((side - thing.side) // 2)
    grown = replace(thing, size=size).at(thing.base - side, thing.col + aside)
    text = words.edit("resize", rng, ref=words.the(fact, rng), size=words.SIZES[size][0])
    return _with(scene, index, grown), text


def _remove(scene: Scene, rng: np.random.Generator, words, _: Palette) -> tuple | None:
    if len(scene.things) < 2 or (one := _one(scene, rng)) is None:
        return None
    index, fact = one
    left = tuple(t for i, t in enumerate(scene.things) if i != index)
    return replace(scene, things=left), words.edit("remove", rng, ref=words.the(fact, rng))


def _add(scene: Scene, rng: np.random.Generator, words, palette: Palette) -> tuple | None:
    """A small or middle thing in its lane, as near to the middle as there is room."""
    kinds = [kind for kind in palette.kinds if at_home(kind, scene.ground)]
    if len(scene.things) >= MOST_THINGS:
        return None
    kind = kinds[rng.integers(len(kinds))]
    colour, size = random_colour(rng, kind, palette), str(rng.choice(["small", "medium"]))
    place = lane(kind, scene.ground)
    row = lane_row(place, SIZES[size], scene.ground, scene.rows, sky_low=False)
    thing = Thing(kind, colour, size, row, 0, "left")
    cols = scene.cols - thing.side
    for col in sorted(range(cols + 1), key=lambda c: (abs(2 * c - cols), c)):
        more = replace(scene, things=(*scene.things, thing.at(row, col)))
        if fits(more):
            fact = ThingFact(kind, colour, size)
            return more, words.edit("add", rng, thing=words.thing(fact, rng))
    return None


def _ground(scene: Scene, rng: np.random.Generator, words, _: Palette) -> tuple | None:
    """Another ground of the same make: land under what stands on land, paper under what floats."""
    paper, sea = scene.ground in PAPERS, scene.ground == "sea"
    choices = [g for g in GROUNDS if (g in PAPERS) == paper and g != scene.ground]
    if not paper:
        choices = [g for g in choices if (g == "sea") == sea]
    choices = [g for g in choices if all(at_home(t.kind, g) for t in scene.things)]
    if not choices:
        return None
    ground = str(rng.choice(choices))
    named = words.GROUNDS[ground][0] if words is LANGUAGES["en"] else words.GROUND_NAMES[ground]
    return replace(scene, ground=ground), words.edit("ground", rng, ground=named)


Maker = Callable[[Scene, np.random.Generator, object, Palette], tuple | None]
KINDS_OF_EDIT: dict[str, Maker] = {
    "recolour": _recolour,
    "move": _move,
    "add": _add,
    "remove": _remove,
    "resize": _resize,
    "ground": _ground,
}
