"""Pictures of any kind as arrays, their layout, and the size to resize them to."""

import math

import numpy as np
from PIL import Image

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.images import upright_rgb

MAX_SIDE_RATIO = 5
LAYOUTS = ("channels_first", "channels_last")


def smart_resize(
    height: int,
    width: int,
    factor: int = 8,
    min_pixels: int = 512 * 512,
    max_pixels: int = 1024 * 1024,
) -> tuple[int, int]:
    """The (height, width) to resize to: multiples of `factor`, area within the two limits.

    Raises:
        InputError: a side is below `factor`, or the sides differ by more than 5 times.
    """
    if height < factor or width < factor:
        raise InputError(
            f"image of {width}x{height} pixels is too small; allowed: sides of at least {factor}; "
            "enlarge it"
        )
    if max(height, width) > MAX_SIDE_RATIO * min(height, width):
        raise InputError(
            f"image of {width}x{height} pixels is too long; allowed: a long side of at most "
            f"{MAX_SIDE_RATIO} times the short one; crop it"
        )
    h, w = round(height / factor) * factor, round(width / factor) * factor
    if h * w > max_pixels:
        scale = math.sqrt(height * width / max_pixels)
        h = math.floor(height / scale / factor) * factor
        w = math.floor(width / scale / factor) * factor
    elif h * w < min_pixels:
        scale = math.sqrt(min_pixels / (height * width))
        h = math.ceil(height * scale / factor) * factor
        w = math.ceil(width * scale / factor) * factor
    if h < 1 or w < 1:
        raise InputError(
            f"max_pixels {max_pixels} leaves nothing of {width}x{height} pixels; allowed: at least "
            f"{factor * factor * MAX_SIDE_RATIO}; change max_pixels in preprocessor_config.json"
        )
    return h, w


def image_list(images) -> list:
    """PIL images, or arrays of 2 or 3 dimensions, one picture an item, whatever the nesting.

    Raises:
        InputError: something that is no picture.
    """
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, list | tuple) and not np.isscalar(images[0] if images else 0):
        return [picture for item in images for picture in image_list(item)]
    array = as_numpy(images)
    if array.dtype.kind in "uif" and array.ndim in (2, 3, 4):
        return list(array) if array.ndim == 4 else [array]
    shown = f"{type(images).__name__} {getattr(images, 'shape', repr(images)[:60])}"
    raise InputError(
        f"{shown} is no picture; allowed: a PIL image, a 2-D to 4-D array or tensor of numbers, or "
        "a list of these"
    )


def channels_last(image, layout: str | None, convert_rgb: bool) -> np.ndarray:
    """A picture as (h, w, c); with `convert_rgb` a PIL image as `upright_rgb` gives it.

    Grey arrays become three channels then, too.

    Raises:
        InputError: a broken picture file, or no axis of 1 or 3 channels.
    """
    if isinstance(image, Image.Image):
        try:
            array = np.asarray(upright_rgb(image) if convert_rgb else image)
        # A file that was opened and is read only now: Pillow raises nearly anything.
        except Exception as error:
            name = getattr(image, "filename", "") or "image"
            raise InputError(f"{name} cannot be read: {error}; replace it") from None
        return array if array.ndim == 3 else array[:, :, None]
    array = image if image.ndim == 3 else image[None]
    array = array if _layout(array, layout) == "channels_last" else array.transpose(1, 2, 0)
    return np.repeat(array, 3, axis=2) if convert_rgb and array.shape[2] == 1 else array


def _layout(array: np.ndarray, layout: str | None) -> str:
    if layout in LAYOUTS:
        return layout
    if layout is not None:
        raise InputError(f"data format {layout!r} is unknown; allowed: {', '.join(LAYOUTS)}")
    for axis, name in ((0, LAYOUTS[0]), (2, LAYOUTS[1])):
        if array.shape[axis] in (1, 3):
            return name
    raise InputError(
        f"picture of shape {array.shape} has neither 1 nor 3 channels; allowed: (3, h, w) or "
        "(h, w, 3); convert it to RGB, or give input_data_format"
    )


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """(h, w, c) in `layout`: channels_first or channels_last."""
    if layout not in LAYOUTS:
        raise InputError(f"data format {layout!r} is unknown; allowed: {', '.join(LAYOUTS)}")
    return array if layout == "channels_last" else array.transpose(2, 0, 1)
