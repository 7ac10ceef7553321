"""The batches emu3-mini learns from: targets in step with the tokens, small scenes, kinds."""

import numpy as np
import pytest

from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from train.mini import __main__ as mini
from train.mini.batches import Batches
from train.mini.options import DrawnOptions
from train.mini.rank_file import write_tokenizer
from train.mini.scenes import SMALL

SIZES = {"t2i_batch": 6, "t2i_length": 96, "t2i_labels": 49}
SIZES |= {"vqa_batch": 4, "vqa_length": 320, "vqa_labels": 96}


@pytest.fixture
def batches(builder):
    def make(**more):
        values = SIZES | {"cycle": 2, "vqa_share": 1, "small": 0.0}
        values |= {"counts": [1, 1, 1], "null_prompt_prob": 0.3}
        return Batches(DrawnOptions(**(values | more)), 0, builder)

    return make


def test_what_a_picture_shows_is_among_its_targets(batches):
    for step in range(0, 20, 2):
        name, batch, labels, weights = batches().at(step)
        used = batch.labels != IGNORED_LABEL
        assert name == "t2i" and used.sum() > 200
        shown = (labels == batch.labels[:, None]) & (weights > 0)
        assert shown[used].any(1).all()
        assert (labels[~used] == IGNORED_LABEL).all()
        np.testing.assert_allclose(weights[used].sum(1), 1, rtol=1e-4)


def test_dropped_captions_leave_the_picture_itself_as_target(batches):
    _, batch, labels, weights = batches(null_prompt_prob=1.0).at(0)
    used = batch.labels != IGNORED_LABEL
    assert (labels[used, 0] == batch.labels[used]).all()
    assert (weights[used, 0] == 1).all()


def test_small_scenes_are_for_questions_only(batches, builder):
    cells = {rows * cols for rows, cols in SMALL.values()}
    images = builder.vocabulary.is_visual
    _, pictures, _, _ = batches(small=1.0).at(0)
    name, questions, _, _ = batches(small=1.0).at(1)
    assert name == "vqa"
    assert {int(images(row).sum()) for row in questions.ids} <= cells
    assert min(int(images(row).sum()) for row in pictures.ids) > max(cells)


def test_a_step_gives_the_same_batch_again(batches):
    for step in (0, 1):
        for a, b in zip(batches().at(step)[2:], batches().at(step)[2:], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--vqa-share", "3", "--cycle", "2"], "change --vqa-share"),
        (["--counts", "0", "0", "0"], "--counts"),
        (["--t2i-labels", "40"], "change --t2i-length, --t2i-labels"),
        (["--add-layers", "2"], "--model"),
        (["--floor", "1.5"], "from 0 to 1"),
        ([], "--tokenizer"),
    ],
)
def test_bad_options_are_named(options, words, capsys):
    try:
        code = mini.main(options)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert words in capsys.readouterr().err


def test_a_tokenizer_of_another_number_of_codes_is_refused(tmp_path, capsys):
    write_tokenizer(tmp_path, [bytes([i]) for i in range(256)], 10)
    assert mini.main(["--tokenizer", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "a tokenizer of 10 visual tokens" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
