"""Questions about pictures and clips with their answers, each wording with one right answer.

A thing is asked after by what tells it from the others: its kind, else its colour too. Answers
use the usual words alone.
"""

from collections.abc import Iterator

import numpy as np

from train.mini.words import LANGUAGES
from train.mini.words.facts import ThingFact, all_facts, clear_place, moves_of
from train.mini.world.compose import BASE, Palette
from train.mini.world.motion import Clip, Moving, extended
from train.mini.world.scenes import Scene, relation

Asked = tuple[str, str, str]  # question, answer, kind of question
PICTURE_KINDS = (
    "what",
    "colour",
    "size",
    "count",
    "where",
    "relation",
    "exists",
    "ground",
    "describe",
)
CLIP_KINDS = ("what moves", "which way", "does", "next", "end", "colour", "describe clip")


def reference(scene: Scene, index: int) -> ThingFact | None:
    """What tells one thing from the others; None if nothing does but its place."""
    thing = scene.things[index]
    others = [other for i, other in enumerate(scene.things) if i != index]
    if all(other.kind != thing.kind for other in others):
        return ThingFact(thing.kind)
    if all((other.kind, other.colour) != (thing.kind, thing.colour) for other in others):
        return ThingFact(thing.kind, thing.colour)
    return None


def questions(
    scene: Scene, rng: np.random.Generator, language: str, palette: Palette = BASE
) -> list[Asked]:
    """Questions about a picture; none asks after what is not in `palette`."""
    words = LANGUAGES[language]
    asked = [*_about_all(scene, rng, words), *_about_others(scene, rng, words, palette)]
    for index in range(len(scene.things)):
        asked += _about_one(scene, index, rng, words)
    return asked


def _about_all(scene: Scene, rng: np.random.Generator, words) -> Iterator[Asked]:
    count = len(scene.things)
    yield words.question("count all", rng), words.COUNTS[count], "count"
    yield words.question("ground", rng), words.GROUND_NAMES[scene.ground], "ground"
    yield words.question("describe", rng), full_description(scene, words), "describe"
    groups = list(dict.fromkeys(t.look[:2] for t in scene.things))
    if len(groups) == 1:
        fact = ThingFact(*groups[0])
        yield words.question("what", rng), words.many(count, fact), "what"
    kind = scene.things[rng.integers(count)].kind
    number = sum(thing.kind == kind for thing in scene.things)
    plural = words.counted(ThingFact(kind), rng)
    yield words.question("count", rng, plural=plural), words.COUNTS[number], "count"


def full_description(scene: Scene, words) -> str:
    """The one full description of a picture, a sentence."""
    facts = all_facts(scene).things
    groups = list(dict.fromkeys(facts))
    text = words.joined([words.many(facts.count(fact), fact) for fact in groups])
    return words.sentence(words.on_ground(text, scene.ground))


def _about_others(
    scene: Scene, rng: np.random.Generator, words, palette: Palette
) -> Iterator[Asked]:
    """Is there ...? Half of the time there is."""
    kinds = {thing.kind for thing in scene.things}
    looks = {(thing.kind, thing.colour) for thing in scene.things}
    there = scene.things[rng.integers(len(scene.things))]
    yield _exists(ThingFact(there.kind, there.colour), True, rng, words)
    other = ThingFact(there.kind, str(rng.choice(palette.colours)))
    if (other.kind, other.colour) not in looks:
        yield _exists(other, False, rng, words)
    absent = str(rng.choice(palette.kinds))
    yield _exists(ThingFact(absent), absent in kinds, rng, words)


def _exists(fact: ThingFact, true: bool, rng: np.random.Generator, words) -> Asked:
    text = words.question("exists", rng, thing=words.thing(fact, rng))
    return text, words.YES if true else words.NO, "exists"


