"""Captions of pictures and clips: what is stated is chosen first, then put into words.

All wordings of one form state the same facts. What a caption leaves out is what people leave out:
natural colours, middle sizes, the middle of the picture.
"""

from dataclasses import replace

import numpy as np

from train.mini.words import LANGUAGES
from train.mini.words.facts import (
    COLS,
    Facts,
    MoveFact,
    ThingFact,
    clear_place,
    is_clear,
    moves_of,
    third,
)
from train.mini.world.compose import PAPERS, lane
from train.mini.world.motion import Clip
from train.mini.world.scenes import Scene, Thing, relation
from train.mini.world.things import KINDS

PLAIN_COLOUR = 0.45  # chance that a natural colour is left out
SIZED = {"small": 0.5, "medium": 0.15, "large": 0.5}
SCENERY, PAPER = 0.55, 0.35  # chance that the ground is stated
MIDDLE = 0.12  # chance that the middle is stated


def caption(scene: Scene, rng: np.random.Generator, language: str) -> tuple[str, Facts]:
    """A caption of a picture, and what it states."""
    words = LANGUAGES[language]
    facts = Facts(_looks(scene, rng))
    text, facts = _layout(scene, facts, rng, words)
    if rng.random() < (PAPER if scene.ground in PAPERS else SCENERY):
        facts = replace(facts, ground=scene.ground)
        text = words.on_ground(text, scene.ground, rng)
    return words.polished(text, rng), facts


def look(thing: Thing, rng: np.random.Generator, colour: bool = False) -> ThingFact:
    """What is said of how a thing looks; its colour always if `colour`."""
    natural = thing.colour in KINDS[thing.kind].natural
    left_out = natural and not colour and rng.random() < PLAIN_COLOUR
    size = thing.size if rng.random() < SIZED[thing.size] else None
    return ThingFact(thing.kind, None if left_out else thing.colour, size)


def _looks(scene: Scene, rng: np.random.Generator) -> tuple[ThingFact, ...]:
    """What is said of each thing; the same of things that look the same."""
    said = {}
    for thing in scene.things:
        if thing.look not in said:
            said[thing.look] = look(thing, rng)
    return tuple(said[thing.look] for thing in scene.things)


def _layout(scene: Scene, facts: Facts, rng: np.random.Generator, words) -> tuple[str, Facts]:
    things, count = scene.things, len(scene.things)
    if count == 1:
        return _single(scene, facts, rng, words)
    if len({thing.look for thing in things}) == 1:
        return _alike(scene, facts, rng, words)
    ways = [_listed]
    if count == 2:
        ways += [_related, _related, _placed]
    elif not _repeats(facts):
        ways += [_between, _over]
    made = ways[rng.integers(len(ways))](scene, facts, rng, words)
    return made or _listed(scene, facts, rng, words)


def _repeats(facts: Facts) -> bool:
    return len(set(facts.things)) < facts.count


def _single(scene: Scene, facts: Facts, rng: np.random.Generator, words) -> tuple[str, Facts]:
    """One thing, with its place where chance put it elsewhere than in the middle."""
    (fact,) = facts.things
    row, col = clear_place(scene.things[0], scene)
    if lane(fact.kind, scene.ground) not in ("float", "sky") and col != "middle":
        row = None  # on land it goes without saying
    middle = (row, col) == ("middle", "middle")
    if not scene.placed and (not middle or rng.random() > MIDDLE):
        return words.thing(fact, rng), facts
    if not middle:
        row, col = (None if side == "middle" else side for side in (row, col))
    if row is None and col is None:
        return words.thing(fact, rng), facts
    text = words.placed(words.thing(fact, rng), words.place(row, col, rng))
    return text, replace(facts, things=(replace(fact, row=row, col=col),))


def _alike(scene: Scene, facts: Facts, rng: np.random.Generator, words) -> tuple[str, Facts]:
    text = words.many(facts.count, facts.things[0], rng)
    rows = {thing.row for thing in scene.things}
    if len(rows) == 1 and facts.count == 3 and rng.random() < 0.5:
        levels = tuple((i, "left of", i + 1) for i in range(2))
        return words.in_a_row(text), replace(facts, relations=levels)
    return text, facts


