"""The checker: silent about good data, and each thing that is wrong is named."""

import json

import numpy as np
import pytest

from tests.support import CODES, tiny_config, write_tokenizer
from train import check_data
from train.data.features import Feature, write_feature, write_list

GRID = np.arange(12, dtype=np.int32).reshape(3, 4)
TURNS = [("what?", "a star"), ("which colour?", "red")]
GOOD = [
    Feature("picture", GRID, "a star"),
    Feature("question", GRID, "what?", "a star"),
    Feature("talk", GRID, *TURNS[-1], turns=TURNS, independent=False),
    Feature("text", None, "hello", "world"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A language folder without weights: the checker needs none."""
    folder = tmp_path_factory.mktemp("tiny") / "language"
    write_tokenizer(folder)
    tiny_config().save_pretrained(folder)
    return folder


def fill(folder, features, split="train"):
    write_list(folder, split, [write_feature(folder, feature) for feature in features])


def check(folder, model, *more):
    return check_data.main([str(a) for a in (folder, "--model", model, *more)])


def test_good_data_has_exit_code_0_and_is_described(tmp_path, model, capsys):
    fill(tmp_path, GOOD)
    assert check(tmp_path, model) == 0
    said = capsys.readouterr().out
    assert "2 vqa, 1 t2i, 1 text" in said
    assert "tokens a sample" in said and "labels a sample" in said
    assert "labels by kind: 20 text, 12 visual, 4 eos" in said
    assert "⟦[4 codes]⟧" in said and "nothing wrong" in said
    assert said.count("sample picture") == 1 and "sample text" not in said


def test_structure_is_counted_when_it_is_supervised(tmp_path, model, capsys):
    fill(tmp_path, GOOD[:1])
    assert check(tmp_path, model, "--structure") == 0
    assert "12 visual, 5 structure, 1 eos" in capsys.readouterr().out


def test_all_lists_are_checked_or_the_one_asked_for(tmp_path, model, capsys):
    fill(tmp_path, GOOD)
    fill(tmp_path, [Feature("broken", GRID + CODES, "x")], "test")
    assert check(tmp_path, model) == 1
    assert check(tmp_path, model, "--split", "train") == 0
    assert check(tmp_path, model, "--split", "none") == 2
    assert "list/none.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (Feature("a", GRID + CODES, "x"), "VQ codes 32..43"),
        (Feature("a", GRID - 1, "x"), "VQ codes -1..10"),
        (Feature("a", GRID, " "), "empty caption"),
        (Feature("a", GRID, "x", captions=["x", ""]), "empty caption"),
        (Feature("a", GRID, "", "x"), "empty question"),
        (Feature("a", GRID, "x", ""), "empty response"),
        (Feature("a", None, "b", "c", turns=[("", "x"), ("b", "c")]), "empty question"),
        (Feature("a", GRID, "x", "<|image start|>3*4"), "response spells out <|image start|>"),
    ],
)
def test_what_is_wrong_with_a_feature_is_named(tmp_path, model, feature, said, capsys):
    fill(tmp_path, [*GOOD, feature])
    assert check(tmp_path, model) == 1
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("problem")]
    assert "a.ckpt" in line and said in line


def test_damaged_missing_and_doubled_files_are_all_named(tmp_path, model, capsys):
    fill(tmp_path, GOOD)
    damaged = tmp_path / "feature" / "text.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:30])
    path = tmp_path / "list" / "train.json"
    content = json.loads(path.read_text())
    content["path_list"] += ["gone.ckpt", "picture.ckpt"]
    path.write_text(json.dumps(content))
    assert check(tmp_path, model) == 1
    said = [x for x in capsys.readouterr().out.splitlines() if x.startswith("problem")]
    assert len(said) == 3
    for name, reason in (("text", "cannot"), ("gone", "cannot"), ("picture", "more than once")):
        assert any(f"{name}.ckpt" in line and reason in line for line in said)


@pytest.mark.parametrize("content", ["", '{"prefix": ".", "path_list": []}'])
def test_a_broken_or_empty_list_is_a_problem(tmp_path, model, content, capsys):
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "train.json").write_text(content)
    assert check(tmp_path, model) == 1
    assert "train.json" in capsys.readouterr().out


def test_a_maximum_length_says_what_it_drops(tmp_path, model, capsys):
    fill(tmp_path, GOOD)
    assert check(tmp_path, model, "--max-length", 92) == 1
    said = capsys.readouterr().out
    assert "at most 92 tokens drop 0 sample(s) whole and 1 turn(s) of others" in said
    assert "talk.ckpt" in said and "1 of its turns left out" in said
    assert check(tmp_path, model, "--max-length", 20) == 1
    said = capsys.readouterr().out
    assert "at most 20 tokens drop 4 sample(s) whole and 0 turn(s) of others" in said


def test_the_models_positions_are_the_default_maximum(tmp_path, model, capsys):
    fill(tmp_path, [Feature("a", None, "x" * 300, "y")])
    assert check(tmp_path, model) == 1
    assert f"at most {tiny_config().max_position_embeddings} tokens" in capsys.readouterr().out


def test_a_folder_without_lists_is_bad_input(tmp_path, model, capsys):
    assert check(tmp_path, model) == 2
    assert "list/SPLIT.json" in capsys.readouterr().err


def test_a_hidden_leftover_is_no_list(tmp_path, model, capsys):
    fill(tmp_path, GOOD)
    (tmp_path / "list" / ".train.k1ll9.json").touch()
    assert check(tmp_path, model) == 0


def test_every_option_has_help():
    assert all(action.help for action in check_data.build_parser()._actions)
