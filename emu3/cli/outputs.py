"""What the commands write and show: numbered files, codes, pictures, animations, progress, time.

Legend: h w latent rows and columns, T latent frames. A code of -1 was never made.
"""

import json
import shlex
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emu3 import __version__
from emu3.errors import InputError
from emu3.files import atomic_path, numbered_path, writable_folder
from emu3.images import open_image
from emu3.tokenizer.codes import finished_rows
from emu3.videos import pyav

# What numpy raises for a file that is no .npz, or a damaged one; TypeError for an .npy file.
UNREADABLE = (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass
class Codes:
    """Codes (h, w) of a picture or (T, h, w) of a clip, int32, and how they were made."""

    codes: np.ndarray
    settings: dict = field(default_factory=dict)

    def require_codebook(self, size: int, path: Path) -> None:
        """Refuse codes of another vision tokenizer.

        Raises:
            InputError: names `path`.
        """
        if self.codes.max() >= size:
            raise InputError(
                f"{path} holds code {self.codes.max()}; allowed: below {size}, the codes of the "
                "vision tokenizer; change --vq-model"
            )

    def require_rows(self, path: Path) -> None:
        """Refuse codes of which nothing is finished.

        Raises:
            InputError: names `path`.
        """
        if not finished_rows(self.codes):
            raise InputError(f"{path} holds no finished row yet; there is nothing to decode")

    def save(self, path: Path) -> None:
        """Write an .npz file, whole or not at all."""
        text = json.dumps(self.settings, ensure_ascii=False)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, codes=self.codes, settings=np.array(text))

    @classmethod
    def load(cls, path: str | Path) -> "Codes":
        """Read what `save` wrote.

        Raises:
            InputError: no such file, or not one of ours.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                codes, text = content["codes"], str(content["settings"])
            settings = json.loads(text)
        except UNREADABLE as error:
            raise InputError(
                f"{path} is no codes file: {error}; allowed: an .npz the commands saved"
            ) from None
        if codes.dtype.kind not in "iu" or codes.ndim not in (2, 3) or not codes.size:
            raise InputError(
                f"{path} holds {codes.dtype} codes of shape {codes.shape}; allowed: whole numbers "
                "(rows, columns) or (frames, rows, columns)"
            )
        return cls(codes.astype(np.int32), settings)


def new_file(folder: Path, stem: str, suffix: str, write: Callable[[Path], None]) -> Path:
    """Write `folder/stem_NNNN.suffix` under the first free number, even beside other processes."""
    path = _claim(folder, stem, suffix, lambda path: path.touch(exist_ok=False))
    try:
        write(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def new_folder(folder: Path, stem: str) -> Path:
    """Make `folder/stem_NNNN` under the first free number."""
    return _claim(folder, stem, "", lambda path: path.mkdir())


def _claim(folder: Path, stem: str, suffix: str, make: Callable[[Path], None]) -> Path:
    while True:
        path = numbered_path(writable_folder(folder), stem, suffix)
        try:
            make(path)
        except FileExistsError:
            continue
        return path


def save_picture(image, settings: dict, path: Path) -> None:
    """Write a PIL image as PNG with `settings` as its metadata, one key each."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", f"Emu3-MindSpore {__version__}")
    for key, value in settings.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        info.add_itxt(key, text)
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=info)


def write_frames(folder: Path, frames: Iterable, settings: dict) -> Iterator[tuple[Path, object]]:
    """Write frames as `folder/frame_NNNNN.png`; yields each file with its frame."""
    for number, frame in enumerate(frames):
        path = folder / f"frame_{number:05d}.png"
        save_picture(frame, settings, path)
        yield path, frame


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
    av = pyav("writing mp4")
    from fractions import Fraction

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        first = open_image(frames[0])
        stream.width, stream.height = first.width, first.height
        stream.pix_fmt = "yuv420p"
        for file in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(open_image(file))))
        container.mux(stream.encode())


def kept_message(kept: Sequence[Path], vq_model: str, finished: Sequence[Path] = ()) -> str:
    """What Ctrl-C leaves behind: codes to decode and how, and pictures that are finished."""
    if not kept and not finished:
        return "interrupted before anything was finished"
    parts = ["interrupted"]
    if finished:
        parts.append(f"finished: {shlex.join(map(str, finished))}")
    if kept:
        command = [sys.executable, "-m", "emu3.cli.decode", *map(str, kept), "--vq-model", vq_model]
        parts.append(f"what has no picture yet is kept, decode it with: {shlex.join(command)}")
    return "; ".join(parts)


class Stopwatch:
    """Seconds since it was made, and the line a command ends with."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.start

    def closing_line(self, what: str, tokens: int | None = None) -> str:
        """`what`, seconds, tokens/s and peak memory."""
        from emu3.runtime import peak_memory_bytes

        speed = f", {tokens / self.seconds:.1f} tokens/s" if tokens else ""
        return (
            f"{what} in {self.seconds:.1f} s{speed}, "
            f"peak memory {peak_memory_bytes() / 2**30:.2f} GiB"
        )


class Progress:
    """A bar of image rows or answer tokens with tokens/s and the time left.

    Args:
        total: rows of all pictures, or None for answers, whose length nobody knows.
        unit: what the bar counts: "row" or "token".
    """

    def __init__(self, total: int | None, unit: str) -> None:
        self.tokens = 0
        self.bar = tqdm(total=total, unit=unit, dynamic_ncols=True, leave=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def add(self, units: int, tokens: int) -> None:
        """Count finished units and the tokens they took."""
        self.tokens += tokens
        self.bar.update(units)
        elapsed = self.bar.format_dict["elapsed"]
        if self.bar.unit == "row" and elapsed:
            self.bar.set_postfix_str(f"{self.tokens / elapsed:.1f} tokens/s", refresh=False)
