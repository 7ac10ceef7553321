"""Video files, decoded by a process of their own: a damaged one can crash the decoder library.

The process writes records: a kind, two numbers, a length, then that many bytes.
I rate as numerator and denominator; F a frame's width, height, RGB; E an error's text; D done.
"""

import importlib.util
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

from emu3.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

RECORD = struct.Struct("<cIIQ")
# The child finds modules where this process does, not in its working directory.
START = "import sys; sys.path[:] = {path!r}; from emu3.videos import send; send({name!r}, {most})"
LONGEST_SILENCE = 15.0  # seconds for a frame, after which the decoder hangs


class Video:
    """A video file: its rate, and its frames as often as they are asked for.

    Raises:
        InputError: PyAV is not installed.
    """

    def __init__(self, path: Path, max_pixels: int, flag: str) -> None:
        self.path, self.max_pixels, self.flag = path, max_pixels, flag
        if importlib.util.find_spec("av") is None:
            pyav(f"reading {path}")

    def rate(self) -> float | None:
        """Frames a second as the file states it.

        Raises:
            InputError: it cannot be read as a video.
        """
        with self._records() as records:
            _, over, under, _ = next(records)
        return over / under if over and under else None

    def frames(self) -> "Iterator[Image.Image]":
        """RGB PIL images in order, upright.

        Raises:
            InputError: it cannot be read as a video.
        """
        from PIL import Image

        with self._records() as records:
            for kind, width, height, content in records:
                if kind == b"F":
                    yield Image.frombytes("RGB", (width, height), content)

    @contextmanager
    def _records(self) -> Iterator[Iterator[tuple[bytes, int, int, bytes]]]:
        path = [entry or str(Path.cwd()) for entry in sys.path]
        command = START.format(path=path, name=str(self.path), most=self.max_pixels)
        child = subprocess.Popen(
            [sys.executable, "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is answered here
        )
        try:
            yield self._read(child)
        finally:
            child.kill()
            child.stdout.close()
            child.wait()

    def _read(self, child: subprocess.Popen) -> Iterator[tuple[bytes, int, int, bytes]]:
        while True:
            kind, first, second, length = RECORD.unpack(self._whole(child, RECORD.size))
            content = self._whole(child, length)
            if kind == b"D":
                return
            if kind == b"E":
                reason = content.decode(errors="replace")
                raise self._unreadable(reason)
            yield kind, first, second, content

    def _whole(self, child: subprocess.Popen, count: int) -> bytes:
        watch = Timer(LONGEST_SILENCE, child.kill)
        watch.start()
        content = child.stdout.read(count)
        watch.cancel()
        if len(content) == count:
            return content
        code = child.wait()
        raise self._unreadable(f"the decoder ended with code {code}, the file may be damaged")

    def _unreadable(self, reason: str) -> InputError:
        return InputError(
            f"{self.path} cannot be read as a video: {reason}; allowed: a whole video file with "
            f"pictures; change {self.flag}"
        )


def send(name: str, max_pixels: int) -> None:
    """Decode a video file and write its records to stdout: the child's whole work."""
    out = sys.stdout.buffer

    def write(kind: bytes, first: int = 0, second: int = 0, content: bytes = b"") -> None:
        out.write(RECORD.pack(kind, first, second, len(content)))
        out.write(content)
        out.flush()

    try:
        rate, frames = _decoded(name, max_pixels)
        write(b"I", *rate)
        for image in frames:
            write(b"F", image.width, image.height, image.tobytes())
        write(b"D")
    except BrokenPipeError:
        raise SystemExit(1) from None  # nobody reads any more
    except Exception as error:  # whatever the library raises is the file's fault
        write(b"E", content=str(error).encode(errors="backslashreplace"))


def _decoded(name: str, max_pixels: int):
    """The rate of a video file as two numbers, and its frames."""
    import av

    container = av.open(name)
    if not container.streams.video:
        raise InputError("it holds no pictures")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise InputError("its pictures are coded in no known way")
    if stream.width * stream.height > max_pixels:
        raise InputError(f"frames of {stream.width}x{stream.height} pixels are too large")
    rate = stream.average_rate
    numbers = (rate.numerator, rate.denominator) if rate and 0 < rate < 1000 else (0, 0)
    return numbers, (_upright(frame) for frame in container.decode(stream))


def _upright(frame) -> "Image.Image":
    """A frame as its display matrix [[a, b, u], [c, d, v], [x, y, w]] turns it."""
    from PIL.Image import Transpose as Way

    ways = {
        (0, 1, -1, 0): Way.ROTATE_270,
        (-1, 0, 0, -1): Way.ROTATE_180,
        (0, -1, 1, 0): Way.ROTATE_90,
        (-1, 0, 0, 1): Way.FLIP_LEFT_RIGHT,
        (1, 0, 0, -1): Way.FLIP_TOP_BOTTOM,
        (0, 1, 1, 0): Way.TRANSPOSE,
        (0, -1, -1, 0): Way.TRANSVERSE,
    }
    image = frame.to_image()
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            matrix = struct.unpack("<9i", bytes(data)[:36])
            signs = tuple((matrix[i] > 0) - (matrix[i] < 0) for i in (0, 1, 3, 4))
            return image.transpose(ways[signs]) if signs in ways else image
    return image


def pyav(purpose: str):
    """The library that reads and writes video files.

    Raises:
        InputError: it is not installed; says what for it is needed.
    """
    try:
        import av
    except ImportError:
        raise InputError(
            f"{purpose} needs PyAV; install it with: pip install av, or use a folder of frames "
            "and --animation gif"
        ) from None
    return av
