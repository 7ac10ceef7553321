"""Clips: reading frames, coding them a few at a time, writing them again.

Frames come from a folder of images or a video file; memory holds `clip_frames` of them at once.
Legend: t frames, c channels, h w pixels; T, H, W latent frames, rows, columns.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from emu3.cli.common import about, open_image
from emu3.cli.outputs import Codes, save_picture
from emu3.errors import InputError
from emu3.files import atomic_path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif")
ANIMATIONS = ("gif", "mp4", "none")
DEFAULT_FPS = 8.0


def add_animation_option(parser: argparse.ArgumentParser) -> None:
    """--animation."""
    parser.add_argument(
        "--animation",
        choices=ANIMATIONS,
        default="gif",
        help="also write a clip's frames as one file (default: %(default)s)",
    )


class FrameSource:
    """The frames of a folder of images or of a video file, as often as they are asked for.

    Raises:
        InputError: no such path, no frames, or a video file without PyAV to read it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.files = []
        if self.path.is_dir():
            named = sorted(p for p in self.path.iterdir() if not p.name.startswith("."))
            self.files = [p for p in named if p.suffix.lower() in IMAGE_SUFFIXES]
            if not self.files:
                raise InputError(f"folder {path} holds no image; change --input")

    @staticmethod
    def is_clip(path: str | Path) -> bool:
        """Whether `path` is a folder or named like a video file."""
        return Path(path).is_dir() or Path(path).suffix.lower() in VIDEO_SUFFIXES

    def frames(self) -> Iterator[Image.Image]:
        """RGB PIL images in order."""
        if self.files:
            return (open_image(file, "--input") for file in self.files)
        return self._video_frames()

    def name(self, number: int) -> str:
        """The frame of that number, for messages."""
        return str(self.files[number]) if self.files else f"{self.path}, frame {number}"

    def _video_frames(self) -> Iterator[Image.Image]:
        if not self.path.exists():
            raise InputError(f"no video {self.path}; change --input")
        av = _pyav(f"reading {self.path}")
        try:
            with av.open(str(self.path)) as container:
                for frame in container.decode(video=0):
                    yield frame.to_image()
        except (av.error.FFmpegError, IndexError) as error:
            raise InputError(
                f"{self.path} cannot be read as a video: {error}; change --input"
            ) from None

    def fps(self) -> float:
        """Frames a second as the video file states it, or a default."""
        if self.files:
            return DEFAULT_FPS
        with _pyav(f"reading {self.path}").open(str(self.path)) as container:
            rate = container.streams.video[0].average_rate
        return float(rate) if rate else DEFAULT_FPS


def _pyav(purpose: str):
    try:
        import av
    except ImportError:
        raise InputError(
            f"{purpose} needs PyAV; install it with: pip install av, or use a folder of frames "
            "and --animation gif"
        ) from None
    return av


def pixel_chunks(source: FrameSource, image_processor, clip_frames: int) -> Iterator[np.ndarray]:
    """Pixel values (t, 3, h, w) of `clip_frames` frames at a time; the last chunk may be shorter.

    Raises:
        InputError: a frame is no picture to code, or has another size than the first.
    """
    pixels, size, shape = [], None, None
    for number, frame in enumerate(source.frames()):
        with about(source.name(number), "--input"):
            (array,) = image_processor(frame)["pixel_values"]
        size, shape = size or frame.size, shape or array.shape
        if array.shape != shape:
            sizes = " and ".join(f"{width}x{height}" for width, height in (size, frame.size))
            raise InputError(
                f"frames of {source.path} have sizes {sizes}, the latter {source.name(number)}; "
                "allowed: one size; change --input"
            )
        pixels.append(array)
        if len(pixels) == clip_frames:
            yield np.stack(pixels)
            pixels = []
    if pixels:
        yield np.stack(pixels)


def padded(pixels: np.ndarray, multiple: int) -> np.ndarray:
    """Pixels (t, 3, h, w) with the last frame repeated up to a multiple."""
    missing = -len(pixels) % multiple
    return np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])


def encode_chunk(pixels: np.ndarray, vision) -> np.ndarray:
    """Pixel values (t, 3, h, w) to codes (T, H, W)."""
    from mindspore import Tensor

    factor = vision.config.temporal_downsample_factor
    return vision.encode(Tensor(padded(pixels, factor)[None])).asnumpy()[0]


def decode_chunks(codes: np.ndarray, settings: dict, vision, image_processor) -> Iterator[list]:
    """Codes (T, H, W) to lists of PIL frames, as many as were encoded, one chunk at a time."""
    from mindspore import Tensor, int32

    factor = vision.config.temporal_downsample_factor
    step = max(1, int(settings.get("clip_frames", factor)) // factor)
    left = int(settings.get("frames", len(codes) * factor))
    for start in range(0, len(codes), step):
        pixels = vision.decode(Tensor(codes[None, start : start + step], int32))[0]
        frames = image_processor.postprocess(pixels)["pixel_values"][:left]
        left -= len(frames)
        yield frames


def write_frames(
    folder: Path, content: Codes, vision, image_processor
) -> Iterator[tuple[Path, Image.Image]]:
    """Decode a clip into `folder/frame_NNNNN.png`; yields each file with its frame."""
    number = 0
    for frames in decode_chunks(content.codes, content.settings, vision, image_processor):
        for frame in frames:
            path = folder / f"frame_{number:05d}.png"
            save_picture(frame, content.settings, path)
            yield path, frame
            number += 1


def write_animation(frames: list[Path], path: Path, kind: str, fps: float) -> Path | None:
    """Write PNG files as one gif or mp4 at `path` with that suffix; None for kind "none"."""
    if kind == "none":
        return None
    path = path.with_suffix(f".{kind}")
    with atomic_path(path) as temporary:
        write = {"gif": _write_gif, "mp4": _write_mp4}[kind]
        write(frames, temporary, fps)
    return path


def _write_gif(frames: list[Path], path: Path, fps: float) -> None:
    rest = (open_image(frame) for frame in frames[1:])
    open_image(frames[0]).save(
        path,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=round(1000 / fps),
        loop=0,
    )


def _write_mp4(frames: list[Path], path: Path, fps: float) -> None:
    av = _pyav("writing mp4")
    from fractions import Fraction

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        first = open_image(frames[0])
        stream.width, stream.height = first.width, first.height
        stream.pix_fmt = "yuv420p"
        for file in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(open_image(file))))
        container.mux(stream.encode())
