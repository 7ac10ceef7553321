"""Frames as one GIF or mp4 file, whole or not there."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from emu3.errors import InputError
from emu3.files import atomic_path
from emu3.videos import pyav

if TYPE_CHECKING:
    from PIL import Image

SHORTEST_FRAME = 20  # ms: browsers show a GIF's shorter ones for 100


def write_animation(frames: "Iterable[Image.Image]", path: Path, fps: float) -> Path:
    """Write RGB PIL images, read one after the other, as what the suffix of `path` says.

    Raises:
        InputError: another suffix, or mp4 without PyAV.
    """
    writers = {".gif": _write_gif, ".mp4": _write_mp4}
    if path.suffix.lower() not in writers:
        raise InputError(f"{path} is no name of an animation; allowed: .gif, .mp4; change it")
    with atomic_path(path) as temporary:
        writers[path.suffix.lower()](iter(frames), temporary, fps)
    return path


def _write_gif(frames: "Iterator[Image.Image]", path: Path, fps: float) -> None:
    timed = _timed(frames, fps)
    next(timed).save(path, format="GIF", save_all=True, append_images=timed, loop=0)


def _timed(frames: "Iterator[Image.Image]", fps: float) -> "Iterator[Image.Image]":
    """Copies of the frames that say how long they are shown, one after the other."""
    for number, frame in enumerate(frames):
        start, end = (round(100 * n / fps) for n in (number, number + 1))  # 1/100 s is all it has
        shown = frame.copy()
        shown.info = {"duration": max(SHORTEST_FRAME, 10 * (end - start))}
        yield shown


def _write_mp4(frames: "Iterator[Image.Image]", path: Path, fps: float) -> None:
    av = pyav("writing mp4")
    from fractions import Fraction

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        for number, frame in enumerate(frames):
            if number == 0:
                stream.width, stream.height = frame.width, frame.height
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
