"""Tiles: the untiled result where one tile is enough, else close to it and without seams."""

import numpy as np
import pytest
from mindspore import Tensor

from emu3.errors import InputError
from emu3.tokenizer import Emu3VisionVQModel, TiledVision
from tests.support import randomised, tiny_vision_config

TILE = 32  # 8 codes of 4x4 pixels, 2 of them overlap


@pytest.fixture(scope="module")
def vision() -> Emu3VisionVQModel:
    return randomised(Emu3VisionVQModel(tiny_vision_config()), 0).set_train(False)


def smooth(*shape: int) -> Tensor:
    """Pixels that change slowly, so that tiles have alike means."""
    *rest, h, w = shape
    y, x = np.mgrid[:h, :w] / 16
    return Tensor(np.broadcast_to(np.sin(x) * np.cos(y), (*rest, h, w)).astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 3, 32, 24), (1, 4, 3, 16, 32)])
def test_what_fits_one_tile_equals_the_untiled_result_exactly(vision, shape):
    tiled, pixels = TiledVision(vision, TILE), smooth(*shape)
    codes = vision.encode(pixels)
    np.testing.assert_array_equal(tiled.encode(pixels).asnumpy(), codes.asnumpy())
    np.testing.assert_array_equal(tiled.decode(codes).asnumpy(), vision.decode(codes).asnumpy())


@pytest.mark.parametrize("shape", [(2, 3, 40, 76), (1, 4, 3, 52, 32)])
def test_larger_ones_keep_their_shape_and_never_pass_the_network_whole(vision, shape, monkeypatch):
    seen = []
    for name in ("encode_latent", "decode"):
        whole = getattr(vision, name)

        def watched(x, *more, whole=whole):
            seen.append(max(x.shape[-2:]))
            return whole(x, *more)

        monkeypatch.setattr(vision, name, watched, raising=False)
    tiled, pixels = TiledVision(vision, TILE), smooth(*shape)
    codes = tiled.encode(pixels)
    frames = (1,) if len(shape) == 5 else ()
    assert codes.shape == (shape[0], *frames, shape[-2] // 4, shape[-1] // 4)
    assert tiled.decode(codes).shape == shape
    assert len(seen) >= 4
    assert max(seen) <= TILE


def test_a_tile_is_itself_away_from_the_overlap(vision):
    codes = Tensor(np.random.default_rng(0).integers(0, 32, (1, 8, 14), np.int32))
    pixels = TiledVision(vision, TILE).decode(codes).asnumpy()
    left, right = (vision.decode(codes[..., s]).asnumpy() for s in (slice(0, 8), slice(6, 14)))
    np.testing.assert_allclose(pixels[..., :24], left[..., :24], atol=1e-6)
    np.testing.assert_allclose(pixels[..., 32:], right[..., 8:], atol=1e-6)


def test_the_overlap_passes_evenly_from_one_tile_to_the_next(vision):
    codes = Tensor(np.random.default_rng(1).integers(0, 32, (1, 8, 14), np.int32))
    pixels = TiledVision(vision, TILE).decode(codes).asnumpy()
    left, right = (vision.decode(codes[..., s]).asnumpy() for s in (slice(0, 8), slice(6, 14)))
    share = (np.arange(8, dtype=np.float32) + 0.5) / 8  # of the right tile
    mixed = left[..., 24:] * (1 - share) + right[..., :8] * share
    np.testing.assert_allclose(pixels[..., 24:32], mixed, atol=1e-5)


def test_every_code_of_any_size_is_covered(vision):
    tiled = TiledVision(vision, TILE)
    for size in range(1, 60):
        covered = np.zeros(size, bool)
        for first, last in tiled._spans(size):
            assert last - first <= 8
            covered[first:last] = True
        assert covered.all()


def test_too_small_a_tile_is_refused(vision):
    with pytest.raises(InputError, match="--tile"):
        TiledVision(vision, 28)
