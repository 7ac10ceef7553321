"""Images to codes for feature folders: read and resized by workers, encoded in equal batches.

A picture is resized once, to multiples of the processor's factor. Without an area the image
processor does it, as at inference. A captioned picture of an area gets the grid that
generation asks for by its ratio (`latent_size`); one that is asked about gets what the processor
makes of it with both limits at that area. h, w are pixels; codes are (rows, columns).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from emu3.errors import InputError
from emu3.images import open_image, picture_size
from emu3.mllm.grammar import latent_size
from emu3.tokenizer import Emu3VisionVQImageProcessor
from emu3.tokenizer.pictures import smart_resize
from train.data.features import Feature
from train.data.records import Item, Skipped
from train.data.workers import processes

RECORD = "its record"
HEADERS_AT_ONCE = 1024  # waiting for a thread: bounds the memory of a million records
LOOKS_OF_PIXELS = (
    *("do_resize", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean"),
    *("image_std", "do_convert_rgb", "min_pixels", "max_pixels", "spatial_factor"),
)


@dataclass(frozen=True)
class Recipe:
    """How the picture of a record becomes pixel values, and all that its codes depend on.

    `area` is in pixels, or None; `encoding` says which vision tokenizer encodes.
    """

    processor: Emu3VisionVQImageProcessor
    area: int | None
    encoding: dict[str, int | str]

    @classmethod
    def make(cls, model: str, area: int | None, encoding: dict[str, int | str]) -> "Recipe":
        """The recipe with the image processor of a vision tokenizer's folder or hub id."""
        limits = {"min_pixels": area, "max_pixels": area} if area else {}
        return cls(Emu3VisionVQImageProcessor.from_pretrained(model, **limits), area, encoding)

    def size(self, item: Item, width: int, height: int) -> tuple[int, int]:
        """The (h, w) its picture is resized to.

        Raises:
            InputError: it is too small or too long.
        """
        factor = self.processor.spatial_factor
        limits = self.processor.min_pixels, self.processor.max_pixels
        h, w = smart_resize(height, width, factor, *limits)
        if self._has_grid(item):
            rows, columns = latent_size(f"{width}:{height}", self.area, factor)
            h, w = rows * factor, columns * factor
        return h, w

    def pixels(self, item: Item) -> np.ndarray:
        """Pixel values (3, h, w) float32.

        Raises:
            InputError: no picture, or one that `size` refuses.
        """
        picture = open_image(item.image, RECORD)
        if not self._has_grid(item):
            return self.processor(picture, return_tensors="np")["pixel_values"][0]
        h, w = self.size(item, *picture.size)
        picture = picture.resize((w, h), self.processor.resample)
        return self.processor(picture, do_resize=False, return_tensors="np")["pixel_values"][0]

    def fingerprint(self, item: Item) -> str:
        """A hash of the picture's bytes and of all else that its codes depend on.

        Raises:
            OSError: the picture cannot be read.
        """
        found = hashlib.sha256(self.settings)
        found.update(item.image.read_bytes())
        return found.hexdigest()

    @cached_property
    def settings(self) -> bytes:
        """How pixels are made, and which vision tokenizer encodes them."""
        settings = {name: getattr(self.processor, name) for name in LOOKS_OF_PIXELS}
        return json.dumps([settings, self.area, self.encoding], sort_keys=True).encode()

    def _has_grid(self, item: Item) -> bool:
        return self.area is not None and item.feature.kind == "t2i"


