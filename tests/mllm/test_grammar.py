"""The size of a picture, its grid as known tokens."""

import numpy as np
import pytest

from emu3.errors import InputError
from emu3.mllm.grammar import make_grid, read_ratio, read_sizes
from emu3.mllm.vocabulary import Vocabulary
from tests.mllm.generation.conftest import MARKERS, prompt


@pytest.fixture
def vocabulary() -> Vocabulary:
    """Text ids 8..29, markers, 32 visual ids."""
    return Vocabulary(**MARKERS, visual_start=31, visual_count=32)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 1), (2, 2), (2, 3)])
def test_every_row_ends_in_eol_and_the_end_in_eof_eoi_eos(vocabulary, height, width):
    grid = make_grid(vocabulary, read_sizes([[height, width]]), [prompt(5)[0]], None)
    row = [-1] * width + [MARKERS["eol"]]
    ending = [MARKERS[name] for name in ("eof", "eoi", "eos")]
    assert grid.forced[0].tolist() == row * height + ending
    assert grid.free_until == height * (width + 1) - 1


def test_a_smaller_picture_is_padded_beside_a_larger(vocabulary):
    grid = make_grid(vocabulary, read_sizes([[1, 2], [2, 2]]), [prompt(5)[0]] * 2, None)
    assert grid.forced[0, 6:].tolist() == [MARKERS["pad"]] * 3
    assert grid.lengths.tolist() == [6, 9]


def test_a_prompt_may_end_inside_its_picture(vocabulary):
    begun = np.append(prompt(5)[0], [40, 41, MARKERS["eol"], 42]).astype(np.int32)
    grid = make_grid(vocabulary, read_sizes([[2, 2]]), [begun], None)
    whole = make_grid(vocabulary, read_sizes([[2, 2]]), [prompt(5)[0]], None)
    assert grid.forced[0].tolist() == whole.forced[0, 4:].tolist()
    assert grid.rows_done(0, 0) == 1
    assert grid.rows_done(0, 1) == 2


def test_a_prompt_without_img_is_refused(vocabulary):
    with pytest.raises(InputError, match="img token"):
        make_grid(vocabulary, read_sizes([[2, 2]]), [np.array([9, 10], np.int32)], None)


@pytest.mark.parametrize("sizes", [[1, 2, 3], [[1.5, 2]], [[[1, 2]]]])
def test_sizes_that_are_no_pairs_are_refused(sizes):
    with pytest.raises(InputError, match="image_size"):
        read_sizes(sizes)


def test_as_many_sizes_as_fit_no_rule_are_refused(vocabulary):
    with pytest.raises(InputError, match="2 image sizes for 3 sequences"):
        make_grid(vocabulary, read_sizes([[1, 1]] * 2), [prompt(5)[0]] * 3, None)


@pytest.mark.parametrize("size", [(0, 3), (3, 4097)])
def test_a_side_out_of_range_is_refused(vocabulary, size):
    with pytest.raises(InputError, match=r"1\.\.4096"):
        vocabulary.check_size(*size)


def test_what_follows_the_last_img_token_is_the_grid(vocabulary):
    ids = np.array([9, MARKERS["img"], 40, MARKERS["img"], 41, 42])
    assert vocabulary.after_img(ids).tolist() == [41, 42]
    assert vocabulary.after_img(ids[:1]) is None


@pytest.mark.parametrize("ratio", ["16x9", "0:1", "1:", "17:1", "a:b"])
def test_a_ratio_that_is_none_is_refused(ratio):
    with pytest.raises(InputError, match="--ratio"):
        read_ratio(ratio)
