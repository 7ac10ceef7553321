"""What the drawn training data holds: pictures their captions are true of, and new things."""

import numpy as np
import pytest

from emu3.locks import locked_folder
from train import prepare_scene_data
from train.data.features import list_files, read_feature
from train.mini.scene_features import draw_scene
from train.mini.world.cells import pattern_count
from train.mini.world.palette import NEW_COLOUR, NEW_KIND
from train.mini.world.scenes import held_out


def features(folder, task, split="train"):
    return [
        read_feature(file) for file in list_files(folder / task / "list" / f"{split}.json", "--x")
    ]


def test_new_scenes_show_the_new_colour_or_kind_more_often_than_not():
    rng = np.random.default_rng(0)
    shares = []
    for new in (False, True):
        scenes = [draw_scene(rng, "1:1", new) for _ in range(60)]
        assert not any(map(held_out, scenes))
        shown = [{w for t in s.things for w in (t.colour, t.kind)} for s in scenes]
        shares.append(np.mean([bool(words & {NEW_COLOUR, NEW_KIND}) for words in shown]))
    assert shares[0] == 0 and 0.5 < shares[1] < 0.9


def test_captions_and_questions_have_pictures_of_their_own(tmp_path):
    arguments = ["--codes", "named", "--scenes", "6", "--held-back", "1", "--wordings", "3"]
    assert prepare_scene_data.main([*arguments, "--output", str(tmp_path / "scenes")]) == 0
    drawn, asked = (features(tmp_path / "scenes", task) for task in ("t2i", "vqa"))
    assert len(drawn) == len(asked) == 5
    assert any(
        a.codes.shape != b.codes.shape or (a.codes != b.codes).any() for a, b in zip(drawn, asked)
    )
    assert all(len(f.captions) == 3 and f.texts == f.captions[0] for f in drawn)
    assert all((f.codes >= pattern_count()).any() for f in drawn + asked)


def test_captions_are_in_both_languages_by_turns(tmp_path):
    arguments = ["--codes", "named", "--scenes", "4", "--held-back", "1", "--wordings", "2"]
    assert prepare_scene_data.main([*arguments, "--output", str(tmp_path), "--tasks", "t2i"]) == 0
    for feature in features(tmp_path, "t2i"):
        english, chinese = feature.captions
        assert english.isascii() and not chinese.isascii()


def test_just_the_wanted_tasks_are_drawn_and_the_same_ones_later_beside_them(tmp_path):
    arguments = ["--scenes", "4", "--held-back", "1", "--codes", "named", "--wordings", "2"]
    for name, tasks in ("together", ["t2i", "vqa", "text"]), ("one", ["text"]), ("one", ["vqa"]):
        options = [*arguments, "--output", str(tmp_path / name), "--tasks", *tasks]
        assert prepare_scene_data.main(options) == 0
    assert not (tmp_path / "one" / "t2i").exists()
    for task in ("vqa", "text"):
        pairs = (features(tmp_path / name, task) for name in ("together", "one"))
        for together, one in zip(*pairs, strict=True):
            assert together.texts == one.texts


def test_descriptions_need_no_vision_tokenizer(tmp_path):
    arguments = ["--scenes", "2", "--held-back", "1", "--vq-model", str(tmp_path / "none")]
    assert prepare_scene_data.main([*arguments, "--output", str(tmp_path), "--tasks", "t2i"]) == 2
    assert prepare_scene_data.main([*arguments, "--output", str(tmp_path), "--tasks", "text"]) == 0


def test_processes_draw_what_one_draws(tmp_path):
    arguments = ["--scenes", "40", "--held-back", "1", "--codes", "named", "--tasks", "t2i"]
    arguments += ["--wordings", "2", "--batch", "1"]
    for workers in "12":
        output = ["--output", str(tmp_path / workers), "--workers", workers]
        assert prepare_scene_data.main([*arguments, *output]) == 0
    one, two = (
        [path.read_bytes() for path in sorted((tmp_path / workers / "t2i/feature").iterdir())]
        for workers in "12"
    )
    assert one == two and len(one) == 1


def test_scenes_drawn_otherwise_are_not_mixed(tmp_path, capsys):
    arguments = ["--codes", "named", "--scenes", "2", "--held-back", "1", "--wordings", "1"]
    arguments += ["--output", str(tmp_path / "scenes")]
    assert prepare_scene_data.main(arguments) == 0
    capsys.readouterr()
    assert prepare_scene_data.main([*arguments, "--seed", "1"]) == 2
    assert "change --output" in capsys.readouterr().err
    assert prepare_scene_data.main([*arguments, "--held-back", "2"]) == 2
    assert "change --held-back" in capsys.readouterr().err


def test_a_folder_of_scenes_has_one_writer_at_a_time(tmp_path, capsys):
    arguments = ["--scenes", "2", "--held-back", "1", "--codes", "named", "--tasks", "text"]
    arguments += ["--output", str(tmp_path / "scenes")]
    with locked_folder(tmp_path / "scenes", "--output"):
        assert prepare_scene_data.main(arguments) == 2
    assert "being written by process" in capsys.readouterr().err
    assert prepare_scene_data.main(arguments) == 0


@pytest.mark.parametrize("new", [False, True])
def test_questions_are_about_what_is_taught(new, tmp_path):
    arguments = ["--codes", "named", "--scenes", "40", "--held-back", "1", "--tasks", "vqa"]
    arguments += ["--output", str(tmp_path), *(["--new"] if new else [])]
    assert prepare_scene_data.main(arguments) == 0
    asked = " ".join(q for feature in features(tmp_path, "vqa") for q, _ in feature.turns)
    assert ("heart" in asked) == ("pink" in asked) == new
