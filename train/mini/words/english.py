"""The English words of captions, questions, answers and edits.

In every tuple of words the first is the usual one, and the only one that answers use.
"""

from collections.abc import Sequence

import numpy as np

from train.mini.words.facts import ThingFact
from train.mini.world import palette

Rng = np.random.Generator | None

KINDS = {
    "house": ("house", "home"),
    "tree": ("tree",),
    "car": ("car", "automobile"),
    "boat": ("boat", "sailboat", "ship"),
    "sun": ("sun",),
    "moon": ("moon", "crescent moon"),
    "cloud": ("cloud",),
    "flower": ("flower", "blossom"),
    "fish": ("fish",),
    "bird": ("bird",),
    "balloon": ("balloon", "hot-air balloon"),
    "rocket": ("rocket", "spaceship"),
    "mushroom": ("mushroom", "toadstool"),
    "butterfly": ("butterfly",),
    "star": ("star",),
    "circle": ("circle", "ball", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "diamond": ("diamond", "rhombus"),
    "heart": ("heart",),
}
PLURALS = {"fish": "fish", "butterfly": "butterflies", "box": "boxes", "rhombus": "rhombuses"}
SIZES = {"small": ("small", "little", "tiny"), "medium": ("medium", "medium-sized")}
SIZES["large"] = ("large", "big", "huge")
RELATIONS = {
    "above": ("above", "over"),
    "below": ("below", "under"),
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
}
SIDES = {"above": "above", "below": "below", "left of": "left", "right of": "right"}
GROUNDS = {
    "day": ("by day", "on a sunny day", "under a blue sky"),
    "night": ("at night", "under a night sky"),
    "sea": ("at sea", "on the sea"),
    "meadow": ("on a meadow", "in a meadow"),
    "snow": ("in the snow", "in winter"),
    "plain": ("on a plain background", "on plain paper"),
    "striped": ("on a striped background", "on striped paper"),
    "dotted": ("on a dotted background", "on dotted paper"),
}
GROUND_NAMES = {g: g for g in GROUNDS}
NUMBERS = COUNTS = ("no", "one", "two", "three")
COLOURS = {name: name for name in palette.COLOURS}
VERBS = {
    ("car", "go"): ("drives", "goes"),
    ("boat", "go"): ("sails",),
    ("fish", "go"): ("swims",),
    ("bird", "go"): ("flies",),
    ("cloud", "go"): ("drifts",),
    "rise": ("rises", "goes up"),
    "set": ("sinks", "goes down"),
    ("sun", "set"): ("sets", "goes down"),
    ("moon", "set"): ("sets", "goes down"),
    "fall": ("falls", "drops"),
    "bounce": ("bounces",),
    "grow": ("grows", "gets larger"),
    "shrink": ("shrinks", "gets smaller"),
}
WAYS = {-1: ("to the left",), 1: ("to the right",)}
STARTS = {"left": "from the left", "middle": "from the middle", "right": "from the right"}
BESIDE = {"past": ("past {0}", "by {0}"), "over": ("over {0}", "above {0}")}
BESIDE["with"] = ("next to {0}", "beside {0}")
OPENINGS = ("a picture of ", "an image of ", "draw ", "there is ", "show me ")
CLIP_OPENINGS = ("a clip: ", "a video: ", "a video in which ")
NEXT = {
    "go": "it {verb} on {way}",
    "turn": "it turns round and {verb} {way}",
    "on": "it {verb} on",
    "rest": "it stays where it is",
    "up": "it goes up again",
    "down": "it goes down again",
    "bounce": "it bounces up",
    "same": "it stays as it is",
}
QUESTIONS = {
    "colour": ("What colour is {ref}", "What is the colour of {ref}", "Which colour is {ref}"),
    "what": ("What is in the picture", "What do you see", "What is this"),
    "what at": ("What is {place}", "What do you see {place}"),
    "size": ("How big is {ref}", "What size is {ref}", "How large is {ref}"),
    "count all": ("How many things are there", "How many things do you see"),
    "count": ("How many {plural} are there", "How many {plural} do you see"),
    "where": ("Where is {ref}", "Where in the picture is {ref}"),
    "relation": ("Where is {ref} relative to {other}", "On which side of {other} is {ref}"),
    "exists": ("Is there {thing}", "Can you see {thing}", "Does the picture show {thing}"),
    "ground": ("What is the background", "Where is this", "What is behind it"),
    "describe": (
        "Please describe the image",
        "Describe the picture",
        "Please describe the picture",
        "Describe the image",
    ),
    "what moves": ("What moves", "Which thing moves", "What is moving"),
    "which way": ("Which way does {ref} move", "In which direction does {ref} move"),
    "does": ("What does {ref} do", "What is {ref} doing"),
    "next": ("What happens next", "What will happen next", "What comes next"),
    "end": ("Where is {ref} at the end", "Where does {ref} end up"),
    "describe clip": ("Please describe the clip", "Describe the video", "What happens here"),
}
EDITS = {
    "recolour": ("make {ref} {colour}", "paint {ref} {colour}", "change {ref} to {colour}"),
    "move": ("move {ref} {way}", "shift {ref} {way}"),
    "add": ("add {thing}", "draw {thing} too", "put {thing} in"),
    "remove": ("remove {ref}", "take {ref} away", "delete {ref}"),
    "ground": ("put it {ground}", "show it {ground}", "change it to be {ground}"),
    "resize": ("make {ref} {size}", "change {ref} to be {size}"),
}
MOVES = {"left": "to the left", "right": "to the right", "up": "up", "down": "down"}
YES, NO = "yes", "no"


def usual(words: Sequence[str], rng: Rng) -> str:
    """The first of `words`; with chance at hand, one of the others in 3 of 10 cases."""
    if rng is None or len(words) == 1 or rng.random() < 0.7:
        return words[0]
    return words[rng.integers(1, len(words))]


def noun(fact: ThingFact, rng: Rng = None, plural: bool = False) -> str:
    """Size, colour and kind."""
    kind = usual(KINDS[fact.kind], rng)
    if plural:
        kind = PLURALS.get(kind, kind + "s")
    words = [usual(SIZES[fact.size], rng)] if fact.size else []
    return " ".join([*words, *([fact.colour] if fact.colour else []), kind])


def thing(fact: ThingFact, rng: Rng = None) -> str:
    """With its article."""
    words = noun(fact, rng)
    return ("an " if words[0] in "aeiou" else "a ") + words


def many(count: int, fact: ThingFact, rng: Rng = None) -> str:
    """So many alike."""
    return f"{NUMBERS[count]} {noun(fact, rng, plural=True)}" if count > 1 else thing(fact, rng)


def counted(fact: ThingFact, rng: Rng = None) -> str:
    """Alike things whose number is asked."""
    return noun(fact, rng, plural=True)


def the(fact: ThingFact, rng: Rng = None) -> str:
    """One that is known."""
    return "the " + noun(fact, rng)


def place(row: str | None, col: str | None, rng: Rng = None) -> str:
    """Where: "at the top left", "on the right", "in the middle"."""
    row, col = (None if word == "middle" else word for word in (row, col))
    if row and col:
        return usual((f"at the {row} {col}", f"in the {row} {col} corner"), rng)
    if row:
        return f"at the {row}"
    return f"on the {col}" if col else usual(("in the middle", "in the centre"), rng)


def joined(parts: Sequence[str]) -> str:
    """A list."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def in_a_row(words: str) -> str:
    """Alike things side by side."""
    return f"{words} in a row"


def placed(words: str, where: str) -> str:
    """A thing and its place."""
    return f"{words} {where}"


def related(a: str, name: str, b: str, rng: Rng = None) -> str:
    """One thing relative to others."""
    return f"{a} {usual(RELATIONS[name], rng)} {b}"


def between(a: str, b: str, c: str) -> str:
    """The first between the others."""
    return f"{a} between {b} and {c}"


def on_ground(words: str, ground: str, rng: Rng = None) -> str:
    """What is said, and where that is."""
    where = usual(GROUNDS[ground], rng)
    if rng is not None and rng.random() < 0.2:
        return f"{where}, {words}"
    return f"{words} {where}"


def verb(kind: str, name: str, rng: Rng = None) -> str:
    """What a thing does."""
    return usual(VERBS.get((kind, name)) or VERBS[name], rng)


def moving(words: str, kind: str, name: str, way: int, start: str | None, rng: Rng = None) -> str:
    """A thing that moves."""
    does = f"{words} {verb(kind, name, rng)}"
    does += f" {STARTS[start]}" if start else ""
    return f"{does} {WAYS[way][0]}" if name == "go" else does


def beside(words: str, how: str, other: str, rng: Rng = None) -> str:
    """What moves, and what stands there."""
    return f"{words} {usual(BESIDE[how], rng).format(other)}"


def both(first: str, second: str) -> str:
    """Two that move."""
    return f"{first} and {second}"


def after(form: str, kind: str, name: str, way: int) -> str:
    """What happens next, as a sentence."""
    words = NEXT[form].format(verb=verb(kind, name), way=WAYS[way][0])
    return words[0].upper() + words[1:] + "."


def polished(text: str, rng: np.random.Generator, clip: bool = False) -> str:
    """With an opening, capitals or a full stop, as people write."""
    if text.split()[0] in ("a", "an", *NUMBERS) and rng.random() < 0.3:
        openings = CLIP_OPENINGS if clip else OPENINGS
        text = openings[rng.integers(len(openings))] + text
    chance = rng.random()
    if chance < 0.03:
        text = text.upper()
    elif chance < 0.35:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.25 else text


def question(form: str, rng: np.random.Generator, **fields: str) -> str:
    """A question, with or without its mark."""
    text = usual(QUESTIONS[form], rng).format(**fields)
    if text.startswith(("Please", "Describe")):
        return text
    text = text if rng.random() < 0.8 else text[0].lower() + text[1:]
    return text + "?" if rng.random() < 0.7 else text


def edit(form: str, rng: np.random.Generator, **fields: str) -> str:
    """What is to be changed."""
    text = usual(EDITS[form], rng).format(**fields)
    return text[0].upper() + text[1:] if rng.random() < 0.4 else text


def sentence(text: str) -> str:
    """An answer of a whole sentence."""
    return text[0].upper() + text[1:] + "."
