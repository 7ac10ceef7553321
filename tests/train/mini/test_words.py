"""What is said about the world is true of it, in both languages, and the judge agrees."""

import numpy as np
import pytest

from train.mini.words import LANGUAGES, checking
from train.mini.words.captions import caption, clip_caption
from train.mini.words.edits import random_edit
from train.mini.words.questions import clip_questions, questions
from train.mini.world.compose import random_scene
from train.mini.world.motion import extended, random_clip
from train.mini.world.reading import Read, Reading
from train.mini.world.scenes import Scene, fits


def seen(scene: Scene, side: float = 0.0) -> Reading:
    """What the judge would read of a scene, without its pixels."""
    things = [
        Read(t.kind, t.colour, t.size, t.facing, t.centre, t.side + side, 1.0) for t in scene.things
    ]
    return Reading(scene.rows, scene.cols, scene.ground, tuple(things))


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_are_true_and_say_where_what_chance_put_aside(language):
    rng = np.random.default_rng(1)
    for _ in range(300):
        scene = random_scene(rng, "any")
        text, facts = caption(scene, rng, language)
        verdict = checking.check(seen(scene), facts)
        assert verdict["right"], (text, facts, scene)


def test_a_wrong_picture_is_not_what_was_asked_for():
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(200):
        _, facts = caption(random_scene(rng, "any", "1:1"), rng, "en")
        wrong += not checking.check(seen(random_scene(rng, "any", "1:1")), facts)["right"]
    assert wrong >= 190


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_of_clips_are_true(language):
    rng = np.random.default_rng(3)
    for _ in range(150):
        clip = random_clip(rng, "any")
        text, facts = clip_caption(clip, rng, language)
        readings = [seen(scene) for scene in clip.moments]
        assert checking.check_clip(readings, facts)["right"], (text, facts, clip)
        backwards = checking.check_clip(readings[::-1], facts)
        turns = clip.moving[0].verb == "bounce" or facts.things[0].kind in ("sun", "moon")
        assert turns or not backwards["right"]


def test_frames_that_go_on_follow_the_rules_and_others_do_not():
    rng = np.random.default_rng(4)
    for _ in range(40):
        clip = random_clip(rng, "any", moments=3)
        moments = extended(clip, 2).moments
        assert checking.follows([seen(moments[3])], (moments[3], moments[3]))
        still = [seen(moments[2])] * 8
        assert checking.follows(still, moments[2:]) != _far(moments)


def _far(moments: tuple[Scene, ...]) -> bool:
    """Whether anything is elsewhere, or by far of another size, in one of the last two moments."""
    pairs = [(a, b) for later in moments[3:] for a, b in zip(moments[2].things, later.things)]
    return any(not checking.near(a.centre, b.centre) for a, b in pairs)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_question_has_one_answer(language):
    rng = np.random.default_rng(5)
    for _ in range(60):
        scene = random_scene(rng, "any")
        answers: dict[str, str] = {}
        for _ in range(6):
            for question, answer, _ in questions(scene, rng, language):
                assert answers.setdefault(question, answer) == answer, (question, scene)
        clip = random_clip(rng, "any")
        answers = {}
        for _ in range(4):
            for question, answer, _ in clip_questions(clip, rng, language):
                assert answers.setdefault(question, answer) == answer, (question, clip)


def test_edits_change_what_is_asked_and_nothing_else():
    rng = np.random.default_rng(6)
    kinds = set()
    for _ in range(150):
        edit = random_edit(random_scene(rng), rng, "en")
        if edit is None:
            continue
        kinds.add(edit.kind)
        assert fits(edit.after) and edit.after != edit.before
        kept = set(edit.before.things) & set(edit.after.things)
        changed = max(len(edit.before.things), len(edit.after.things)) - len(kept)
        assert changed == (0 if edit.kind == "ground" else 1)
        assert checking.shows(seen(edit.after), edit.after)
        assert not checking.shows(seen(edit.before), edit.after)
    assert len(kinds) == 6
