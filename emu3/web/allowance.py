"""The pictures one request may hold: how many, and how many pixels they have in all."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from emu3.errors import InputError
from emu3.images import open_image, read_image

if TYPE_CHECKING:
    from PIL import Image

MOST_PICTURES, MOST_BEST_OF = 16, 8


class Allowance:
    """What a request may still hold, of `most` pixels in all.

    Raises:
        InputError: from its methods, for the first picture that is too much.
    """

    def __init__(self, most: int) -> None:
        self.most, self.pixels, self.pictures = most, 0, 0

    def read(self, data: bytes, name: str) -> "Image.Image":
        """The picture in the bytes of a file."""
        return self._next(lambda: read_image(data, name, self.most))

    def open(self, path: Path, name: str) -> "Image.Image":
        """The picture in a file."""
        return self._next(lambda: open_image(path, name, self.most))

    def count(self, image: "Image.Image") -> None:
        """Let the pixels of a picture or frame count."""
        self.pixels += image.width * image.height
        if self.pixels > self.most:
            raise InputError(
                f"pictures or frames of {self.pixels} pixels so far; allowed: {self.most} in one "
                "request; send fewer or smaller ones"
            )

    def _next(self, read: "Callable[[], Image.Image]") -> "Image.Image":
        self.pictures += 1
        if self.pictures > MOST_PICTURES:
            raise InputError(
                f"more than {MOST_PICTURES} pictures; allowed: up to {MOST_PICTURES} in one "
                "request, a conversation's earlier ones included; send fewer"
            )
        image = read()
        self.count(image)
        return image
