"""The language model's rows: samples of every task side by side, each as it would be alone."""

import numpy as np
import pytest

from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.mllm.prompts import PromptBuilder
from train.mini.lm.options import RowOptions
from train.mini.lm.rows import Rows, together
from train.mini.lm.tasks import ASKED, MADE, Drawing, asked_sample, made_sample
from train.mini.lm.tokenizer import world_texts
from train.mini.rank_file import learn_ranks, write_tokenizer
from train.mini.world.cells import kind_count


@pytest.fixture(scope="module")
def builder(tmp_path_factory) -> PromptBuilder:
    ranks = learn_ranks(world_texts(60, 0), 700)
    return PromptBuilder(write_tokenizer(tmp_path_factory.mktemp("words"), ranks, kind_count()))


@pytest.mark.parametrize("task", [*MADE, *ASKED])
def test_what_is_given_is_no_label_and_what_is_wanted_is(task, builder):
    drawing = Drawing(np.random.default_rng(0), builder)
    for _ in range(5):
        asked = task in ASKED
        sample = asked_sample(drawing, task, 512) if asked else made_sample(drawing, task)
        wanted = sample.labels != IGNORED_LABEL
        visual = builder.vocabulary.is_visual(sample.ids)
        assert wanted.any() and len(sample.ids) <= 512
        np.testing.assert_array_equal(sample.labels[wanted], sample.ids[wanted])
        made = (wanted & visual).sum()
        assert made == 0 if asked else task == "talk" or made >= 60
        if task in ("edit", "extension"):
            assert (visual & ~wanted).any()


def test_samples_that_share_a_row_keep_their_positions(builder):
    drawing = Drawing(np.random.default_rng(1), builder)
    samples = [made_sample(drawing, "picture") for _ in range(3)]
    row = together(samples)
    for number, sample in enumerate(samples, 1):
        np.testing.assert_array_equal(row.ids[row.branches == number], sample.ids)
        np.testing.assert_array_equal(row.positions[row.branches == number], sample.positions)


def test_a_step_has_its_shape_and_is_a_function_of_its_number(builder):
    rows = Rows(RowOptions(), 0, builder)
    batch, labels, weights = rows.at(3)
    assert batch.ids.shape == (4, 512) and labels.shape == weights.shape == (rows.labels, 1)
    np.testing.assert_array_equal(batch.ids, rows.at(3)[0].ids)
    assert not np.array_equal(batch.ids, rows.at(4)[0].ids)
    full = (batch.ids != builder.vocabulary.pad).mean()
    assert full > 0.7
