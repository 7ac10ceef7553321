"""Questions with exactly one right answer about a scene, as fields and answers without words."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from train.mini.language.facts import OPPOSITE, ShapeFact, all_facts, clear_place, may_be
from train.mini.scenes import RELATIONS, SIZES, Scene, Shape, relation

ATTRIBUTES = ("kind", "colour", "size")


@dataclass(frozen=True)
class Question:
    """One question: `form` and `fields` become its words, `answer` the words of `answer_type`."""

    kind: str
    form: str
    fields: dict[str, object]
    answer_type: str
    answer: object


def plan_questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """One question of every kind the scene allows (several forms of yes/no), in a fixed order."""
    asked = (make(scene, rng) for make in MAKERS)
    return [question for question in asked if question is not None]


def references(scene: Scene, shape: Shape, without: str | None = None) -> list[ShapeFact]:
    """The descriptions that fit `shape` and clearly no other shape, `without` one attribute."""
    free = [name for name in ATTRIBUTES if name != without]
    chosen = (names for n in range(len(free) + 1) for names in combinations(free, n))
    facts = [ShapeFact(**{name: getattr(shape, name) for name in names}) for names in chosen]
    row, col = clear_place(shape, scene)
    rows, cols = row in ("top", "bottom"), col in ("left", "right")
    facts += [ShapeFact(row=row)] * rows + [ShapeFact(col=col)] * cols
    facts += [ShapeFact(row=row, col=col)] * ((rows and cols) or row == col == "middle")
    return [f for f in facts if sum(may_be(f, s, scene) for s in scene.shapes) == 1]


def _any(options: Iterable, rng: np.random.Generator):
    options = list(options)
    return options[rng.integers(len(options))]


def _subject(
    scene: Scene, rng: np.random.Generator, without: str | None = None, placed: bool = True
) -> tuple[Shape, ShapeFact] | None:
    """A shape at random and a description of it; None when none can be told from the others."""
    for i in rng.permutation(len(scene.shapes)):
        options = references(scene, scene.shapes[i], without)
        options = [f for f in options if placed or f.row is f.col is None]
        if options:
            return scene.shapes[i], _any(options, rng)
    return None


def _attribute(name: str, answer_type: str) -> Callable:
    def make(scene: Scene, rng: np.random.Generator) -> Question | None:
        if (subject := _subject(scene, rng, without=name)) is None:
            return None
        shape, ref = subject
        field = "object" if name == "kind" else "ref"
        return Question(answer_type, answer_type, {field: ref}, answer_type, getattr(shape, name))

    return make


def _count_all(scene: Scene, rng: np.random.Generator) -> Question:
    return Question("count", "count all", {}, "number", len(scene.shapes))


def _count(scene: Scene, rng: np.random.Generator) -> Question:
    name = _any(("kind", "colour"), rng)
    values = _choices(scene, name)
    present = {getattr(s, name) for s in scene.shapes}
    value = _any(sorted(present) if rng.random() < 0.7 else values, rng)
    number = sum(getattr(s, name) == value for s in scene.shapes)
    return Question("count", "count", {"plural": ShapeFact(**{name: value})}, "number", number)


def _position(scene: Scene, rng: np.random.Generator) -> Question | None:
    clear = [s for s in scene.shapes if None not in clear_place(s, scene)]
    for i in rng.permutation(len(clear)):
        options = [f for f in references(scene, clear[i]) if f.row is f.col is None]
        if options:
            where = clear_place(clear[i], scene)
            return Question("position", "position", {"ref": _any(options, rng)}, "position", where)
    return None


def _pair(
    scene: Scene, rng: np.random.Generator
) -> tuple[Shape, ShapeFact, Shape, ShapeFact] | None:
    """Two shapes in a clear relation with descriptions of both; None when there are none."""
    pairs = [(a, b) for a in scene.shapes for b in scene.shapes if a is not b and relation(a, b)]
    for i in rng.permutation(len(pairs)):
        refs = [
            [f for f in references(scene, s) if f.row is f.col is None and (f.kind or f.colour)]
            for s in pairs[i]
        ]
        if all(refs):
            return pairs[i][0], _any(refs[0], rng), pairs[i][1], _any(refs[1], rng)
    return None


def _side(scene: Scene, rng: np.random.Generator) -> Question | None:
    if (pair := _pair(scene, rng)) is None:
        return None
    a, ref, b, other = pair
    return Question("relation", "side", {"ref": ref, "other": other}, "side", relation(a, b))


def _neighbour(scene: Scene, rng: np.random.Generator) -> Question | None:
    """ "What is above X": asked when one shape is, and no other could be thought to be."""
    if (pair := _pair(scene, rng)) is None:
        return None
    a, _, b, other = pair
    name = relation(a, b)
    rivals = [s for s in scene.shapes if s is not a and s is not b]
    if any(relation(s, b) in (name, None) for s in rivals):
        return None
    answer = ShapeFact(a.kind, a.colour)
    fields = {"relation": name, "ref": other}
    return Question("relation", "neighbour", fields, "thing", answer)


def _exists(scene: Scene, rng: np.random.Generator) -> Question:
    shape = _any(scene.shapes, rng)
    thing = ShapeFact(shape.kind, shape.colour if rng.random() < 0.7 else None)
    true = bool(rng.random() < 0.5)
    while not true and any(may_be(thing, s, scene) for s in scene.shapes):
        name = _any(("kind", "colour") if thing.colour else ("kind",), rng)
        present = [getattr(s, name) for s in scene.shapes]
        nearby = _any(present, rng) if rng.random() < 0.5 else None
        thing = _changed(thing, name, scene, rng, nearby)
    return Question("yes/no", "exists", {"thing": thing}, "exists", true)


def _choices(scene: Scene, name: str) -> tuple[str, ...]:
    """What the attribute may be in such scenes."""
    palette = scene.palette
    return {"kind": palette.kinds, "colour": palette.colours, "size": tuple(SIZES)}[name]


def _changed(
    fact: ShapeFact, name: str, scene: Scene, rng: np.random.Generator, value: str | None = None
) -> ShapeFact:
    others = [v for v in _choices(scene, name) if v != getattr(fact, name)]
    value = value or _any(others, rng)
    return replace(fact, **{name: value})


def _is_related(scene: Scene, rng: np.random.Generator) -> Question | None:
    if (pair := _pair(scene, rng)) is None:
        return None
    a, ref, b, other = pair
    true = bool(rng.random() < 0.5)
    name = relation(a, b)
    others = [r for r in RELATIONS if r != name] + [OPPOSITE[name]] * 2
    fields = {"ref": ref, "relation": name if true else _any(others, rng), "other": other}
    return Question("yes/no", "is related", fields, "true", true)


def _is_attribute(name: str) -> Callable:
    def make(scene: Scene, rng: np.random.Generator) -> Question | None:
        if (subject := _subject(scene, rng, without=name)) is None:
            return None
        shape, ref = subject
        value, true = getattr(shape, name), bool(rng.random() < 0.5)
        if not true:
            value = getattr(_changed(ShapeFact(**{name: value}), name, scene, rng), name)
        field = "object" if name == "kind" else "ref"
        return Question("yes/no", f"is {name}", {field: ref, name: value}, "true", true)

    return make


def _is_count(scene: Scene, rng: np.random.Generator) -> Question:
    true = bool(rng.random() < 0.5)
    count = len(scene.shapes)
    options = [n for n in (2, 3) if (n == count) == true] or [2, 3]
    number = _any(options, rng)
    return Question("yes/no", "is count", {"number": number}, "true", number == count)


def _tone(scene: Scene, rng: np.random.Generator) -> Question:
    return Question("ground", "ground tone", {}, "tone", scene.ground.tone)


def _texture(scene: Scene, rng: np.random.Generator) -> Question:
    return Question("ground", "ground texture", {}, "texture", scene.ground.texture)


def _describe(scene: Scene, rng: np.random.Generator) -> Question:
    return Question("describe", "describe", {}, "describe", all_facts(scene))


MAKERS = (
    _attribute("colour", "colour"),
    _attribute("kind", "shape"),
    _attribute("size", "size"),
    _count_all,
    _count,
    _position,
    _side,
    _neighbour,
    _exists,
    _is_related,
    _is_attribute("colour"),
    _is_attribute("kind"),
    _is_attribute("size"),
    _is_count,
    _tone,
    _texture,
    _describe,
)
