"""The evaluation asks what training never shows, and grades strictly."""

from collections import Counter

import numpy as np
import pytest

from train.mini.drawing import draw
from train.mini.evaluation import (
    KINDS_OF_QUESTION,
    Question,
    make_prompts,
    make_questions,
    make_scenes,
    rates,
    ratio_name,
)
from train.mini.judge import check
from train.mini.language import describe
from train.mini.scenes import RATIOS, Ground, Scene, Shape, held_out, random_scene

SCENE = Scene(
    rows=7,
    cols=7,
    ground=Ground("white", "plain"),
    shapes=(
        Shape("star", "red", "medium", row=0, col=2),
        Shape("circle", "blue", "small", row=5, col=2),
    ),
)


def test_half_of_the_prompts_state_a_held_out_combination():
    prompts = make_prompts(40, seed=0)
    unseen = [p for p in prompts if p.held_out]
    assert len(unseen) == 20
    assert all(held_out(p.scene) and p.facts.relations for p in unseen)
    assert not any(held_out(p.scene) for p in prompts if not p.held_out)


def test_prompts_cover_languages_and_ratios_evenly():
    prompts = make_prompts(40, seed=0)
    mixtures = Counter((p.language, ratio_name(p.scene), p.held_out) for p in prompts)
    assert set(mixtures.values()) == {2}
    assert len(mixtures) == 2 * len(RATIOS) * 2


def test_a_seed_fixes_what_is_asked():
    assert make_prompts(6, seed=1) == make_prompts(6, seed=1)
    assert make_prompts(6, seed=1) != make_prompts(6, seed=2)
    assert make_questions(6, seed=1) == make_questions(6, seed=1)
    assert make_scenes(6, seed=1) != make_scenes(6, seed=2)


def test_evaluation_scenes_are_not_those_of_a_training_seed():
    training = [random_scene(np.random.default_rng(seed)) for seed in range(20)]
    asked = [p.scene for p in make_prompts(20, seed=0)] + make_scenes(20, seed=0)
    assert not set(training) & set(asked)


def test_prompts_hold_for_the_scene_they_were_written_for():
    assert all(check(draw(p.scene), p.facts)["right"] for p in make_prompts(20, seed=3))


def test_every_kind_is_asked_equally_often_in_both_languages():
    questions = make_questions(4 * len(KINDS_OF_QUESTION), seed=0)
    asked = Counter((q.kind, q.language) for q in questions)
    assert set(asked.values()) == {2}
    assert len(asked) == 2 * len(KINDS_OF_QUESTION)


def test_short_answers_are_exact():
    question = Question(SCENE, "What colour is the star", "red", "colour", "en", False)
    assert question.is_right("red")
    assert question.is_right(" red\n")
    assert not question.is_right("red.")
    assert not question.is_right("")
    assert not question.is_right("red star")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_descriptions_are_right_in_any_order_of_shapes_and_never_with_a_wrong_fact(language):
    text = describe(SCENE, language)
    question = Question(SCENE, "Please describe the image", text, "describe", language, False)
    assert question.is_right(text)
    assert not question.is_right("")
    assert not question.is_right(text[:-12])
    for old, new in (("red", "pink"), ("star", "cross"), ("white", "grey"), ("small", "large")):
        assert not question.is_right(_changed(text, old, new, language))
    if language == "en":
        head, body = text.rstrip(".").split(": ")
        first, second = body.split(" and ")
        assert question.is_right(f"{head}: {second} and {first}.")


def test_rates_count_by_group():
    counted = rates([("a", True), ("b", False), ("a", False)])
    assert counted == {"a": (1, 2), "b": (0, 1)}


def _changed(text: str, old: str, new: str, language: str) -> str:
    if language == "zh":
        words = {"red": "红", "pink": "粉", "star": "星形", "cross": "十字形"}
        words |= {"white": "白", "grey": "灰", "small": "小", "large": "大"}
        old, new = words[old], words[new]
    assert old in text
    return text.replace(old, new)
