"""Images to codes for feature folders: read and resized by workers, encoded in equal batches.

The resize is the image processor's, as at inference: once, to multiples of its factor and an
area within its limits. h, w are pixels; codes are (rows, columns).
"""

import hashlib
import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from emu3.errors import InputError
from emu3.files import read_json, write_json
from emu3.images import open_image
from emu3.tokenizer import Emu3VisionVQImageProcessor
from emu3.tokenizer.pictures import smart_resize
from train.data.records import Item, Skipped

if TYPE_CHECKING:
    from emu3.tokenizer import Emu3VisionVQModel

RECORD = "its record"
HEADERS_AT_ONCE = 1024  # waiting for a thread: bounds the memory of a million records


class ImageReader:
    """Images as the vision tokenizer sees them, read by `workers` processes; 1 is a thread here.

    Processes start with the first batch.
    """

    def __init__(self, processor: Emu3VisionVQImageProcessor, workers: int, executor: Executor):
        self.processor = processor
        self.workers = workers
        self.executor = executor

    @classmethod
    @contextmanager
    def open(cls, processor: Emu3VisionVQImageProcessor, workers: int) -> Iterator["ImageReader"]:
        """A reader whose workers end with the block.

        Raises:
            InputError: a worker process died.
        """
        if workers == 1:
            executor = ThreadPoolExecutor(1)
        else:
            # A fork of a process in which MindSpore runs threads may hang.
            context = multiprocessing.get_context("spawn")
            executor = ProcessPoolExecutor(workers, context, initializer=_ignore_interrupts)
        try:
            yield cls(processor, workers, executor)
        except BrokenProcessPool:
            raise InputError(
                f"a worker process died, perhaps for lack of memory; lower --workers {workers}"
            ) from None
        finally:
            executor.shutdown(cancel_futures=True)

    def sizes(self, items: list[Item]) -> Iterator[tuple[int, int] | Skipped]:
        """The (h, w) each image is resized to, from its header alone, read by threads."""
        limits = [
            getattr(self.processor, n) for n in ("spatial_factor", "min_pixels", "max_pixels")
        ]
        with ThreadPoolExecutor(self.workers) as threads:
            for start in range(0, len(items), HEADERS_AT_ONCE):
                part = items[start : start + HEADERS_AT_ONCE]
                yield from threads.map(_size, part, [limits] * len(part))

    def batches(
        self, batches: list[list[Item]]
    ) -> Iterator[tuple[list[Item], np.ndarray, list[Skipped]]]:
        """The readable items of each batch, their pixels (b, 3, h, w), and the other items.

        The next batch is read while one is worked on.
        """
        pending = self._submit(batches[0]) if batches else []
        for number, batch in enumerate(batches):
            results = [future.result() for future in pending]
            pending = self._submit(batches[number + 1]) if number + 1 < len(batches) else []
            good = [i for i, result in enumerate(results) if not isinstance(result, Skipped)]
            pixels = np.stack([results[i] for i in good]) if good else np.empty(0)
            bad = [result for result in results if isinstance(result, Skipped)]
            yield [batch[i] for i in good], pixels, bad

    def _submit(self, batch: list[Item]) -> list[Future]:
        return [self.executor.submit(_pixels, item, self.processor) for item in batch]


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; the parent alone answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _size(item: Item, limits: list[int]) -> tuple[int, int] | Skipped:
    try:
        with Image.open(item.image) as image:
            w, h = image.size
        return smart_resize(h, w, *limits)
    except FileNotFoundError:
        return Skipped(item.line, f"no image {item.image}")
    except InputError as error:
        return Skipped(item.line, _reason(error))
    # Pillow raises nearly anything for a file that is no image.
    except Exception as error:
        return Skipped(item.line, f"{item.image} cannot be read as an image: {error}")


def _pixels(item: Item, processor: Emu3VisionVQImageProcessor) -> np.ndarray | Skipped:
    """Pixel values (3, h, w) float32."""
    try:
        picture = open_image(item.image, RECORD)
        return processor(picture, return_tensors="np")["pixel_values"][0]
    except InputError as error:
        return Skipped(item.line, _reason(error))


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


def claim_folder(folder: Path, vision: "Emu3VisionVQModel", flags: str) -> None:
    """Note in `folder/encoding.json` which vision tokenizer made its codes.

    Raises:
        InputError: it was another one, whose codes mean other pixels.
    """
    table = vision.quantize.embedding.weight.float().asnumpy()
    ours = {
        "codebook_size": len(table),
        "codebook_sha256": hashlib.sha256(table.tobytes()).hexdigest(),
    }
    path = folder / "encoding.json"
    if not path.exists():
        write_json(path, ours)
    elif read_json(path, f"change {flags}") != ours:
        raise InputError(
            f"the features in {folder} were made with another vision tokenizer or dtype; "
            f"allowed: the same one; change {flags}"
        )
