"""PSNR and SSIM against values worked out by hand and against their definitions."""

import numpy as np
import pytest
from scipy import ndimage

from emu3.errors import InputError
from emu3.metrics import psnr, ssim

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (24, 32, 3)).astype(np.uint8)


def test_psnr_of_a_constant_error():
    a, b = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 110, np.uint8)
    assert psnr(a, b) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(b, a) == psnr(a, b)


def test_equal_pictures():
    assert psnr(PICTURE, PICTURE) == float("inf")
    assert ssim(PICTURE, PICTURE) == pytest.approx(1)


def test_ssim_of_constant_pictures_compares_their_means():
    a, b = np.full((16, 16, 3), 50, np.uint8), np.full((16, 16, 3), 80, np.uint8)
    c1 = 2.55**2
    assert ssim(a, b) == pytest.approx((2 * 50 * 80 + c1) / (50**2 + 80**2 + c1))


def test_ssim_equals_its_definition_with_another_filter():
    noisy = np.clip(PICTURE + RNG.normal(0, 20, PICTURE.shape), 0, 255).astype(np.uint8)

    def smooth(x):
        return ndimage.gaussian_filter(x, 1.5, radius=5, axes=(0, 1))[5:-5, 5:-5]

    a, b = PICTURE.astype(float), noisy.astype(float)
    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    both = smooth(a * b) - mean_a * mean_b
    c1, c2 = 2.55**2, 7.65**2
    top = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    expected = np.mean(top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    assert ssim(PICTURE, noisy) == pytest.approx(expected)


def test_clips_average_their_frames():
    clip = np.stack([PICTURE, PICTURE])
    other = np.stack([PICTURE, PICTURE[::-1]])
    expected = (1 + ssim(PICTURE, PICTURE[::-1])) / 2
    assert ssim(clip, other) == pytest.approx(expected)


def test_pictures_smaller_than_the_window():
    small = PICTURE[:4, :4]
    assert ssim(small, small) == pytest.approx(1)
    assert ssim(small, 255 - small) < 0.5


def test_unequal_shapes_are_refused():
    with pytest.raises(InputError, match="same shape"):
        psnr(PICTURE, PICTURE[:-1])
