"""The options of an image processor, as preprocessor_config.json holds them, and their limits."""

import numpy as np
from PIL import Image

from emu3.errors import InputError, shown

PROCESSOR_FILE = "preprocessor_config.json"
OPTIONS = (
    "do_resize",
    "resample",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_convert_rgb",
    "min_pixels",
    "max_pixels",
    "spatial_factor",
    "do_round",
)

SWITCHES = tuple(name for name in OPTIONS if name.startswith("do_"))
# What files say besides: their writer, code that is not run here, and the sizes again.
BOOKKEEPING = (
    "size",
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "auto_map",
)
MOST_PIXELS = 2**28
REMEDY = f"change {PROCESSOR_FILE}"


def check_options(options: dict) -> None:
    """Refuse values no picture can be processed with.

    Raises:
        InputError: one of them; names it.
    """
    for name in SWITCHES:
        if not isinstance(options[name], bool):
            raise InputError(f"{name} {shown(options[name])}; allowed: true, false; {REMEDY}")
    sizes = [options[name] for name in ("min_pixels", "max_pixels", "spatial_factor")]
    whole = all(type(size) is int and 1 <= size <= MOST_PIXELS for size in sizes)
    if not whole or sizes[0] > sizes[1]:
        raise InputError(
            f"min_pixels {shown(sizes[0])}, max_pixels {shown(sizes[1])}, spatial_factor "
            f"{shown(sizes[2])}; allowed: whole numbers in 1..{MOST_PIXELS}, min_pixels <= "
            f"max_pixels; {REMEDY}"
        )
    if options["resample"] not in [*Image.Resampling]:
        raise InputError(
            f"resample {options['resample']!r}; allowed: 0..{max(Image.Resampling)}, a filter of "
            f"Pillow; {REMEDY}"
        )
    scales = [options[name] for name in ("image_mean", "image_std", "rescale_factor")]
    try:
        with np.errstate(over="ignore"):
            values = [_numbers(value) for value in scales]
        shapes = [value.shape for value in values]
        usable = all(np.isfinite(value).all() for value in values)
        usable = usable and np.all(values[1] > 0) and np.all(values[2] > 0)
    except (TypeError, ValueError, OverflowError):
        shapes, usable = [], False
    if not usable or any(shape not in ((), (3,)) for shape in shapes[:2]) or shapes[2] != ():
        raise InputError(
            f"image_mean {shown(scales[0])}, image_std {shown(scales[1])}, rescale_factor "
            f"{shown(scales[2])}; allowed: a number or three, std and factor above 0; {REMEDY}"
        )


def _numbers(value) -> np.ndarray:
    """A number or a list of them as float32; NumPy alone would read texts as numbers, too."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{array.dtype} for a number")
    return array.astype(np.float32)
