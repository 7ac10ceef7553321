"""Clips under way, as the command that makes them keeps them: new ones, and those of a file."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emu3.cli import options as shared
from emu3.cli.room import require_room_for_pixels
from emu3.codesfile import Codes
from emu3.errors import InputError, about
from emu3.films import Film, given_codes
from emu3.images import FrameSource
from emu3.options import checked
from emu3.pipeline import DrawSettings
from emu3.tokenizer.codes import NOT_MADE, finished_rows

if TYPE_CHECKING:
    from emu3.cli.video import Options


# What a clip's file says beside prompt and seed, so that it can go on.
NEEDED = {"piece", "context", "given", "added", "fps", "draw", "model", "vq_model"}


@dataclass
class Reel:
    """A clip under way: what is asked for, its codes (t, h, w) so far, settings, and its .npz file.

    `added` frames were put before those of a clip that was given.
    """

    film: Film
    codes: np.ndarray
    settings: dict
    added: int = 0
    path: Path | None = None

    @property
    def made(self) -> np.ndarray:
        """The codes of the frames that are whole, from the first one on."""
        return self.codes[: finished_rows(self.codes)]

    @property
    def rows_left(self) -> int:
        """Rows that are to be made."""
        return (len(self.codes) - len(self.made)) * self.codes.shape[1]

    def save_codes(self, path: Path | None = None) -> None:
        """Write codes and settings to `path`, by default the clip's own file."""
        Codes(self.codes, self.settings).save(path or self.path)

    @property
    def preview_path(self) -> Path:
        """Where the frame under way is shown."""
        return self.path.with_name(f"{self.path.stem}_preview.png")


def asked(options: "Options", models, grids: list[tuple[int, int]]) -> Iterator[Reel]:
    """The clips that prompts ask for, or that goes on behind a given one."""
    from emu3.runtime import notice

    factor, checkpoint = models.codec.config.temporal_downsample_factor, models.defaults
    if options.extend:
        source = FrameSource(options.extend, "--extend")
        with about(source.path, "--extend"):
            require_room_for_frame(models.codec, source, options)
            codes, added = given_codes(source.frames, models.codec)
        if added:
            notice(
                f"{source.path} does not fill latent frames of {factor}: its first frame stands "
                f"{added} time(s) more before it, and is cut off again"
            )
        prompt = (options.prompt or [""])[0]
        film = options.clip.film(
            prompt, codes.shape[1:], options.seed, factor, checkpoint, codes, source.fps()
        )
        yield new_reel(film, options, added, models.codec)
        return
    prompts = options.prompt or [checkpoint.video_prompt]
    for number, (prompt, grid) in enumerate(zip(prompts, grids)):
        film = options.clip.film(prompt, grid, options.seed + number, factor, checkpoint)
        yield new_reel(film, options, 0, models.codec)


def require_room_for_frame(codec, source: FrameSource, options: "Options") -> None:
    """Refuse a clip whose frames memory cannot hold, and say what size they become.

    Raises:
        InputError: they are too large.
    """
    from emu3.runtime import notice

    frame = next(iter(source.frames()))
    h, w = codec.pixels(frame).shape[1:]
    side = codec.config.spatial_scale_factor
    require_room_for_pixels(codec.config, (h // side, w // side), options.device.dtype)
    if (w, h) != frame.size:
        notice(
            f"frames of {frame.width}x{frame.height} pixels become {w}x{h}: sides are multiples of "
            f"{side}, areas what the vision tokenizer takes"
        )


def new_reel(film: Film, options: "Options", added: int, codec) -> Reel:
    """A clip before its first frame is made."""
    codes = np.full(film.size, NOT_MADE, np.int32)
    codes[: film.begun] = 0 if film.given is None else film.given
    about_film = {
        name: getattr(film, name) for name in ("prompt", "seed", "fps", "piece", "context")
    }
    counts = {
        "frames": film.begun * codec.config.temporal_downsample_factor + film.frames,
        "added": added,
        "given": film.begun,
        "clip_frames": codec.together(),
    }
    names = {
        "model": shared.public_name(options.model),
        "vq_model": shared.public_name(options.vq_model),
    }
    return Reel(film, codes, about_film | counts | names, added)


def begun(content: Codes, options: "Options") -> Reel:
    """The clip of a codes file that was cut short.

    Raises:
        InputError: a file of another command or of another model.
    """
    stored, codes, path = content.settings, content.codes, Path(options.resume)
    named = ("prompt", "model", "vq_model")
    told = (
        all(isinstance(stored.get(name), str) for name in named) and type(stored.get("seed")) is int
    )
    if codes.ndim != 3 or not told or not set(stored) >= NEEDED or stored["given"] > len(codes):
        raise InputError(f"{path} is no clip of this command; change --resume")
    for name in ("model", "vq_model"):
        if shared.public_name(stored[name]) != (ours := shared.public_name(getattr(options, name))):
            raise InputError(
                f"{path} was made with {name} {stored[name]}, not {ours}; change --"
                f"{name.replace('_', '-')}"
            )
    given = codes[: stored["given"]] if stored["given"] else None
    film = Film(
        stored["prompt"],
        codes.shape,
        stored["fps"],
        stored["seed"],
        given,
        stored["piece"],
        stored["context"],
    )
    return Reel(film, codes, stored, stored["added"], path)


def stored_settings(content: Codes, options: "Options") -> DrawSettings:
    """The settings a clip was begun with.

    Raises:
        InputError: the file holds none.
    """
    draw = content.settings.get("draw")
    known = {field.name for field in fields(DrawSettings)}
    if isinstance(draw, dict):
        draw = {"best_of": 1} | draw  # which earlier versions did not know
    if not isinstance(draw, dict) or set(draw) != known:
        raise InputError(f"{options.resume} is no clip of this command; change --resume")
    return checked(DrawSettings(**draw))
