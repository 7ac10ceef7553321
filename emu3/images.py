"""The one reader of pictures and clips: files and folders to RGB PIL images of 8 bits.

A picture stands as its EXIF orientation says, what is transparent is white, and its values become
8 bits: 16-bit ones by 257, 32-bit ones as `eight_bits` tells. A clip is a folder of pictures in
natural order (2 before 10), an animated GIF, PNG or WebP, or a video file, whatever its suffix.
"""

import io
import itertools
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from emu3.errors import InputError
from emu3.files import natural_order, require_file

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif")
# Read by Pillow itself: others start programs (EPS) or are documents.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")  # a TIFF's further pages are not frames
WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
MAX_PIXELS = 2**27  # the largest cameras make 102 million
DEFAULT_FPS = 8.0
GIF_TICK = 10  # ms, the unit of a GIF's times
MOST_REPEATS = 64  # a frame that is shown for longer than so many others is a pause
ORIENTATION = 0x0112
# Starts of video files: Matroska, AVI, MPEG, Ogg, Flash; MP4 and MOV say so from byte 4 on.
VIDEO_MAGIC = (b"\x1aE\xdf\xa3", b"RIFF", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"OggS", b"FLV")
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def open_image(
    path: str | Path, flag: str = "--image", most_pixels: int = MAX_PIXELS
) -> "Image.Image":
    """The picture in `path`, upright, as an RGB PIL image.

    Raises:
        InputError: no such file, no picture, one too large, or an animation; names `flag`.
    """
    with _opened(path, flag, most_pixels) as image:
        return _still(image, str(path), flag)


def read_image(data: bytes, name: str = "image", most_pixels: int = MAX_PIXELS) -> "Image.Image":
    """`open_image` of the bytes of a file; `name` is what an error calls it.

    Raises:
        InputError: no picture, one too large, or an animation.
    """
    with _decoded(io.BytesIO(data), name, name, most_pixels) as image:
        return _still(image, name, name)


def _still(image: "Image.Image", name: str, flag: str) -> "Image.Image":
    if _is_animated(image):
        raise InputError(
            f"{name} is an animation of {image.n_frames} frames; allowed: one picture; save "
            f"one of its frames as a PNG, or change {flag}"
        )
    return upright_rgb(image)


def upright_rgb(image: "Image.Image") -> "Image.Image":
    """A PIL image turned as its EXIF orientation says, 8 bits, on white, as RGB.

    The result remembers nothing of its file: a second call leaves it as it is.
    """
    from PIL import Image

    image.load()
    way = Image.Transpose
    turns = [way.FLIP_LEFT_RIGHT, way.ROTATE_180, way.FLIP_TOP_BOTTOM, way.TRANSPOSE]
    turns += [way.ROTATE_270, way.TRANSVERSE, way.ROTATE_90]
    if (orientation := _orientation(image)) > 1:
        image = image.transpose(turns[orientation - 2])
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        import numpy as np

        image = Image.fromarray(eight_bits(np.asarray(image)))
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    upright = image.convert("RGB")
    upright.info = {}  # the orientation is done
    return upright


def picture_size(path: str | Path, flag: str = "--image") -> tuple[int, int]:
    """(width, height) as the header of a picture tells them, of the picture as it stands.

    Raises:
        InputError: no such file, no picture, or one too large; names `flag`.
    """
    with _opened(path, flag) as image:
        # Pillow turns a TIFF's size itself; a PNG's EXIF is asked for only where it is known,
        # since looking for it behind the pixels would decode them.
        known = image.format == "JPEG" or "exif" in image.info
        turned = known and image.format != "TIFF" and _orientation(image) > 4
        return image.size[::-1] if turned else image.size


def eight_bits(values: "np.ndarray") -> "np.ndarray":
    """Grey values of 16 or 32 bits as uint8.

    Whole numbers up to 255 stay, up to 65535 are divided by 257; other ranges are spread from the
    smallest to the largest value. Numbers with fractions: 0..1 times 255, 0..255 stay, others are
    spread.

    Raises:
        InputError: values that are no numbers.
    """
    import numpy as np

    whole = values.dtype.kind in "iu"
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low + high):
        raise InputError("it holds values that are infinite or no numbers; allowed: finite ones")
    if values.dtype.itemsize == 2:
        start, divisor = 0.0, 257.0
    elif low < 0 or high > (65535 if whole else 255):
        start, divisor = low, max(high - low, 1e-30) / 255
    elif whole:
        start, divisor = 0.0, 257.0 if high > 255 else 1.0
    else:
        start, divisor = 0.0, 1.0 if high > 1 else 1 / 255
    scaled = (values.astype(np.float32) - np.float32(start)) / np.float32(divisor)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


