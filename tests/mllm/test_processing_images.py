"""Emu3Processor: pictures to codes, and texts and pictures back from ids."""

import mindspore as ms
import numpy as np

from tests.mllm.fakes import picture


def test_images_of_one_size_are_encoded_together(tiny):
    assert len(tiny.tokenize_image([picture(16, 24)] * 2)) == 2
    assert tiny.vision_tokenizer.shapes == [(2, 3, 24, 16)]


def test_images_of_several_sizes_are_encoded_one_by_one(tiny):
    codes = tiny.tokenize_image([picture(16, 24), picture(24, 8)])
    assert [c.shape for c in codes] == [(3, 2), (1, 3)]
    assert tiny.vision_tokenizer.shapes == [(1, 3, 24, 16), (1, 3, 8, 24)]


def test_padded_images_are_grey_beyond_their_border(tiny):
    codes = tiny.tokenize_image([picture(16, 24), picture(24, 8)], padding_image=True)
    assert [c.shape for c in codes] == [(3, 2), (1, 3)]
    (pixels,) = tiny.vision_tokenizer.pixels
    assert pixels.shape == (2, 3, 24, 24)
    assert not pixels[0, :, :, 16:].any() and not pixels[1, :, 8:].any()
    assert pixels[0, :, :, :16].all() and pixels[1, :, :8].all()


def test_decoding_gives_texts_and_pictures_in_order(tiny):
    codes = np.array([[0, 10, 0], [0, 0, 10]])
    ids = [*tiny.prompts.understanding("abc", codes), *b"yes"]
    before, image, after = tiny.decode(ms.Tensor(ids))
    assert before.endswith("USER: ") and after == "abc. ASSISTANT:yes"
    assert image.size == (24, 16)
    assert image.getpixel((12, 4)) == (255, 255, 255)
    assert image.getpixel((4, 12)) == (127, 127, 127)


def test_a_single_piece_comes_bare(tiny):
    image = tiny.vocabulary.image_block(np.zeros((2, 1), int), [50])
    assert tiny.decode(image).size == (8, 16)
    assert tiny.decode(list(b"only text")) == "only text"


def test_an_empty_answer_is_an_empty_text(tiny):
    assert tiny.decode([]) == ""
    rows = np.array([[tiny.vocabulary.eos, tiny.vocabulary.pad], [97, 98]])
    assert tiny.batch_decode(rows, skip_special_tokens=True) == ["", "ab"]


def test_a_truncated_image_decodes_to_its_whole_rows(tiny):
    row = tiny("abc", height=3, width=2)["input_ids"][0]
    row += tiny.vocabulary.image_body(np.zeros((3, 2), int)).tolist()[:7]
    assert tiny.decode(row)[1].size == (16, 16)


def test_batches_of_tensors_decode_row_by_row(tiny):
    rows = ms.Tensor([[97, 98], [257, 99]])
    assert tiny.batch_decode(rows) == ["ab", "abcc"]
