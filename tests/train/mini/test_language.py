"""Captions, questions and descriptions are true, complete and unambiguous."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from train.mini.language import (
    LANGUAGES,
    all_facts,
    caption,
    captions,
    chinese,
    describe,
    english,
    parse_description,
    questions,
)
from train.mini.language.captions import plan_caption
from train.mini.language.facts import may_be
from train.mini.language.questions import plan_questions, references
from train.mini.scenes import COLOURS, SIZES, Ground, Scene, Shape, random_scene, relation

SCENE = Scene(
    rows=7,
    cols=7,
    ground=Ground("white", "plain"),
    shapes=(
        Shape("star", "red", "medium", row=0, col=2),
        Shape("circle", "blue", "small", row=5, col=2),
    ),
)
KINDS_OF_QUESTION = {
    "colour",
    "shape",
    "size",
    "count",
    "position",
    "relation",
    "yes/no",
    "ground",
    "describe",
}


def scenes(count: int, seed: int) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [random_scene(rng, "any") for _ in range(count)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_descriptions_parse_back_to_every_fact(language):
    for scene in scenes(200, seed=0):
        assert parse_description(describe(scene, language), language) == all_facts(scene)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_damaged_description_does_not_parse_to_the_facts(language):
    for scene in scenes(50, seed=1):
        text = describe(scene, language)
        other = replace(
            scene.shapes[0], colour="red" if scene.shapes[0].colour != "red" else "blue"
        )
        changed = describe(replace(scene, shapes=(other, *scene.shapes[1:])), language)
        assert parse_description(changed, language) != all_facts(scene)
        assert parse_description(text[: len(text) // 2], language) is None
        assert parse_description(text + text, language) is None
        assert parse_description("", language) is None


def test_description_reads_as_documented():
    assert describe(SCENE, "en") == (
        "Two shapes on a white background: a medium red star at the top "
        "and a small blue circle at the bottom."
    )
    assert describe(SCENE, "zh") == (
        "白色背景上有两个图形：上方是一个中等的红色星形，下方是一个小的蓝色圆形。"
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_name_what_their_facts_state(language):
    rng, words = np.random.default_rng(2), LANGUAGES[language]
    for scene in scenes(200, seed=2):
        text, facts = caption(scene, rng, language)
        assert facts.count == len(scene.shapes)
        for fact in facts.shapes:
            assert words.phrase("colour", fact.colour) in text.lower()
            assert any(may_be(fact, shape, scene) for shape in scene.shapes)


def test_wordings_of_a_caption_state_the_same_facts():
    rng, sized = np.random.default_rng(4), Counter()
    for scene in scenes(100, seed=4):
        texts, facts = captions(scene, rng, ("en", "zh", "en"))
        stated = {fact.size for fact in facts.shapes} - {None}
        sized[bool(stated)] += 1
        for text, words in zip(texts, (english, chinese, english)):
            assert {size for size in SIZES if any(w in text for w in words.SIZES[size])} == stated
    assert min(sized[True], sized[False]) > 20


def test_stated_relations_are_true():
    rng = np.random.default_rng(3)
    stated = 0
    for scene in scenes(200, seed=3):
        _, facts = caption(scene, rng)
        for i, name, j in facts.relations:
            pair = facts.shapes[i], facts.shapes[j]
            true = {
                (a.kind, a.colour, b.kind, b.colour)
                for a in scene.shapes
                for b in scene.shapes
                if a is not b and relation(a, b) == name
            }
            assert (pair[0].kind, pair[0].colour, pair[1].kind, pair[1].colour) in true
            stated += 1
    assert stated > 40


def test_the_documented_prompts_can_be_captions():
    rng = np.random.default_rng(4)
    english = {caption(SCENE, rng, "en")[0] for _ in range(500)}
    chinese = {caption(SCENE, rng, "zh")[0] for _ in range(2000)}
    assert "a red star above a blue circle" in english
    assert "一个红色的星形在一个蓝色圆形的上方" in chinese
    assert len(english) > 150


def test_captions_are_short():
    rng = np.random.default_rng(5)
    for scene in scenes(300, seed=5):
        assert len(caption(scene, rng, "en")[0].split()) <= 36
        assert len(caption(scene, rng, "zh")[0]) <= 70


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_question_occurs(language):
    rng = np.random.default_rng(6)
    asked = [q for scene in scenes(20, seed=6) for q in questions(scene, rng, language)]
    assert {kind for _, _, kind in asked} == KINDS_OF_QUESTION
    assert not any(re.search(r"[{}]|None", q + a) for q, a, _ in asked)


def test_yes_and_no_are_balanced():
    rng = np.random.default_rng(7)
    planned = [q for scene in scenes(300, seed=7) for q in plan_questions(scene, rng)]
    answers = [q.answer for q in planned if q.kind == "yes/no"]
    assert 0.45 < np.mean(answers) < 0.55


def test_references_fit_one_shape_only():
    for scene in scenes(100, seed=8):
        for shape in scene.shapes:
            for fact in references(scene, shape):
                assert [s for s in scene.shapes if may_be(fact, s, scene)] == [shape]


def test_answers_about_a_known_scene():
    rng = np.random.default_rng(9)
    asked = {(q.rstrip("?").lower(), a) for _ in range(200) for q, a, _ in questions(SCENE, rng)}
    expected = {
        ("what colour is the star", "red"),
        ("what shape is the blue object", "circle"),
        ("how many shapes are there", "two"),
        ("where is the star", "top"),
        ("what is below the star", "a blue circle"),
        ("what colour is the background", "white"),
        ("please describe the image", describe(SCENE)),
    }
    assert expected <= asked
    assert ("what colour is the star", "blue") not in asked


def test_a_question_has_one_answer():
    rng = np.random.default_rng(10)
    for scene in scenes(20, seed=10):
        answers = {}
        for _ in range(30):
            for question, answer, _ in questions(scene, rng):
                assert answers.setdefault(question, answer) == answer


def test_an_absent_thing_is_denied():
    rng = np.random.default_rng(11)
    for scene in scenes(100, seed=11):
        for q in plan_questions(scene, rng):
            if q.form == "exists":
                there = any(may_be(q.fields["thing"], s, scene) for s in scene.shapes)
                assert q.answer == there


def test_colours_have_words_in_every_language():
    for words in LANGUAGES.values():
        names = {words.phrase("colour", colour) for colour in COLOURS}
        assert len(names) == len(COLOURS)


def test_a_mere_list_names_shapes_in_reading_order():
    rng = np.random.default_rng(5)
    seen = 0
    for _ in range(200):
        scene = random_scene(rng, "train", "1:1", 3)
        facts, layout = plan_caption(scene, rng)
        if layout == "list":
            in_order = sorted(scene.shapes, key=lambda shape: (shape.row, shape.col))
            assert [(f.kind, f.colour) for f in facts.shapes] == [
                (s.kind, s.colour) for s in in_order
            ]
            seen += 1
    assert seen > 5


def test_both_words_of_a_vertical_relation_occur_as_often():
    rng = np.random.default_rng(6)
    words = Counter(
        name
        for _ in range(400)
        for _, name, _ in plan_caption(random_scene(rng, "train", "1:1", 2), rng)[0].relations
    )
    assert words["below"] > 20
    assert 0.6 < words["above"] / words["below"] < 1.7
