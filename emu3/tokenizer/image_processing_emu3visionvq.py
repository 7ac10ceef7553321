"""Emu3VisionVQImageProcessor: pictures to the pixel values the VQ model reads, and back.

Pixel values are float32 in about [-1, 1]. b, c, h, w: batch, channels, rows, columns. Pictures
come as PIL images, numpy arrays or MindSpore tensors, one (2-D or 3-D), many (4-D) or in a list.
"""

from collections.abc import Sequence
from pathlib import Path

import mindspore as ms
import numpy as np
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from emu3.errors import InputError
from emu3.files import atomic_path, read_json
from emu3.hub import checkpoint_folder, take_hub_options
from emu3.names import check_name
from emu3.runtime import notice
from emu3.tokenizer.picture_options import BOOKKEEPING, OPTIONS, PROCESSOR_FILE, check_options
from emu3.tokenizer.pictures import channels_last, image_list, laid_out, smart_resize


class Emu3VisionVQImageProcessor(BaseImageProcessor):
    """Resize, scale to [-1, 1] and back; every option may also be given to a single call.

    `do_round` rounds to the nearest of 256 levels on the way back; the released processor
    truncates.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012

    def __init__(
        self,
        do_resize: bool = True,
        resample: int = Image.Resampling.BICUBIC,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        image_mean: float | Sequence[float] = (0.5, 0.5, 0.5),
        image_std: float | Sequence[float] = (0.5, 0.5, 0.5),
        do_convert_rgb: bool = True,
        min_pixels: int = 512 * 512,
        max_pixels: int = 1024 * 1024,
        spatial_factor: int = 8,
        do_round: bool = False,
        **kwargs,
    ):
        kwargs.pop("size", None)
        super().__init__(**kwargs)
        self.do_resize = do_resize
        self.resample = int(resample)
        self.do_rescale = do_rescale
        self.rescale_factor = rescale_factor
        self.do_normalize = do_normalize
        self.image_mean = image_mean
        self.image_std = image_std
        self.do_convert_rgb = do_convert_rgb
        self.min_pixels = min_pixels
        self.max_pixels = max_pixels
        self.spatial_factor = spatial_factor
        self.do_round = do_round
        self._settings({})

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path, **kwargs) -> "Emu3VisionVQImageProcessor":
        """Load preprocessor_config.json from a folder or a hub id; options replace those saved.

        Raises:
            InputError: no such folder or hub id, or its file is missing or broken.
        """
        where = take_hub_options(kwargs)
        folder = checkpoint_folder(path_or_hub_id, [PROCESSOR_FILE], "--vq-model", **where)
        for name in kwargs:
            check_name("image option", name, OPTIONS, "its name")
        stated = read_json(folder / PROCESSOR_FILE, "change --vq-model") | kwargs
        stated = {name: value for name, value in stated.items() if name not in BOOKKEEPING}
        for name in stated:
            if name not in OPTIONS and (name.startswith("_") or hasattr(cls, name)):
                raise InputError(
                    f"{PROCESSOR_FILE} in {folder}: {name} is no option; leave it out or change "
                    "--vq-model"
                )
        try:
            return cls(**stated)
        except (OSError, ValueError, TypeError, OverflowError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"{PROCESSOR_FILE} in {folder} cannot be read: {reason}; change --vq-model"
            ) from None

    @property
    def size(self) -> dict[str, int]:
        """The two limits of a picture's area, as published files repeat them."""
        return {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}

    def to_dict(self) -> dict:
        """Every option, as preprocessor_config.json holds it."""
        return {**super().to_dict(), "size": self.size}

    def to_json_file(self, json_file_path: str | Path) -> None:
        """Write the options as JSON."""
        with atomic_path(json_file_path) as temporary:
            temporary.write_text(self.to_json_string(), encoding="utf-8")

    def preprocess(
        self,
        images,
        return_tensors: str | None = None,
        input_data_format: str | None = None,
        output_data_format: str = "channels_first",
        **overrides,
    ) -> BatchFeature:
        """Pixel values of pictures: `pixel_values` (B, 3, h, w) float32.

        A list of (3, h, w) arrays without `return_tensors`, else one "np" array or "ms" tensor.

        Raises:
            InputError: no picture, sizes that cannot be resized or stacked, an unknown option.
        """
        options = self._settings(overrides)
        pixels = []
        for image in image_list(images):
            array = channels_last(image, input_data_format, options["do_convert_rgb"])
            array = _as_pixels(array, options)
            if options["do_resize"]:
                array = _resize(array, options)
            pixels.append(laid_out(_scaled(array, options), output_data_format))
        return BatchFeature({"pixel_values": _stacked(pixels, return_tensors)})

    def postprocess(
        self,
        images,
        return_tensors: str | None = None,
        input_data_format: str | None = None,
        output_data_format: str = "channels_first",
        **overrides,
    ) -> BatchFeature:
        """Pictures of pixel values (B, 3, h, w) or (3, h, w): `pixel_values`, a list of PIL images.

        With `return_tensors` "np" or "ms" one (B, 3, h, w) uint8 array. PIL images pass through.

        Raises:
            InputError: no pixel values, or options under which they cannot become pictures.
        """
        options = self._settings(overrides)
        if not (options["do_rescale"] and options["do_normalize"]):
            raise InputError(
                "postprocess undoes scaling and normalisation; allowed: do_rescale and "
                "do_normalize both true; change preprocessor_config.json"
            )
        pictures = []
        for image in image_list(images):
            if not isinstance(image, Image.Image):
                array = channels_last(image, input_data_format, False)
                image = Image.fromarray(_unscaled(array, options))
            pictures.append(image)
        if return_tensors in (None, "pil", "PIL.Image.Image"):
            return BatchFeature({"pixel_values": pictures})
        arrays = [laid_out(np.asarray(picture), output_data_format) for picture in pictures]
        return BatchFeature({"pixel_values": _stacked(arrays, return_tensors)})

    def _settings(self, overrides: dict) -> dict:
        """The options of one call, checked."""
        unknown = sorted(set(overrides) - set(OPTIONS))
        if unknown:
            names = ", ".join(OPTIONS)
            raise InputError(f"image option {unknown[0]!r} is unknown; allowed: {names}")
        given = {name: value for name, value in overrides.items() if value is not None}
        options = {name: getattr(self, name) for name in OPTIONS} | given
        check_options(options)
        return options