def _listed(scene: Scene, facts: Facts, rng: np.random.Generator, words) -> tuple[str, Facts]:
    """All things as one reads, alike ones together.

    Were they in any order, the first name of a picture would be one of two things, each with its
    colour; a head that adds what a name shows and its colour gives their mixtures, too.
    """
    groups = dict.fromkeys(facts.things[i] for i in _reading_order(scene.things))
    return words.joined([words.many(facts.things.count(f), f, rng) for f in groups]), facts


def _reading_order(things: tuple[Thing, ...]) -> list[int]:
    """Numbers of the things from the top down, and from left to right side by side."""
    above = [sum(other.base <= thing.row for other in things) for thing in things]
    return sorted(range(len(things)), key=lambda i: (above[i], things[i].centre[1]))


def _related(scene: Scene, facts: Facts, rng: np.random.Generator, words) -> tuple | None:
    i, j = (0, 1) if rng.random() < 0.5 else (1, 0)
    name = relation(scene.things[i], scene.things[j])
    if name is None or _repeats(facts):
        return None
    first, second = (words.thing(facts.things[k], rng) for k in (i, j))
    return words.related(first, name, second, rng), replace(facts, relations=((i, name, j),))


def _placed(scene: Scene, facts: Facts, rng: np.random.Generator, words) -> tuple | None:
    """Each of two things with its side."""
    name = relation(scene.things[0], scene.things[1])
    cols = [clear_place(thing, scene)[1] for thing in scene.things]
    if name != "left of" or cols != ["left", "right"]:
        return None
    said = tuple(replace(f, col=c) for f, c in zip(facts.things, cols))
    order = (0, 1) if rng.random() < 0.7 else (1, 0)
    parts = [
        words.placed(words.thing(facts.things[i], rng), words.place(None, cols[i])) for i in order
    ]
    return words.joined(parts), replace(facts, things=said)


def _between(scene: Scene, facts: Facts, rng: np.random.Generator, words) -> tuple | None:
    pairs = [(0, 1), (1, 2)]
    if any(relation(scene.things[i], scene.things[j]) != "left of" for i, j in pairs):
        return None
    a, b, c = (words.thing(fact, rng) for fact in facts.things)
    return words.between(b, a, c), replace(facts, relations=((1, "between", 0), (1, "between", 2)))


def _over(scene: Scene, facts: Facts, rng: np.random.Generator, words) -> tuple | None:
    """One thing above two others."""
    things = scene.things
    for i in range(3):
        others = [j for j in range(3) if j != i]
        if all(things[i].base < things[j].row + 1 and _above(things[i], things[j]) for j in others):
            below = words.joined([words.thing(facts.things[j], rng) for j in others])
            text = words.related(words.thing(facts.things[i], rng), "above", below, rng)
            levels = tuple((i, "higher", j) for j in others)
            return text, replace(facts, relations=levels)
    return None


def _above(a: Thing, b: Thing) -> bool:
    return a.centre[0] + 1 <= b.centre[0]


def clip_caption(clip: Clip, rng: np.random.Generator, language: str) -> tuple[str, Facts]:
    """A caption of a clip, and what it states."""
    words, first = LANGUAGES[language], clip.moments[0]
    things = tuple(look(thing, rng) for thing in first.things)
    moves = tuple(_told(move, first, rng) for move in moves_of(clip))
    facts = Facts(things, (), None, moves)
    parts = [
        words.moving(
            words.thing(things[m.index], rng), things[m.index].kind, m.verb, m.way, m.start, rng
        )
        for m in moves
    ]
    text = words.both(*parts) if len(parts) == 2 else parts[0]
    if len(parts) == 1 and len(things) == 2:
        text = words.beside(text, _beside(first, moves[0]), words.thing(things[1], rng), rng)
    if rng.random() < (PAPER if first.ground in PAPERS else SCENERY):
        facts = replace(facts, ground=first.ground)
        text = words.on_ground(text, first.ground, rng)
    return words.polished(text, rng, clip=True), facts


def _told(move: MoveFact, first: Scene, rng: np.random.Generator) -> MoveFact:
    """With where what goes comes from, now and then."""
    centre = first.things[move.index].centre[1]
    if move.verb != "go" or not is_clear(centre, first.cols) or rng.random() > 0.3:
        return move
    return replace(move, start=third(centre, first.cols, COLS))


def _beside(first: Scene, move: MoveFact) -> str:
    """How what moves is said to be to what stands: "past", "over" or "with"."""
    mover, other = first.things
    if move.verb != "go":
        return "with"
    return "over" if mover.base <= other.row + 1 and _above(mover, other) else "past"
