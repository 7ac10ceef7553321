"""The ids' one owner: layout of an image block, its grammar, and reading it back."""

import numpy as np
import pytest

from emu3.errors import InputError
from emu3.mllm import Emu3Config
from emu3.mllm.vocabulary import FREE, Vocabulary, check_same_words

VOCABULARY = Vocabulary(
    pad=0, bos=1, eos=2, img=10, boi=11, eoi=12, eol=3, eof=4, visual_start=13, visual_count=20
)
CODES = np.array([[0, 1, 2], [17, 18, 19]])
BLOCK = [11, 7, 9, 8, 10, 13, 14, 15, 3, 30, 31, 32, 3, 4, 12]


def pieces_of(ids) -> list:
    return [piece.tolist() for piece in VOCABULARY.parse_images(np.array(ids))]


def test_image_block_has_the_published_layout():
    block = VOCABULARY.image_block(CODES, [7, 9, 8])
    assert block.tolist() == BLOCK
    assert block.dtype == np.int32


def test_codes_outside_the_visual_range_are_refused():
    with pytest.raises(InputError, match="20"):
        VOCABULARY.image_block(np.array([[20]]), [7])


def test_ids_and_codes_are_inverse():
    assert VOCABULARY.codes_of(VOCABULARY.ids_of(CODES)).tolist() == CODES.tolist()
    with pytest.raises(InputError, match="12"):
        VOCABULARY.codes_of(np.array([12, 13]))


@pytest.mark.parametrize("h, w", [(1, 1), (2, 1), (3, 2), (1, 2), (2, 5)])
def test_forced_ids_end_every_row_and_the_image(h, w):
    forced = VOCABULARY.forced_ids(h, w).tolist()
    assert forced == ([FREE] * w + [3]) * h + [4, 12, 2]
    assert len(forced) == VOCABULARY.grid_length(h, w)


@pytest.mark.parametrize("h, w", [(0, 3), (3, -1), (10**6, 3)])
def test_absurd_grids_are_refused(h, w):
    with pytest.raises(InputError, match="--height"):
        VOCABULARY.forced_ids(h, w)


def test_a_vocabulary_without_visual_ids_refuses_images_only():
    config = Emu3Config(vocab_size=300)
    vocabulary = Vocabulary.from_config(config)
    assert vocabulary.visual_count == 0
    with pytest.raises(InputError, match="no visual ids"):
        vocabulary.forced_ids(2, 2)


def test_configuration_and_tokenizer_give_one_vocabulary(released_tokenizer):
    assert Vocabulary.from_config(Emu3Config()) == Vocabulary.from_tokenizer(released_tokenizer)


def test_a_configuration_and_the_tokenizer_of_another_checkpoint_are_refused(released_tokenizer):
    check_same_words(Emu3Config(), released_tokenizer)
    shifted = Emu3Config(boi_token_id=151853, eoi_token_id=151854)
    with pytest.raises(InputError, match=r"boi 151853, the tokenizer's files 151852.*--model"):
        check_same_words(shifted, released_tokenizer)


def test_the_first_eos_id_counts_and_pads_where_there_is_no_pad_id(released_tokenizer):
    config = Emu3Config(eos_token_id=[151850, 7], pad_token_id=None)
    vocabulary = Vocabulary.from_config(config)
    assert (vocabulary.eos, vocabulary.pad) == (151850, 151850)
    check_same_words(config, released_tokenizer)


def test_parsing_keeps_text_around_images_in_order():
    assert pieces_of([1, 5, *BLOCK, 6, *BLOCK, 2]) == [
        [1, 5],
        CODES.tolist(),
        [6],
        CODES.tolist(),
        [2],
    ]


def test_parsing_gives_back_any_grid():
    for h, w in [(1, 1), (1, 2), (2, 1), (5, 2)]:
        codes = np.arange(h * w).reshape(h, w)
        assert pieces_of(VOCABULARY.image_block(codes, [7])) == [codes.tolist()]


def test_an_image_without_its_head_is_still_an_image():
    assert pieces_of(BLOCK[5:]) == [CODES.tolist()]
    assert pieces_of(BLOCK[4:]) == [CODES.tolist()]


def test_a_last_row_cut_short_is_dropped():
    assert pieces_of(BLOCK[:11]) == [[[0, 1, 2]]]


def test_a_whole_last_row_without_eol_is_kept():
    assert pieces_of(BLOCK[:12]) == [CODES.tolist()]


def test_a_single_row_cut_short_is_kept():
    assert pieces_of(BLOCK[:7]) == [[[0, 1]]]


def test_rows_of_odd_length_are_fitted_to_the_commonest():
    rows = [13, 14, 3, 15, 3, 16, 17, 18, 3, 19, 20, 3, 4, 12]
    assert pieces_of([10, *rows]) == [[[0, 1], [2, 2], [3, 4], [6, 7]]]


def test_stray_ids_inside_a_grid_are_skipped():
    assert pieces_of([10, 13, 7, 14, 3, 15, 16, 3, 4, 12]) == [[[0, 1], [2, 3]]]


def test_text_after_an_image_that_never_ended_stays_text():
    assert pieces_of([10, 13, 14, 3, 7, 8]) == [[[0, 1]], [7, 8]]


def test_a_prompt_without_visual_ids_is_text():
    assert pieces_of(BLOCK[:5]) == [BLOCK[:5]]
    assert pieces_of([]) == []
