"""The language model's rows: samples of every task side by side, each as it would be alone."""

import numpy as np
import pytest

from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from train.mini.lm.options import RowOptions
from train.mini.lm.rows import Rows, together
from train.mini.lm.seen import Seen
from train.mini.lm.tasks import ASKED, MADE, Drawing, asked_sample, made_sample
from train.mini.world.cells import kind_count
from train.mini.world.compose import random_scene


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
    rows = Rows(RowOptions(), 100, 0, builder)
    batch = rows.at(3)
    assert batch.ids.shape == (4, 512) and batch.labels.shape == (rows.labels,)
    np.testing.assert_array_equal(batch.ids, rows.at(3).ids)
    assert not np.array_equal(batch.ids, rows.at(4).ids)
    full = (batch.ids != builder.vocabulary.pad).mean()
    assert full > 0.7


def test_pictures_grow(builder):
    """At first all are of few cells, at last none is."""
    rows = Rows(RowOptions(small=1.0), 100, 0, builder)

    def sides(step: int) -> set[int]:
        batch = rows.at(step)
        lines = np.split(batch.ids.ravel(), np.flatnonzero(batch.ids.ravel() == eol) + 1)
        visual = [builder.vocabulary.is_visual(line).sum() for line in lines[1:-1]]
        return set(np.unique(visual)) - {0}

    eol = builder.vocabulary.eol
    assert sides(0) | sides(1) == {5, 6}
    assert not {5} & (sides(98) | sides(99)) and 8 in sides(98) | sides(99)


def test_clips_come_bit_by_bit(builder):
    rows = Rows(RowOptions(), 100, 0, builder)
    frames = [(rows.at(step).ids == builder.vocabulary.eof).sum() for step in (0, 98)]
    pictures = [(rows.at(step).ids == builder.vocabulary.boi).sum() for step in (0, 98)]
    assert frames[0] == pictures[0] and frames[1] > pictures[1]


@pytest.mark.parametrize("task", ["edit", "talk", "ask"])
def test_half_of_the_pictures_that_are_shown_are_as_the_vision_tokenizer_saw_them(task, builder):
    scene = random_scene(np.random.default_rng(0), ratio="1:1", count=1)
    seen = [Seen(scene, np.full((8, 8), kind_count() - 1, np.int32))]
    drawing = Drawing(np.random.default_rng(0), builder, seen=seen)
    last, shown = builder.vocabulary.ids_of(seen[0].codes)[0, 0], []
    for _ in range(40):
        asked = task == "ask"
        sample = asked_sample(drawing, task, 512) if asked else made_sample(drawing, task)
        given = sample.ids[sample.labels == IGNORED_LABEL]
        shown.append((given == last).sum() == 64)
    assert 0.25 < np.mean(shown) < 0.75
