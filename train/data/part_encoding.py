"""From records of parts to feature files: media read, clips cut, codes made.

A clip of more than `max_frames` frames is cut there into clips of its own, from its first frame on,
each with the record's text; a rest that fills no latent frame is left out. So a cut lies between
latent frames, and no sample begins or ends inside one. A longer clip that is given or stands in a
conversation is refused.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from emu3.errors import InputError
from emu3.images import DEFAULT_FPS, FrameSource, open_image
from emu3.mllm.grammar import latent_size
from emu3.mllm.parts import Coded, Message, Text
from emu3.tokenizer import VisionCodec
from train.data.encoding import Recipe
from train.data.features import Feature
from train.data.part_records import Entry, Media
from train.data.parts import Given, Said, Wanted


def piece_name(name: str, number: int) -> str:
    """What piece `number` of the clip of record `name` is called."""
    return f"{name}.{number:04d}" if number else name


@dataclass(frozen=True)
class Cutting:
    """How clips become samples: frames of one at most, frames a second, frames coded together."""

    max_frames: int
    fps: float | None
    clip_frames: int | None


@dataclass(frozen=True)
class PartEncoder:
    """Records of parts to features."""

    codec: VisionCodec
    recipe: Recipe
    cutting: Cutting

    @property
    def factor(self) -> int:
        """Frames of a latent frame."""
        return self.codec.config.temporal_downsample_factor

    def fingerprint(self, entries: list[Entry]) -> str:
        """A hash of what is said, of the media's bytes and of all else that codes depend on.

        Raises:
            InputError: a file is missing.
            OSError: a file cannot be read.
        """
        said = [[str(part) for part in e.parts] + [e.role, e.wanted, e.given] for e in entries]
        found = hashlib.sha256(json.dumps([said, vars(self.cutting)]).encode())
        found.update(self.recipe.settings)
        for path in (part.path for e in entries for part in e.parts if isinstance(part, Media)):
            for file in FrameSource(path).files if path.is_dir() else [path]:
                if not file.is_file():
                    raise InputError(f"no file {file}")
                found.update(file.read_bytes())
        return found.hexdigest()

    def features(self, feature: Feature, entries: list[Entry]) -> Iterator[Feature]:
        """The features of a record, one for each clip that its own clip is cut into.

        Raises:
            InputError: a file that is no picture or clip.
        """
        clips = [
            e for e in entries if e.wanted and isinstance(e.parts[0], Media) and e.parts[0].clip
        ]
        if len(clips) != 1 or entries[-1] is not clips[0]:
            yield replace(feature, parts=[self._said(entry) for entry in entries])
            return
        *before, last = entries
        given = [self._said(entry) for entry in before]
        for number, coded in enumerate(self._cut(last.parts[0].path)):
            first = -(-last.given // self.factor) if number == 0 else 0
            name = piece_name(feature.name, number)
            yield replace(feature, name=name, parts=[*given, Wanted(coded, first)])

    def _said(self, entry: Entry) -> Said:
        parts = [part if isinstance(part, Text) else self._coded(part) for part in entry.parts]
        if entry.role is not None:
            return Message(entry.role, tuple(parts))
        return Wanted(parts[0]) if entry.wanted else Given(parts[0])

    def _coded(self, media: Media) -> Coded:
        """The codes of a picture, or of a clip that is not cut."""
        if media.clip:
            return self._whole(media.path)
        picture = open_image(media.path, "its record")
        return Coded(self.codec.encode(self.codec.pixels(picture)[None])[0])

    def _whole(self, path: Path) -> Coded:
        """The codes of a clip that is given, or stands in a conversation.

        Raises:
            InputError: no clip, frames of several sizes, or too many.
        """
        source, most = self._source(path), self.cutting.max_frames
        rate = source.fps() or DEFAULT_FPS
        held = list(islice(self._taken(source, rate), most + 1))
        if len(held) > most:
            raise InputError(
                f"{path}: the clip has more than {most} frames; allowed: up to {most}, since only "
                "the last part of a record is cut, and only where no other clip is wanted; change "
                "--max-frames or --fps"
            )
        if not held:
            raise _empty(path)
        return self._clip(held, rate)

    def _cut(self, path: Path) -> Iterator[Coded]:
        """The clips that a clip is cut into.

        Raises:
            InputError: no clip, or frames of several sizes.
        """
        source, held = self._source(path), []
        rate, made = source.fps() or DEFAULT_FPS, 0
        for frame in self._taken(source, rate):
            held.append(frame)
            if len(held) == self.cutting.max_frames:
                yield self._clip(held, rate)
                held, made = [], made + 1
        if len(held) >= self.factor or (held and not made):
            yield self._clip(held, rate)
        elif not made:
            raise _empty(path)

    def _source(self, path: Path) -> FrameSource:
        if not FrameSource.is_clip(path, "its record"):
            raise InputError(f"{path} is no clip")
        return FrameSource(path, "its record")

    def _taken(self, source: FrameSource, rate: float) -> Iterator[Image.Image]:
        """The frames of a clip, thinned out to the frames a second that are wanted."""
        fps, last = self.cutting.fps, -1
        for number, frame in enumerate(source.frames()):
            place = number if fps is None or fps >= rate else int(number * fps / rate)
            if place != last:
                yield frame
            last = place

    def _clip(self, frames: list[Image.Image], rate: float) -> Coded:
        fps = rate if self.cutting.fps is None else min(rate, self.cutting.fps)
        pixels = self.codec.frame_pixels(self._sized(frame) for frame in frames)
        return Coded(self.codec.clip_codes(pixels, self.cutting.clip_frames), fps)

    def _sized(self, frame: Image.Image) -> Image.Image | np.ndarray:
        """A frame with the grid that making a clip of its ratio has, where an area is asked for."""
        if self.recipe.area is None:
            return frame
        factor = self.recipe.processor.spatial_factor
        rows, columns = latent_size(f"{frame.width}:{frame.height}", self.recipe.area, factor)
        return frame.resize((columns * factor, rows * factor), self.recipe.processor.resample)


def _empty(path: Path) -> InputError:
    return InputError(f"{path} holds no frame")