def _about_one(scene: Scene, index: int, rng: np.random.Generator, words) -> Iterator[Asked]:
    thing = scene.things[index]
    row, col = clear_place(thing, scene)
    fact = reference(scene, index)
    if len(scene.things) > 1 and col in ("left", "right") and _only_one(scene, index, col):
        text = words.question("what at", rng, place=words.place(None, col))
        yield text, words.thing(ThingFact(thing.kind, thing.colour)), "what"
    if fact is None:
        return
    ref = words.the(fact, rng)
    if fact.colour is None:
        yield words.question("colour", rng, ref=ref), words.COLOURS[thing.colour], "colour"
    yield words.question("size", rng, ref=ref), words.SIZES[thing.size][0], "size"
    if row and col:
        yield words.question("where", rng, ref=ref), words.place(row, col), "where"
    for other in (i for i in range(len(scene.things)) if i != index):
        name, known = relation(thing, scene.things[other]), reference(scene, other)
        if name and known:
            fields = {"ref": ref, "other": words.the(known, rng)}
            yield words.question("relation", rng, **fields), words.SIDES[name], "relation"


def _only_one(scene: Scene, index: int, col: str) -> bool:
    """Whether every other thing clearly stands elsewhere."""
    others = (thing for i, thing in enumerate(scene.things) if i != index)
    return all(clear_place(other, scene)[1] not in (col, None) for other in others)


def clip_questions(clip: Clip, rng: np.random.Generator, language: str) -> list[Asked]:
    """Questions about a clip."""
    words, first, last = LANGUAGES[language], clip.moments[0], clip.moments[-1]
    asked = []
    moves = moves_of(clip)
    if clip.moments[0] == clip.moments[-1] == clip.moments[1]:
        return asked
    for move, moving in zip(moves, clip.moving):
        fact = reference(first, move.index)
        if fact is None:
            continue
        thing, ref = last.things[move.index], words.the(fact, rng)
        name = words.the(ThingFact(thing.kind, thing.colour))
        if len(moves) == 1:
            asked.append((words.question("what moves", rng), name, "what moves"))
            text = after(clip, moving, words)
            asked.append((words.question("next", rng), text, "next"))
        does = words.moving(words.the(ThingFact(thing.kind)), thing.kind, move.verb, move.way, None)
        asked.append((words.question("does", rng, ref=ref), words.sentence(does), "does"))
        if move.verb == "go":
            way = words.WAYS[move.way][0]
            asked.append((words.question("which way", rng, ref=ref), way, "which way"))
        row, col = clear_place(thing, last)
        if row and col:
            asked.append((words.question("end", rng, ref=ref), words.place(row, col), "end"))
        if fact.colour is None:
            colour = words.COLOURS[thing.colour]
            asked.append((words.question("colour", rng, ref=ref), colour, "colour"))
    text = words.sentence(told(clip, words))
    asked.append((words.question("describe clip", rng), text, "describe clip"))
    return asked


def told(clip: Clip, words) -> str:
    """The one full description of a clip: what moves how, what stands there, and the ground."""
    first, moves = clip.moments[0], moves_of(clip)
    facts = [ThingFact(t.kind, t.colour) for t in first.things]
    parts = [
        words.moving(words.thing(facts[m.index]), facts[m.index].kind, m.verb, m.way, None)
        for m in moves
    ]
    text = words.both(*parts) if len(parts) == 2 else parts[0]
    if len(parts) == 1 and len(facts) == 2:
        text = words.beside(text, "with", words.thing(facts[1]))
    return words.on_ground(text, first.ground)


def after(clip: Clip, moving: Moving, words) -> str:
    """What a thing does in the moment after a clip, in words."""
    before, now = (scene.things[moving.index] for scene in clip.moments[-2:])
    more = extended(clip, 1)
    then = more.moments[-1].things[moving.index]
    way = next(m.way for m in more.moving if m.index == moving.index)
    return words.after(_form(moving.verb, before, now, then), then.kind, moving.verb, way)


def _form(verb: str, before, now, then) -> str:
    """Which form of english.NEXT says what comes after."""
    if verb == "go":
        turned = (then.col - now.col) * (now.col - before.col) < 0
        return "turn" if turned else "go"
    if verb in ("grow", "shrink"):
        return "same" if then == now else "on"
    if then == now:
        return "rest"
    turned = (then.row - now.row) * (now.row - before.row) < 0
    if not turned:
        return "on" if verb != "bounce" else ("up" if then.row < now.row else "down")
    if verb == "bounce":
        return "bounce" if then.row < now.row else "down"
    return "up" if then.row < now.row else "down"
