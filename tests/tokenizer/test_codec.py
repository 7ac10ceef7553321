"""Several pictures through the vision tokenizer are what each of them is alone."""

import numpy as np
import pytest

from emu3.loading import load_vision
from emu3.tokenizer import VisionCodec
from emu3.tokenizer import codec as module
from tests.support import write_tiny_checkpoint

GRIDS = [(2, 3), (2, 3), (3, 2), (2, 3)]


@pytest.fixture(scope="module")
def codec(tmp_path_factory) -> VisionCodec:
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))[1]
    return VisionCodec(*load_vision(str(folder), "float32"))


@pytest.fixture
def codes(codec) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, codec.config.codebook_size, grid).astype(np.int32) for grid in GRIDS]


@pytest.mark.parametrize(("pixels", "passes"), [(2**18, [2, 1, 1]), (1, [1, 1, 1, 1])])
def test_neighbours_of_one_size_are_decoded_together(codec, codes, monkeypatch, pixels, passes):
    alone = [np.asarray(codec.picture(item)) for item in codes]
    together, pictures = [], codec.pictures
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", pixels)
    monkeypatch.setattr(
        codec, "pictures", lambda some: together.append(len(some)) or pictures(some)
    )
    for picture, expected in zip(codec.pictures_each(codes), alone, strict=True):
        np.testing.assert_array_equal(np.asarray(picture), expected)
    assert together == passes


def test_pictures_of_one_size_are_encoded_together_in_their_places(codec, codes, monkeypatch):
    pixels = [codec.pixels(codec.picture(item)) for item in codes]
    alone = [codec.encode(item[None])[0] for item in pixels]
    together, encode = [], codec.encode
    monkeypatch.setattr(codec, "encode", lambda some: together.append(len(some)) or encode(some))
    for found, expected in zip(codec.encode_each(pixels), alone, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert together == [3, 1]
    assert codec.encode_each([]) == []