@dataclass(frozen=True)
class Look:
    """What a picture's header tells: the (h, w) it is resized to; and, if it was asked for, its
    fingerprint."""

    size: tuple[int, int]
    fingerprint: str | None

    def fits(self, feature: Feature, recipe: Recipe) -> bool:
        """Whether the codes of a feature were made of this picture, as far as it tells.

        One without a fingerprint, of an older version, tells its size alone.
        """
        if feature.inputs is not None:
            return feature.inputs == self.fingerprint
        factor = recipe.processor.spatial_factor
        return feature.codes.shape == (self.size[0] // factor, self.size[1] // factor)


class ImageReader:
    """Images as the vision tokenizer sees them, read by `workers` processes; 1 is a thread here.

    Processes start with the first batch.
    """

    def __init__(self, recipe: Recipe, workers: int, executor: Executor) -> None:
        self.recipe = recipe
        self.workers = workers
        self.executor = executor

    @classmethod
    @contextmanager
    def open(cls, recipe: Recipe, workers: int) -> Iterator["ImageReader"]:
        """A reader whose workers end with the block.

        Raises:
            InputError: a worker process died.
        """
        with ThreadPoolExecutor(1) if workers == 1 else processes(workers) as executor:
            try:
                yield cls(recipe, workers, executor)
            finally:
                executor.shutdown(cancel_futures=True)

    def looks(self, items: list[Item], marked: Callable[[Item], bool]) -> Iterator[Look | Skipped]:
        """What the header of each image tells, with fingerprints of the `marked`, by threads."""
        with ThreadPoolExecutor(self.workers) as threads:
            for start in range(0, len(items), HEADERS_AT_ONCE):
                part = items[start : start + HEADERS_AT_ONCE]
                yield from threads.map(lambda item: _look(item, self.recipe, marked(item)), part)

    def batches(
        self, batches: list[list[Item]]
    ) -> Iterator[tuple[list[Item], np.ndarray, list[Skipped]]]:
        """The readable items of each batch, their pixels (b, 3, h, w), and the other items.

        Items come with the fingerprints of what was read. The next batch is read while one is
        worked on. Pictures whose headers told a wrong size come as batches of their own.
        """
        pending = self._submit(batches[0]) if batches else []
        for number, batch in enumerate(batches):
            results = [future.result() for future in pending]
            pending = self._submit(batches[number + 1]) if number + 1 < len(batches) else []
            bad = [result for result in results if isinstance(result, Skipped)]
            groups: dict[tuple, tuple[list[Item], list[np.ndarray]]] = {}
            for item, result in zip(batch, results):
                if not isinstance(result, Skipped):
                    pixels, inputs = result
                    group = groups.setdefault(pixels.shape, ([], []))
                    group[0].append(replace(item, feature=replace(item.feature, inputs=inputs)))
                    group[1].append(pixels)
            for items, pixels in groups.values():
                yield items, np.stack(pixels), bad
                bad = []
            if bad:
                yield [], np.empty(0), bad

    def _submit(self, batch: list[Item]) -> list[Future]:
        return [self.executor.submit(_pixels, item, self.recipe) for item in batch]


def _look(item: Item, recipe: Recipe, marked: bool) -> Look | Skipped:
    if not os.path.isfile(item.image):
        return Skipped(item.line, f"no image {item.image}")
    try:
        size = recipe.size(item, *picture_size(item.image, RECORD))
        return Look(size, recipe.fingerprint(item) if marked else None)
    except InputError as error:
        return Skipped(item.line, _reason(error))
    except OSError as error:
        return Skipped(item.line, f"{item.image} cannot be read: {error.strerror}")


def _pixels(item: Item, recipe: Recipe) -> tuple[np.ndarray, str] | Skipped:
    """Pixel values (3, h, w) float32, and the fingerprint of what they were made of."""
    try:
        inputs = recipe.fingerprint(item)
        return recipe.pixels(item), inputs
    except InputError as error:
        return Skipped(item.line, _reason(error))
    except OSError as error:
        return Skipped(item.line, f"{item.image} cannot be read: {error.strerror}")


def _reason(error: InputError) -> str:
    """The message without its last clause, which names an option to change."""
    return str(error).rpartition("; ")[0] or str(error)


def equal_batches(items: list[Item], sizes: list[tuple[int, int]], most: int) -> list[list[Item]]:
    """Batches of at most `most` items of one size each, in the order of their first items."""
    groups: dict[tuple[int, int], list[Item]] = {}
    for item, size in zip(items, sizes):
        groups.setdefault(size, []).append(item)
    return [
        group[start : start + most]
        for group in groups.values()
        for start in range(0, len(group), most)
    ]
