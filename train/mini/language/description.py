"""Reads a full description back into facts; strict, since answers are graded with it."""

import re
from functools import cache
from types import ModuleType

from train.mini.language import chinese, english
from train.mini.language.facts import COLS, ROWS, Facts, ShapeFact
from train.mini.scenes import COLOURS, KINDS, SIZES, TEXTURES, TONES, Ground


def parse(text: str, words: ModuleType) -> Facts | None:
    """The facts of a description written as `words.describe` writes; None for any other text."""
    head, body = _split(text.strip())
    parts = re.split(r", | and |，", body)
    grounds, shapes = _grounds(words), _shapes(words)
    found = tuple(shapes[part] for part in parts if part in shapes)
    ground = grounds.get((head, len(found)))
    if len(found) != len(parts) or ground is None:
        return None
    return Facts(found, ground=ground)


@cache
def _shapes(words: ModuleType) -> dict[str, ShapeFact]:
    """Every way `words` describes one shape."""
    facts = (
        ShapeFact(kind, colour, size, row, col)
        for kind in KINDS
        for colour in COLOURS
        for size in SIZES
        for row in ROWS
        for col in COLS
    )
    ground = Ground("white", "plain")
    return {_split(words.describe(Facts((fact,), ground=ground)))[1]: fact for fact in facts}


@cache
def _grounds(words: ModuleType) -> dict[tuple[str, int], Ground]:
    """Every way `words` opens a description, with the number of shapes it announces."""
    fact = ShapeFact("circle", "red", "small", "top", "left")
    grounds = [Ground(tone, texture) for tone in TONES for texture in TEXTURES]
    return {
        (_split(words.describe(Facts((fact,) * count, ground=ground)))[0], count): ground
        for ground in grounds
        for count in (1, 2, 3)
    }


def _split(description: str) -> tuple[str, str]:
    colon = next((c for c in ":：" if c in description), ":")
    head, _, body = description.partition(colon)
    return head, body.rstrip(".。").strip()


LANGUAGES = {"en": english, "zh": chinese}
