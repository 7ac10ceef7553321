"""The English words of captions, questions, answers and descriptions.

In every tuple of words the first is the usual one, and the only one that answers use.
"""

import re
from collections.abc import Sequence

import numpy as np

from train.mini.language.facts import OPPOSITE, Facts, ShapeFact
from train.mini.scenes import Ground

Rng = np.random.Generator | None

KINDS = {
    "circle": ("circle", "disc"),
    "square": ("square",),
    "triangle": ("triangle",),
    "diamond": ("diamond", "rhombus"),
    "star": ("star",),
    "cross": ("cross", "plus sign"),
    "heart": ("heart",),
}
SIZES = {"small": ("small", "little"), "medium": ("medium", "medium-sized")}
SIZES["large"] = ("large", "big")
RELATIONS = {
    "above": ("above", "over"),
    "below": ("below", "under"),
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
}
SIDES = {"above": "above", "below": "below", "left of": "left", "right of": "right"}
TONES = {
    "white": ("white",),
    "cream": ("cream", "beige"),
    "pale blue": ("pale blue", "light blue"),
}
NUMBERS = ("zero", "one", "two", "three")
CORNERS = ("at the {0} {1}", "in the {0} {1} corner", "in the {0} {1}")

QUESTIONS = {
    "colour": (
        "What colour is {ref}",
        "What is the colour of {ref}",
        "Which colour does {ref} have",
    ),
    "shape": ("What shape is {object}", "What kind of shape is {object}", "What is {object}"),
    "size": ("What size is {ref}", "How big is {ref}", "How large is {ref}"),
    "count all": (
        "How many shapes are there",
        "How many shapes are in the image",
        "How many objects does the picture show",
        "Count the shapes",
    ),
    "count": ("How many {plural} are there", "How many {plural} are in the image"),
    "position": ("Where is {ref}", "Where is {ref} in the image", "What is the position of {ref}"),
    "neighbour": ("What is {relation} {ref}", "Which shape is {relation} {ref}"),
    "side": ("Where is {ref} relative to {other}", "Where is {ref} compared with {other}"),
    "exists": (
        "Is there {thing}",
        "Is there {thing} in the image",
        "Does the picture show {thing}",
        "Can you see {thing}",
    ),
    "is related": ("Is {ref} {relation} {other}",),
    "is colour": ("Is {ref} {colour}", "Is the colour of {ref} {colour}"),
    "is size": ("Is {ref} {size}",),
    "is kind": ("Is {object} {kind}",),
    "is count": ("Are there {number} shapes", "Are there {number} shapes in the image"),
    "ground tone": ("What colour is the background", "What is the colour of the background"),
    "ground texture": (
        "What pattern does the background have",
        "What is the pattern of the background",
        "What does the background look like",
    ),
    "describe": (
        "Please describe the image",
        "Describe the image",
        "Please describe the picture",
        "Describe the picture",
        "What is in the image",
        "What do you see in the picture",
    ),
}


def usual(words: Sequence[str], rng: Rng) -> str:
    """The first of `words`; with chance at hand, one of the others in 3 of 10 cases."""
    if rng is None or len(words) == 1 or rng.random() < 0.7:
        return words[0]
    return words[rng.integers(1, len(words))]


def phrase(name: str, value: object, rng: Rng = None) -> str:
    """The words for a field of a question or for an answer; without chance, the usual words."""
    return PHRASES[name](value, rng)


def ask(form: str, fields: dict[str, object], rng: np.random.Generator) -> str:
    """A question of the form, with or without a question mark."""
    words = {name: phrase(name, v, rng) for name, v in fields.items()}
    text = _spelling(any_of(QUESTIONS[form], rng).format(**words), rng)
    command = text.startswith(("Please", "Describe", "Count"))
    if rng.random() < 0.2:
        text = text[0].lower() + text[1:]
    return text if command or rng.random() < 0.5 else text + "?"


def caption(facts: Facts, layout: str, rng: np.random.Generator) -> str:
    """Facts chosen by captions.plan_caption, in words."""
    body, is_clause = LAYOUTS[layout](facts, rng)
    opening = "" if is_clause else _opening(facts.count, rng)
    if facts.ground is not None:
        ground = "on " + _ground(facts.ground, rng)
        first = not opening and rng.random() < 0.3
        body = f"{ground}, {body}" if first else f"{body} {ground}"
    body = _spelling(opening + body, rng)
    if rng.random() < 0.1:
        body = re.sub(r"\ban? ", "", body)
    if rng.random() < 0.3:
        body = body[0].upper() + body[1:]
    return body + "." if rng.random() < 0.25 else body


def describe(facts: Facts) -> str:
    """The one full description of a scene."""
    parts = [f"{_a(_noun(s, None))} {_zone(s)}" for s in facts.shapes]
    plural = "s" if facts.count > 1 else ""
    head = f"{NUMBERS[facts.count].capitalize()} shape{plural} on {_ground(facts.ground, None)}"
    return f"{head}: {_join(parts)}."


def any_of(options: Sequence, rng: np.random.Generator):
    """One of `options`, each as likely."""
    return options[rng.integers(len(options))]


def _spelling(text: str, rng: np.random.Generator) -> str:
    """American spelling now and then."""
    if rng.random() < 0.8:
        return text
    return text.replace("colour", "color").replace("centre", "center")


