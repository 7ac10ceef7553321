"""Captions, questions and answers about a drawn scene, in English ("en") and Chinese ("zh")."""

from collections.abc import Sequence

import numpy as np

from train.mini.language.captions import plan_caption
from train.mini.language.description import LANGUAGES, parse
from train.mini.language.facts import Facts, ShapeFact, all_facts
from train.mini.language.questions import plan_questions
from train.mini.scenes import Scene

__all__ = ["LANGUAGES", "Facts", "ShapeFact", "all_facts", "caption", "captions", "describe"]
__all__ += ["parse_description", "questions"]


def caption(scene: Scene, rng: np.random.Generator, language: str = "en") -> tuple[str, Facts]:
    """A caption true of the scene, and exactly the facts it states."""
    texts, facts = captions(scene, rng, [language])
    return texts[0], facts


def captions(
    scene: Scene, rng: np.random.Generator, languages: Sequence[str]
) -> tuple[list[str], Facts]:
    """A caption in each of the languages, all of the same facts, and those."""
    facts, layout = plan_caption(scene, rng)
    return [LANGUAGES[name].caption(facts, layout, rng) for name in languages], facts


def questions(
    scene: Scene, rng: np.random.Generator, language: str = "en"
) -> list[tuple[str, str, str]]:
    """(question, answer, kind) triples, each question with one right answer.

    Kinds: colour, shape, size, count, position, relation, yes/no, ground, describe.
    """
    words = LANGUAGES[language]
    planned = plan_questions(scene, rng)
    return [
        (words.ask(q.form, q.fields, rng), words.phrase(q.answer_type, q.answer), q.kind)
        for q in planned
    ]


def describe(scene: Scene, language: str = "en") -> str:
    """The one full description: every shape's size, colour, kind and place, and the ground."""
    return LANGUAGES[language].describe(all_facts(scene))


def parse_description(text: str, language: str = "en") -> Facts | None:
    """The facts of a full description; None when the text is not one."""
    return parse(text, LANGUAGES[language])
