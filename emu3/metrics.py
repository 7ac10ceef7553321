"""How close two pictures are: PSNR and SSIM of 8-bit pixels.

h w c for pixels: rows, columns, channels.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from emu3.errors import InputError

PEAK = 255.0
WINDOW = 11
SIGMA = 1.5


def psnr(a: Image.Image | np.ndarray, b: Image.Image | np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two pictures or clips (..., h, w, c); inf when equal.

    Raises:
        InputError: their shapes differ.
    """
    a, b = _pair(a, b)
    error = np.mean((a - b) ** 2)
    return float(10 * np.log10(PEAK**2 / error)) if error else float("inf")


def ssim(a: Image.Image | np.ndarray, b: Image.Image | np.ndarray) -> float:
    """Structural similarity of two pictures (h, w, c), or its mean over clips (t, h, w, c).

    As Wang et al. 2004: a Gaussian window of 11 pixels (fewer in smaller pictures) and sigma 1.5,
    only where the window fits, each channel alone.

    Raises:
        InputError: their shapes differ.
    """
    a, b = _pair(a, b)
    if a.ndim == 4:
        return float(np.mean([_ssim(x, y) for x, y in zip(a, b)]))
    return _ssim(a, b)


def _pair(a, b) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise InputError(f"pictures of shapes {a.shape} and {b.shape}; allowed: the same shape")
    return a, b


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    mean_a, mean_b = _smooth(a), _smooth(b)
    var_a = _smooth(a * a) - mean_a**2
    var_b = _smooth(b * b) - mean_b**2
    both = _smooth(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    similar = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return float(np.mean(similar / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


def _smooth(pixels: np.ndarray) -> np.ndarray:
    """Gaussian means (h', w', c) wherever the window fits into (h, w, c)."""
    for axis in (0, 1):
        size = min(WINDOW, pixels.shape[axis])
        offsets = np.arange(size) - (size - 1) / 2
        weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
        pixels = sliding_window_view(pixels, size, axis) @ (weights / weights.sum())
    return pixels