def _a(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _noun(shape: ShapeFact, rng: Rng, generic: str = "shape") -> str:
    words = [usual(SIZES[shape.size], rng)] if shape.size else []
    words += [shape.colour] if shape.colour else []
    return " ".join([*words, usual(KINDS[shape.kind], rng) if shape.kind else generic])


def _plural(shape: ShapeFact, rng: Rng) -> str:
    noun = _noun(shape, rng, "shapes")
    if shape.kind is None:
        return noun
    return noun + ("es" if noun.endswith(("cross", "rhombus")) else "s")


def _place(row: str | None, col: str | None, rng: Rng) -> str:
    if row == col == "middle":
        return usual(("in the centre", "in the middle"), rng)
    if col is None:
        return f"at the {row}"
    if row is None:
        return f"on the {col}"
    if rng is not None and rng.random() < 0.15:
        row = {"top": "upper", "bottom": "lower"}[row]
        return f"in the {row} {col}"
    return usual(CORNERS[:2], rng).format(row, col)


def _zone_name(place: tuple[str, str], rng: Rng = None) -> str:
    return " ".join(word for word in place if word != "middle") or "centre"


def _zone(shape: ShapeFact) -> str:
    row, col = (None if word == "middle" else word for word in (shape.row, shape.col))
    return _place(row, col, None) if row or col else _place("middle", "middle", None)


def _reference(shape: ShapeFact, rng: Rng, generics: tuple = ("object", "shape")) -> str:
    noun = "the " + _noun(shape, rng, usual(generics, rng))
    return f"{noun} {_place(shape.row, shape.col, rng)}" if shape.row or shape.col else noun


def _ground(ground: Ground, rng: Rng) -> str:
    tone = usual(TONES[ground.tone], rng)
    plain = ground.texture == "plain"
    return _a(tone if plain else f"{ground.texture} {tone}") + " background"


def _opening(count: int, rng: np.random.Generator) -> str:
    openings = ["", "a picture of ", "an image of ", "a picture with ", "an image with "]
    openings += ["draw ", f"{NUMBERS[count]} shapes: " if count > 1 else "there is "]
    return any_of(openings, rng) if rng.random() < 0.6 else ""


def _list(facts: Facts, rng: np.random.Generator) -> tuple[str, bool]:
    alike = {i: facts.shapes.count(s) for i, s in enumerate(facts.shapes)}
    parts = []
    for i, shape in enumerate(facts.shapes):
        if alike[i] == 1:
            parts.append(_a(_noun(shape, rng)))
        elif facts.shapes.index(shape) == i:
            parts.append(f"{NUMBERS[alike[i]]} {_plural(shape, rng)}")
    return _join(parts), False


def _places(facts: Facts, rng: np.random.Generator) -> tuple[str, bool]:
    placed = [(_a(_noun(s, rng)), s) for s in facts.shapes]
    if all(s.row or s.col for s in facts.shapes) and rng.random() < 0.2:
        fronted = (f"{_place(s.row, s.col, rng)} {noun}" for noun, s in placed)
        return ", ".join(fronted), True
    parts = [noun + (" " + _place(s.row, s.col, rng)) * bool(s.row or s.col) for noun, s in placed]
    return _join(parts), False


def _relation(facts: Facts, rng: np.random.Generator) -> tuple[str, bool]:
    first, second, *rest = (_a(_noun(s, rng)) for s in facts.shapes)
    name = facts.relations[0][1]
    way = rng.choice(["bare", "with", "is"], p=[0.6, 0.15, 0.25] if not rest else [0.8, 0.2, 0])
    if way == "with":
        text = f"{first} with {second} {usual(RELATIONS[OPPOSITE[name]], rng)} it"
    else:
        text = f"{first} {'is ' * (way == 'is')}{usual(RELATIONS[name], rng)} {second}"
    for noun, shape in zip(rest, facts.shapes[2:]):
        where = " " + _place(shape.row, shape.col, rng) if shape.row or shape.col else ""
        text += f", and {noun}{where}"
    return text, way == "is"


def _chain(facts: Facts, rng: np.random.Generator) -> tuple[str, bool]:
    first, second, third = (_a(_noun(s, rng)) for s in facts.shapes)
    one, two = (usual(RELATIONS[name], rng) for _, name, _ in facts.relations)
    return f"{first} {one} {second} and {two} {third}", False


LAYOUTS = {"list": _list, "places": _places, "relation": _relation, "chain": _chain}
PHRASES = {
    "ref": _reference,
    "other": _reference,
    "object": lambda shape, rng: _reference(shape, rng, ("object",)),
    "kind": lambda name, rng: _a(usual(KINDS[name], rng)),
    "thing": lambda shape, rng: _a(_noun(shape, rng)),
    "plural": _plural,
    "relation": lambda name, rng: usual(RELATIONS[name], rng),
    "side": lambda name, rng: SIDES[name],
    "colour": lambda name, rng: name,
    "shape": lambda name, rng: usual(KINDS[name], rng),
    "size": lambda name, rng: usual(SIZES[name], rng),
    "number": lambda number, rng: NUMBERS[number],
    "position": _zone_name,
    "exists": lambda true, rng: "yes" if true else "no",
    "true": lambda true, rng: "yes" if true else "no",
    "tone": lambda name, rng: usual(TONES[name], rng),
    "texture": lambda name, rng: name,
    "describe": lambda facts, rng: describe(facts),
}
