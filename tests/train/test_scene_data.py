"""What the drawn training data holds: counts, canvases, rounds of questions."""

from collections import Counter

import numpy as np

from train import prepare_scene_data
from train.features import list_files, read_feature
from train.language import questions
from train.prepare_scene_data import SELDOM, asked, draw_scene
from train.scenes import SMALL, random_scene


def test_shares_decide_how_many_shapes_a_scene_has():
    rng = np.random.default_rng(0)
    counts = Counter(len(draw_scene(rng, "1:1", False, [1, 0, 3]).shapes) for _ in range(200))
    assert set(counts) == {1, 3}
    assert 0.15 < counts[1] / 200 < 0.35


def test_rounds_ask_more_but_of_some_kinds_only_a_few():
    scene = random_scene(np.random.default_rng(3), "train", "1:1", 3)
    once = asked(scene, np.random.default_rng(0), "en", 1)
    often = asked(scene, np.random.default_rng(0), "en", 6)
    assert len({question for question, _ in often}) == len(often) > len(once)
    kinds = {}
    for seed in range(60):
        for question, answer, kind in questions(scene, np.random.default_rng(seed), "en"):
            kinds[question, answer] = kind
    counts = Counter(kinds[turn] for turn in often if turn in kinds)
    assert all(counts[kind] <= most for kind, most in SELDOM.items())
    assert counts["colour"] > 1 and counts["position"] > 1


def test_small_canvases_are_what_was_asked_for(tmp_path):
    arguments = ["--small", "--codes", "named", "--scenes", "6", "--held-back", "1"]
    prepare_scene_data.main([*arguments, "--output", str(tmp_path)])
    files = list_files(tmp_path / "t2i" / "list" / "train.json")
    assert len(files) == 5
    assert {read_feature(file).codes.shape for file in files} <= set(SMALL.values())