class FrameSource:
    """The frames of a folder of pictures, an animation or a video, as often as they are asked for;
    a picture is a clip of one frame.

    None of them may have more than `most_pixels`, nor those of an animation together more than
    `most_in_all`, which is seen before more of it is decoded.

    Raises:
        InputError: no such path, no frames, or a video file without PyAV to read it.
    """

    def __init__(
        self,
        path: str | Path,
        flag: str = "--input",
        most_pixels: int = MAX_PIXELS,
        most_in_all: int | None = None,
    ) -> None:
        self.path, self.flag, self.most_pixels = Path(path), flag, most_pixels
        self.most_in_all = most_in_all
        self.files = []
        if os.path.isdir(self.path):  # unlike Path's, never fails
            named = sorted(self.path.iterdir(), key=natural_order)
            shown = [p for p in named if not p.name.startswith(".")]
            self.files = [p for p in shown if p.suffix.lower() in IMAGE_SUFFIXES]
            if not self.files:
                raise InputError(f"folder {path} holds no image; change {flag}")
        kind = None if self.files else _animation_in(self.path)
        self.animation, self.still = kind is True, kind is False

    @staticmethod
    def is_clip(path: str | Path, flag: str = "--input") -> bool:
        """Whether `path` is a folder, an animation or a video file, by its content."""
        path = Path(path)
        if os.path.isdir(path):
            return True
        require_file(path, "image, folder or video", flag)
        animated = _animation_in(path)
        return _looks_like_video(path) if animated is None else animated

    def frames(self) -> Iterator["Image.Image"]:
        """RGB PIL images in order."""
        if self.files:
            return (open_image(file, self.flag, self.most_pixels) for file in self.files)
        if self.still:
            return iter([open_image(self.path, self.flag, self.most_pixels)])
        return self._animation_frames() if self.animation else self._video().frames()

    def name(self, number: int) -> str:
        """The frame of that number, for messages."""
        return str(self.files[number]) if self.files else f"{self.path}, frame {number}"

    def fps(self) -> float | None:
        """Frames a second as the file states it; None where it does not."""
        if self.files or self.still:
            return None
        return self._animation_times[1] if self.animation else self._video().rate()

    def _video(self):
        from emu3.videos import Video

        return Video(self.path, self.most_pixels, self.flag)

    def _animation_frames(self) -> Iterator["Image.Image"]:
        from PIL import ImageSequence

        counts, _ = self._animation_times
        with _opened(self.path, self.flag, self.most_pixels) as image:
            for count, frame in zip(counts, ImageSequence.Iterator(image)):
                yield from itertools.repeat(upright_rgb(frame), count)

    @cached_property
    def _animation_times(self) -> tuple[list[int], float | None]:
        """How often each frame of an animation counts, and frames a second, None if not stated."""
        from PIL import ImageSequence

        with _opened(self.path, self.flag, self.most_pixels) as image:
            times = []
            for number, frame in enumerate(ImageSequence.Iterator(image), 1):
                pixels = number * frame.width * frame.height
                if self.most_in_all is not None and pixels > self.most_in_all:
                    raise InputError(
                        f"{self.path} has more than {self.most_in_all} pixels in all its frames; "
                        f"make it smaller or shorter, or change {self.flag}"
                    )
                frame.load()  # WebP tells a frame's time only then
                times.append(frame.info.get("duration") or 0)
        return steady(times)


def steady(times: list[float]) -> tuple[list[int], float | None]:
    """Frames shown for so many ms as a clip of one rate: how often each counts, frames a second.

    Writers put equal neighbours together, and GIF rounds times to 10 ms: where all times are nearly
    multiples of the shortest, a frame counts as often as that says. The rate is a whole number
    where that rounding allows it; None where no times are stated.
    """
    counts, total = [1] * len(times), sum(times)
    if total <= 0:
        return counts, None
    single = [time for time in times if time <= 1.5 * min(times)]  # rounded up or down
    often = [round(time * len(single) / max(sum(single), 1)) for time in times]
    unit = total / max(sum(often), 1)
    near = all(abs(time - count * unit) <= GIF_TICK for time, count in zip(times, often))
    if near and min(often) >= 1 and max(often) <= MOST_REPEATS:
        counts = often
    rate = 1000 * sum(counts) / total
    whole = max(1, round(rate))
    return counts, float(whole) if abs(1000 * sum(counts) / whole - total) <= GIF_TICK / 2 else rate


@contextmanager
def _opened(path: str | Path, flag: str, most_pixels: int = MAX_PIXELS) -> Iterator["Image.Image"]:
    require_file(path, "image", flag)
    with _decoded(path, str(path), flag, most_pixels) as image:
        yield image


@contextmanager
def _decoded(
    source: "str | Path | io.BytesIO", name: str, flag: str, most_pixels: int
) -> Iterator["Image.Image"]:
    from PIL import Image

    try:
        Image.init()
        known = [kind for kind in FORMATS if kind in Image.OPEN]
        with warnings.catch_warnings():  # our own limit is looked at below
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(source, formats=known)
        with image:
            width, height = image.size
            if width * height > most_pixels:
                raise InputError(
                    f"{name} has {width}x{height} pixels; allowed: {most_pixels} in all; make it "
                    f"smaller or change {flag}"
                )
            yield image
    except InputError as error:
        known = str(error).startswith(name)
        raise error if known else InputError(f"{name}: {error}; change {flag}") from None
    # A damaged file makes Pillow raise nearly anything, SyntaxError and struct.error included.
    except Exception as error:
        raise InputError(f"{name} cannot be read as an image: {error}; change {flag}") from None


def _orientation(image: "Image.Image") -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF leaves the picture as it is stored
        return 1
    return value if value in range(1, 9) else 1


def _is_animated(image: "Image.Image") -> bool:
    return image.format in ANIMATED and getattr(image, "n_frames", 1) > 1


def _animation_in(path: Path) -> bool | None:
    """Whether a file is an animation or a picture; None where it is neither."""
    try:
        with _opened(path, "--input") as image:
            return _is_animated(image)
    except InputError:
        return None


def _looks_like_video(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(16)
    if start[4:8] in MP4_BOXES:
        return start[8:12] not in (b"heic", b"heix", b"mif1", b"avif")
    if start.startswith(b"RIFF"):
        return start[8:12] == b"AVI "
    return start.startswith(VIDEO_MAGIC) or path.suffix.lower() in VIDEO_SUFFIXES
