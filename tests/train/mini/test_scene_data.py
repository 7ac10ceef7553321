"""What the drawn training data holds: pictures their captions are true of, and new things."""

import numpy as np

from emu3.locks import locked_folder
from train import prepare_scene_data
from train.data.features import list_files, read_feature
from train.mini.cells import GROUNDS, cell_kinds
from train.mini.drawing import draw
from train.mini.judge import check
from train.mini.language import caption
from train.mini.scene_features import captioned, draw_scene
from train.mini.scenes import held_out, is_new


def test_a_caption_is_true_of_the_picture_drawn_for_it():
    judged = 0
    for seed in range(12):
        first = np.random.default_rng(seed)
        text, facts = caption(draw_scene(first, "4:3", seed % 2 == 0), first, "en")
        said, scene = captioned(np.random.default_rng(seed), "4:3", seed % 2 == 0, 1)
        if said == [text]:  # else the first picture held what training never shows
            assert check(draw(scene), facts)["right"], seed
            judged += 1
        assert not held_out(scene)
    assert judged >= 6


def test_new_scenes_show_the_new_colour_or_kind_more_often_than_not():
    rng = np.random.default_rng(0)
    shares = [
        np.mean([is_new(captioned(rng, "1:1", new, 1)[1]) for _ in range(60)]) for new in (0, 1)
    ]
    assert shares[0] == 0 and 0.5 < shares[1] < 0.9


def test_captions_and_questions_have_pictures_of_their_own(tmp_path):
    arguments = ["--codes", "named", "--scenes", "6", "--held-back", "1", "--wordings", "3"]
    assert prepare_scene_data.main([*arguments, "--output", str(tmp_path / "scenes")]) == 0
    pairs = [
        list_files(tmp_path / "scenes" / task / "list" / "train.json", "--data")
        for task in ("t2i", "vqa")
    ]
    drawn, asked = ([read_feature(file) for file in files] for files in pairs)
    assert len(drawn) == len(asked) == 5
    assert any((a.codes != b.codes).any() for a, b in zip(drawn, asked))
    assert all(len(f.captions) == 3 and f.texts == f.captions[0] for f in drawn)
    assert all((f.codes >= len(GROUNDS)).any() for f in drawn + asked)
    assert cell_kinds(captioned(np.random.default_rng(0), "16:9", False, 1)[1]).shape == (5, 9)


def test_just_the_wanted_tasks_are_drawn_and_the_same_ones_later_beside_them(tmp_path):
    arguments = ["--scenes", "4", "--held-back", "1", "--codes", "named", "--wordings", "2"]
    for name, tasks in ("together", ["t2i", "vqa", "text"]), ("one", ["text"]), ("one", ["vqa"]):
        options = [*arguments, "--output", str(tmp_path / name), "--tasks", *tasks]
        assert prepare_scene_data.main(options) == 0
    assert not (tmp_path / "one" / "t2i").exists()
    for task in ("vqa", "text"):
        files = [
            list_files(tmp_path / name / task / "list" / "train.json", "--data")
            for name in ("together", "one")
        ]
        for together, one in zip(*files, strict=True):
            assert read_feature(together).texts == read_feature(one).texts


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
