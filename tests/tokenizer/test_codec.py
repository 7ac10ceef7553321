"""Clips through the codec, a part at a time, and pictures of which rows are missing."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from PIL import Image

from emu3 import bundled
from emu3.loading import load_vision
from emu3.metrics import psnr
from emu3.tokenizer import (
    Emu3VisionVQConfig,
    Emu3VisionVQImageProcessor,
    Emu3VisionVQModel,
    TiledVision,
    VisionCodec,
)
from emu3.tokenizer.codes import NOT_MADE
from tests.golden_weights import set_golden_weights

LATENTS = 12


@pytest.fixture(scope="module")
def vision() -> Emu3VisionVQModel:
    """A tokenizer whose kernels over time all look back."""
    sizes = {"ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "codebook_size": 40}
    ms.set_seed(5)
    return set_golden_weights(Emu3VisionVQModel(Emu3VisionVQConfig(**sizes))).set_train(False)


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 40, (LATENTS, 4, 5)).astype(np.int32)


def frames(vision, codes: np.ndarray, clip_frames: int) -> np.ndarray:
    """All frames, so many at a time, (t, h, w, 3)."""
    processor = Emu3VisionVQImageProcessor(min_pixels=16, max_pixels=4096, spatial_factor=2)
    parts = VisionCodec(vision, processor).frames(codes, 4 * len(codes), clip_frames)
    return np.stack([np.asarray(frame) for part in parts for frame in part]).astype(int)


def test_a_clip_is_the_same_however_many_frames_are_made_at_a_time(vision, codes):
    whole = frames(vision, codes, 4 * LATENTS)
    assert whole.shape == (4 * LATENTS, 8, 10, 3) and whole.std() > 1
    for together in (8, 20):
        assert np.abs(frames(vision, codes, together) - whole).max() <= 1


def test_where_latent_frames_are_coded_one_by_one_each_is_a_clip_of_its_own(vision, codes):
    alone = np.concatenate([frames(vision, codes[i : i + 1], 4) for i in range(LATENTS)])
    assert (frames(vision, codes, 4) == alone).all()


def test_a_frame_depends_on_no_more_latent_frames_than_the_config_says(vision, codes):
    back = vision.config.latents_back
    near, far = codes[:, :2, :2].copy(), codes[:, :2, :2].copy()
    near[-1 - back], far[: -1 - back] = 39 - near[-1 - back], 0
    last, of_near, of_far = (
        vision.decode(Tensor(clip[None])).asnumpy()[0, -4:]
        for clip in (codes[:, :2, :2], near, far)
    )
    assert np.abs(of_far - last).max() < 1e-5 < np.abs(of_near - last).max()


def test_tiles_see_what_is_before_too(vision, codes):
    wide = np.tile(codes[:3], (1, 3, 3))[None]
    tiled = TiledVision(vision, 20)
    whole = tiled.decode(Tensor(wide)).asnumpy()
    np.testing.assert_allclose(tiled.decode(Tensor(wide), 2).asnumpy(), whole[:, 8:], atol=1e-5)


@pytest.fixture(scope="module")
def mini() -> VisionCodec:
    return VisionCodec(*load_vision(bundled.MINI_VISION))


@pytest.fixture(scope="module")
def demo(mini) -> np.ndarray:
    """Codes of the demo picture."""
    (codes,) = mini.encode_each([mini.pixels(Image.open(bundled.DEMO_IMAGE))])
    return codes


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_rows_of_a_preview_are_nearly_those_of_the_picture_and_the_rest_is_grey(mini, demo, rows):
    codes = np.where(np.arange(len(demo))[:, None] < rows, demo, NOT_MADE)
    whole, preview = (np.asarray(mini.picture(some)) for some in (demo, codes))
    made = rows * len(whole) // len(demo)
    assert preview.shape == whole.shape and (preview[made:] == 128).all()
    assert psnr(whole[:made], preview[:made]) > 18


def test_a_preview_draws_no_more_than_its_rows_and_one(mini, demo, monkeypatch):
    drawn, decode = [], mini.vision.decode
    monkeypatch.setattr(
        mini.vision, "decode", lambda codes: drawn.append(codes.shape) or decode(codes)
    )
    codes = demo.copy()
    codes[2:] = NOT_MADE
    mini.picture(codes)
    assert drawn == [(1, 3, demo.shape[1])]
