"""The one reader of pictures and clips: files and folders to RGB PIL images."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from emu3.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif")
DEFAULT_FPS = 8.0


def open_image(path: str | Path, flag: str = "--image") -> "Image.Image":
    """The image in `path` as an RGB PIL image.

    Raises:
        InputError: no such file, or no image; names `flag`.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise InputError(f"no image {path}; change {flag}") from None
    # A damaged file makes Pillow raise nearly anything, SyntaxError and struct.error included.
    except Exception as error:
        raise InputError(f"{path} cannot be read as an image: {error}; change {flag}") from None


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

    def frames(self) -> Iterator["Image.Image"]:
        """RGB PIL images in order."""
        if self.files:
            return (open_image(file, "--input") for file in self.files)
        return self._video_frames()

    def name(self, number: int) -> str:
        """The frame of that number, for messages."""
        return str(self.files[number]) if self.files else f"{self.path}, frame {number}"

    def _video_frames(self) -> Iterator["Image.Image"]:
        if not self.path.exists():
            raise InputError(f"no video {self.path}; change --input")
        av = pyav(f"reading {self.path}")
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
        with pyav(f"reading {self.path}").open(str(self.path)) as container:
            rate = container.streams.video[0].average_rate
        return float(rate) if rate else DEFAULT_FPS


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