def _as_pixels(array: np.ndarray, options: dict) -> np.ndarray:
    """(h, w, c) as uint8, or float as it is.

    Raises:
        InputError: whole numbers beyond 0..255.
    """
    if array.dtype.kind == "f":
        if options["do_rescale"] and array.max() <= 1:
            notice(
                "a picture of floats up to 1 is nearly black; pass do_rescale=False to read 0..1"
            )
        return array
    if array.min() < 0 or array.max() > 255:
        raise InputError(
            f"picture with values {array.min()}..{array.max()}; allowed: 0..255; convert it"
        )
    return array.astype(np.uint8)


def _resize(array: np.ndarray, options: dict) -> np.ndarray:
    """(h, w, c) at the size smart_resize gives: uint8 stays uint8, anything else is float32."""
    limits = (options[name] for name in ("spatial_factor", "min_pixels", "max_pixels"))
    h, w = smart_resize(*array.shape[:2], *limits)
    if (h, w) == array.shape[:2]:
        return array
    depth = array.dtype if array.dtype == np.uint8 else np.float32
    planes = [
        Image.fromarray(np.ascontiguousarray(plane, dtype=depth)).resize(
            (w, h), options["resample"]
        )
        for plane in array.transpose(2, 0, 1)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def _scaled(array: np.ndarray, options: dict) -> np.ndarray:
    """(h, w, c) pixels as float32 pixel values."""
    if options["do_rescale"]:
        array = array.astype(np.float64) * options["rescale_factor"]
    array = array.astype(np.float32)
    if options["do_normalize"]:
        mean, std = (np.float32(options[name]) for name in ("image_mean", "image_std"))
        array = (array - mean) / std
    return array


def _unscaled(array: np.ndarray, options: dict) -> np.ndarray:
    """(h, w, c) pixel values as uint8 pixels."""
    mean, std = (np.float32(options[name]) for name in ("image_mean", "image_std"))
    array = (array.astype(np.float32) + mean / std) * std
    array = np.clip(array.astype(np.float64) / options["rescale_factor"], 0, 255)
    return (np.rint(array) if options["do_round"] else array).astype(np.uint8)


def _stacked(arrays: list[np.ndarray], return_tensors: str | None):
    if return_tensors is None:
        return arrays
    if return_tensors not in ("np", "ms"):
        raise InputError(f"return_tensors {return_tensors!r} is unknown; allowed: None, 'np', 'ms'")
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) != 1:
        raise InputError(
            f"pictures of sizes {shapes} cannot be stacked; allowed: one size, or no "
            "return_tensors; resize them or pass them one by one"
        )
    stack = np.stack(arrays)
    if return_tensors == "np":
        return stack
    return ms.Tensor(stack)
