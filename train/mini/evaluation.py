"""What emu3-mini is asked in an evaluation, and how its answers are graded and counted.

Scenes come from a stream of chance that training never draws from. Every second one holds a
combination of colour, kind and relation that training never shows, and its prompt states it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from train.mini.language import (
    LANGUAGES,
    Facts,
    all_facts,
    caption,
    parse_description,
    questions,
)
from train.mini.language.facts import OPPOSITE
from train.mini.scenes import RATIOS, Scene, combination_held_out, random_new_scene, random_scene

# Training seeds its generators with its --seed first, never with this number.
STREAM = 20261123
KINDS_OF_QUESTION = (
    "colour",
    "shape",
    "size",
    "count",
    "position",
    "relation",
    "yes/no",
    "ground",
    "describe",
)


@dataclass(frozen=True)
class Prompt:
    """A text to draw, what it states, and the scene it was written for."""

    scene: Scene
    text: str
    facts: Facts
    language: str
    held_out: bool


@dataclass(frozen=True)
class Question:
    """A question about a scene and its right answer."""

    scene: Scene
    text: str
    answer: str
    kind: str
    language: str
    held_out: bool

    def is_right(self, answer: str) -> bool:
        """Exact but for spaces around it; a description must state every fact and no other."""
        answer = answer.strip()
        if self.kind != "describe":
            return answer == self.answer
        facts, truth = parse_description(answer, self.language), all_facts(self.scene)
        if facts is None or facts.ground != truth.ground:
            return False
        return sorted(map(str, facts.shapes)) == sorted(map(str, truth.shapes))


def make_prompts(count: int, seed: int, new: bool = False) -> list[Prompt]:
    """Prompts in both languages, ratios in turn; every second one states a held-out combination.

    With `new`, each scene shows the colour or the kind that only fine-tuning teaches.
    """
    rng = np.random.default_rng([STREAM, seed, 0])
    draw = random_new_scene if new else random_scene
    return [_prompt(i, rng, draw) for i in range(count)]


def _prompt(index: int, rng: np.random.Generator, draw: Callable[..., Scene]) -> Prompt:
    held_out, language, ratio = _turn(index)
    while True:
        scene = draw(rng, "held_out" if held_out else "train", ratio)
        text, facts = caption(scene, rng, language)
        if not held_out or _states_held_out(facts):
            return Prompt(scene, text, facts, language, held_out)


def _states_held_out(facts: Facts) -> bool:
    """Whether a stated relation, read either way round, is a held-out combination."""
    for i, name, j in facts.relations:
        a, b = facts.shapes[i], facts.shapes[j]
        if combination_held_out(a.kind, a.colour, name):
            return True
        if combination_held_out(b.kind, b.colour, OPPOSITE[name]):
            return True
    return False


def make_questions(count: int, seed: int, new: bool = False) -> list[Question]:
    """Questions of every kind in turn, in both languages, half of them on held-out scenes.

    `new` as in `make_prompts`.
    """
    rng = np.random.default_rng([STREAM, seed, 1])
    draw = random_new_scene if new else random_scene
    return [_question(i, rng, draw) for i in range(count)]


def _question(index: int, rng: np.random.Generator, draw: Callable[..., Scene]) -> Question:
    held_out, language, ratio = _turn(index // len(KINDS_OF_QUESTION))
    kind = KINDS_OF_QUESTION[index % len(KINDS_OF_QUESTION)]
    while True:
        scene = draw(rng, "held_out" if held_out else "train", ratio)
        asked = [(q, a) for q, a, k in questions(scene, rng, language) if k == kind]
        if asked:
            text, answer = asked[rng.integers(len(asked))]
            return Question(scene, text, answer, kind, language, held_out)


def make_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes to rebuild, ratios in turn, half of them held out."""
    rng = np.random.default_rng([STREAM, seed, 2])
    turns = (_turn(i) for i in range(count))
    return [random_scene(rng, "held_out" if out else "train", ratio) for out, _, ratio in turns]


def _turn(index: int) -> tuple[bool, str, str]:
    """Held out or not, language and ratio of the item at `index`: every mixture in turn."""
    languages, ratios = list(LANGUAGES), list(RATIOS)
    language = languages[index // 2 % len(languages)]
    return index % 2 == 0, language, ratios[index // 4 % len(ratios)]


def ratio_name(scene: Scene) -> str:
    """The scene's ratio, a key of scenes.RATIOS."""
    return next(name for name, size in RATIOS.items() if size == (scene.rows, scene.cols))


def rates(groups: Iterable[tuple[str, bool]]) -> dict[str, tuple[int, int]]:
    """From (group, right or not): right ones and all, by group in order of appearance."""
    counted = defaultdict(lambda: [0, 0])
    for group, right in groups:
        counted[group][0] += bool(right)
        counted[group][1] += 1
    return {group: (right, total) for group, (right, total) in counted.items()}
