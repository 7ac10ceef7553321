"""What prompts are made of: text, pictures, clips, codes of either, and what is to be made.

Legend: t h w latent frames, rows and columns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emu3.errors import InputError, shown
from emu3.images import DEFAULT_FPS

if TYPE_CHECKING:
    import PIL.Image

ROLES = ("user", "assistant")
SLOWEST, FASTEST = 0.01, 1000.0  # frames a second


@dataclass(frozen=True)
class Text:
    """Words; whoever reads the part checks that they are."""

    text: str


@dataclass(frozen=True, eq=False)
class Image:
    """A picture."""

    image: "PIL.Image.Image"


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one size in order, so many a second.

    Raises:
        InputError: no frame, or a rate that cannot be.
    """

    frames: "Sequence[PIL.Image.Image]"
    fps: float = DEFAULT_FPS

    def __post_init__(self) -> None:
        if not isinstance(self.frames, list | tuple) or not self.frames:
            raise InputError(
                f"clip {shown(self.frames)} has no frames; allowed: a list of PIL images"
            )
        check_fps(self.fps)

    def save(self, path: str | Path) -> Path:
        """Write a .gif or an .mp4 (which needs PyAV), whole or not at all.

        Raises:
            InputError: another suffix, or no PyAV.
        """
        from emu3.animations import write_animation

        return write_animation(self.frames, Path(path), self.fps)


@dataclass(frozen=True, eq=False)
class Coded:
    """Codes (h, w) of a picture, or (t, h, w) of a clip of so many frames a second.

    Raises:
        InputError: codes of another shape, or a rate that cannot be.
    """

    codes: np.ndarray
    fps: float = DEFAULT_FPS

    def __post_init__(self) -> None:
        shape = np.shape(self.codes)
        if len(shape) not in (2, 3) or 0 in shape:
            raise InputError(
                f"codes of shape {shape}; allowed: (rows, columns) of a picture, or (frames, rows, "
                "columns) of a clip"
            )
        check_fps(self.fps)

    @property
    def size(self) -> tuple[int, int, int]:
        """t, h, w; t is 1 for a picture."""
        return whole_size(np.shape(self.codes))


@dataclass(frozen=True, eq=False)
class Open:
    """The picture (h, w) or clip (t, h, w) that is to be made: its head ends the prompt.

    `begun` holds the codes (t0, h, w) of its first frames, which are given.

    Raises:
        InputError: no size, or first frames of another one, or as many as all.
    """

    size: tuple[int, ...]
    fps: float = DEFAULT_FPS
    begun: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.size) not in (2, 3):
            raise InputError(f"size {self.size}; allowed: (rows, columns), (frames, rows, columns)")
        check_fps(self.fps)
        frames, *grid = whole_size(self.size)
        if self.begun is None:
            return
        given = np.shape(self.begun)
        if len(given) != 3 or list(given[1:]) != grid or not 0 < given[0] < frames:
            raise InputError(
                f"frames given have codes {given}; allowed: 1 to {frames - 1} latent frames of "
                f"{grid[0]}x{grid[1]} codes for a clip of {frames}; change --extend or --frames"
            )


Given = Text | Image | Clip | Coded
Part = Given | Open


@dataclass(frozen=True)
class Message:
    """What "user" or "assistant" says: parts in order, or one text.

    Raises:
        InputError: another role, or what is no part.
    """

    role: str
    parts: tuple[Given, ...]

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"role {shown(self.role)}; allowed: {', '.join(ROLES)}")
        object.__setattr__(self, "parts", tuple(read_parts(self.parts, Given)))


def read_parts(parts: "str | Part | Iterable[Part]", allowed: type = Part) -> list[Part]:
    """A list of parts; a single one, or a bare text, is a list of one.

    Raises:
        InputError: something that is no part.
    """
    if isinstance(parts, str | Part):
        parts = [parts]
    listed = isinstance(parts, list | tuple)
    parts = [Text(part) if isinstance(part, str) else part for part in (parts if listed else ())]
    if not parts or not all(isinstance(part, allowed) for part in parts):
        wrong = [type(part).__name__ for part in parts if not isinstance(part, allowed)]
        raise InputError(
            f"{wrong[0] if wrong else 'nothing'} is no part of a prompt here; allowed: a list of "
            "Text, Image, Clip, Coded and, at the end of a prompt, Open (emu3.mllm.parts)"
        )
    return parts


def whole_size(size: Sequence[int]) -> tuple[int, int, int]:
    """t, h, w of a size (h, w) or (t, h, w)."""
    frames, height, width = (1, *size) if len(size) == 2 else size
    return int(frames), int(height), int(width)


def check_fps(fps: float) -> None:
    """Refuse a number of frames a second that no clip has.

    Raises:
        InputError: names it.
    """
    real = isinstance(fps, int | float) and not isinstance(fps, bool)
    if not real or not SLOWEST <= fps <= FASTEST:
        raise InputError(
            f"{shown(fps)} frames a second; allowed: {SLOWEST:g} to {FASTEST:g}; change --fps"
        )
