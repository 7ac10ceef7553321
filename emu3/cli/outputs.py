"""What the commands write and show: numbered files, pictures, animations, progress, time."""

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from emu3 import __version__, animations
from emu3.files import atomic_path, numbered_path, place_new, temporary_path, writable_folder
from emu3.images import open_image
from emu3.mllm.generation.events import ChoicePart

if TYPE_CHECKING:
    from emu3.mllm.generation.events import CandidateRow, PrefillPart, RowDone

SETTLED = 0.5  # seconds after which a speed is worth showing
PARTS_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


def new_file(folder: Path, stem: str, suffix: str, write: Callable[[Path], None]) -> Path:
    """Write `folder/stem_NNNN.suffix` under the first free number, even beside other processes."""
    with temporary_path(writable_folder(folder), suffix) as temporary:
        write(temporary)
        return _claim(folder, stem, suffix, lambda path: place_new(temporary, path))


def new_folder(folder: Path, stem: str) -> Path:
    """Make `folder/stem_NNNN` under the first free number."""
    return _claim(writable_folder(folder), stem, "", lambda path: path.mkdir())


def _claim(folder: Path, stem: str, suffix: str, make: Callable[[Path], None]) -> Path:
    while True:
        path = numbered_path(folder, stem, suffix)
        try:
            make(path)
        except FileExistsError:
            continue
        return path


def save_picture(image, settings: dict, path: Path) -> None:
    """Write a PIL image as PNG with `settings` as its metadata, one key each.

    What UTF-8 cannot hold, such as a byte of a file's name, is escaped.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", f"Emu3-MindSpore {__version__}")
    for key, value in settings.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        info.add_itxt(key, text.encode("utf-8", "backslashreplace").decode())
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
    return animations.write_animation(map(open_image, frames), path.with_suffix(f".{kind}"), fps)


def with_prompts(files: Sequence[Path], prompts: Iterable[str]) -> Iterator[str]:
    """A line for each file; where there are several, each with what it was made for."""
    for path, prompt in zip(files, prompts):
        yield f"{path}: {prompt}" if len(files) > 1 else str(path)


def kept_message(kept: Sequence[Path], vq_model: str, finished: Sequence[Path] = ()) -> str:
    """What Ctrl-C leaves behind: codes to decode and how, and pictures that are finished."""
    if not kept and not finished:
        return "interrupted before anything was finished"
    parts = ["interrupted"]
    if finished:
        parts.append(finished_files(finished))
    if kept:
        command = [sys.executable, "-m", "emu3.cli.decode", *map(str, kept), "--vq-model", vq_model]
        parts.append(f"what has no picture yet is kept, decode it with: {shlex.join(command)}")
    return "; ".join(parts)


def resume_message(path: Path, model: str, vq_model: str, animation: str) -> str:
    """What Ctrl-C leaves of a clip, and how to go on with it."""
    options = ["--model", model, "--vq-model", vq_model, "--animation", animation]
    command = [sys.executable, "-m", "emu3.cli.video", "--resume", str(path), *options]
    return f"interrupted; what is made is kept, go on with: {shlex.join(command)}"


def finished_files(files: Sequence[Path]) -> str:
    """What a message of Ctrl-C says of files that are whole."""
    return f"finished: {shlex.join(map(str, files))}"


def beside(message: str, finished: Sequence[Path], waiting: Sequence[str]) -> str:
    """A message of Ctrl-C, with what was finished before it and the prompts that were not begun."""
    parts = [message]
    if finished:
        parts.append(finished_files(finished))
    if waiting:
        parts.append(f"not begun: {shlex.join(waiting)}")
    return "; ".join(parts)


class Stopwatch:
    """Seconds since it was made, and the line a command ends with."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.start

    def closing_line(self, what: str, speed: float | None = None) -> str:
        """`what`, seconds, `speed` in tokens/s and peak memory."""
        from emu3.runtime import peak_memory_bytes

        told = f", {speed:.1f} tokens/s once begun" if speed else ""
        return (
            f"{what} in {self.seconds:.1f} s{told}, "
            f"peak memory {peak_memory_bytes() / 2**30:.2f} GiB"
        )


class Spoken:
    """A text that is printed as it grows, by what is new; half a character waits for the rest.

    Args:
        spell: ids to text.
        before: printed before the first piece.
    """

    def __init__(self, spell: Callable[[list[int]], str], before: str = "") -> None:
        self.spell, self.before = spell, before
        self.ids: list[int] = []  # so far
        self.shown = ""

    def say(self) -> None:
        """Print what is new."""
        text = self.spell(self.ids)
        if text.startswith(self.shown) and not text.endswith("\ufffd"):
            print(self.before + text[len(self.shown) :], end="", flush=True)
            self.before, self.shown = "", text

    def end(self) -> None:
        """Print what is left, and end the line."""
        print(self.before + self.spell(self.ids)[len(self.shown) :], flush=True)


class PartsBar:
    """How far long prompts are, or a choice, in a bar that goes away when they are through."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None

    def show(self, event: "PrefillPart | ChoicePart") -> None:
        """Move on to what an event says."""
        if self.bar is None:
            what = "choosing" if isinstance(event, ChoicePart) else "prompt"
            self.bar = tqdm(total=event.parts, desc=what, leave=False, bar_format=PARTS_BAR)
        self.bar.update(event.done - self.bar.n)
        if event.done == event.parts:
            self.end()

    def end(self) -> None:
        """Take the bar away, if it is there."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class Progress:
    """A bar of image rows with tokens/s and the time left; answers, whose length nobody knows, are
    their own bar.

    The clock starts with the first of them, before which the network was compiled.

    Args:
        rows: of all pictures, or None for answers.
    """

    def __init__(self, rows: int | None, clock: Callable[[], float] = time.time) -> None:
        self.tokens = 0
        self.clock = clock
        self.counted = 0  # tokens since the clock started
        self.start: float | None = None
        self.latest = 0.0
        # Without smoothing tqdm's rate is all that is counted by all the time.
        self.bar = tqdm(
            total=rows, unit="row", dynamic_ncols=True, smoothing=0, disable=rows is None
        )
        self.parts = PartsBar()
        self.show = self.parts.show

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.parts.end()
        self.bar.close()

    @property
    def speed(self) -> float | None:
        """Tokens a second after the first ones; None where there were no others."""
        if self.start is None or self.latest <= self.start:
            return None
        return self.counted / (self.latest - self.start)

    def row(self, event: "CandidateRow | RowDone") -> None:
        """Count a row with its end, once."""
        if not event.again:
            self.add(1, len(event.codes) + 1)

    def add(self, units: int, tokens: int) -> None:
        """Count finished units and the tokens they took."""
        self.tokens += tokens
        self.latest = self.clock()
        if self.start is None:
            self.start = self.bar.start_t = self.latest
            self.bar.initial = units
        else:
            self.counted += tokens
        self.bar.update(units)
        # The first rows of a batch come at one moment, which says nothing of its speed.
        if self.speed and self.latest - self.start > SETTLED:
            self.bar.set_postfix_str(f"{self.speed:.1f} tokens/s", refresh=False)
