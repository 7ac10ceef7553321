"""A language model and a vision tokenizer as one object, for people: `emu3.load()` gives it.

m = emu3.load()
m.draw("a red star").save("star.png")
m.film("a red car drives to the right").save("car.gif")
m.ask("What is it?", "star.png")
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from emu3.errors import InputError
from emu3.films import ClipOptions, Film, TextToVideo, given_codes
from emu3.images import DEFAULT_FPS, FrameSource, open_image
from emu3.mllm.generation.events import RowDone, TextPiece
from emu3.mllm.parts import Clip, Coded, Text
from emu3.names import check_name
from emu3.options import checked
from emu3.pipeline import (
    Answers,
    AskSettings,
    DrawSettings,
    Picture,
    PictureSize,
    Reconstruction,
    TextToImage,
)
from emu3.talks import Edit, Edits, Talk

if TYPE_CHECKING:
    from PIL import Image

    from emu3.mllm import Emu3ForCausalLM
    from emu3.mllm.defaults import CheckpointDefaults
    from emu3.mllm.prompts import PromptBuilder
    from emu3.tokenizer import VisionCodec

Settings = TypeVar("Settings", DrawSettings, AskSettings)


class Emu3:
    """A language model and a vision tokenizer that belong together.

    Released checkpoints were never given clips or edits: film, extend and edit need one that was.

    Args:
        model: the language model.
        prompts: its prompts.
        codec: the vision tokenizer behind its image processor.
        defaults: what the checkpoint states for its own use.
    """

    def __init__(
        self,
        model: "Emu3ForCausalLM",
        prompts: "PromptBuilder",
        codec: "VisionCodec",
        defaults: "CheckpointDefaults",
    ) -> None:
        self.model, self.prompts, self.codec, self.defaults = model, prompts, codec, defaults

    def draw(
        self,
        prompt: str,
        *,
        ratio: str | None = None,
        image_area: int | None = None,
        height: int | None = None,
        width: int | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> "Image.Image":
        """The picture of a prompt; the same seed gives the same picture.

        Args:
            prompt: what to draw.
            ratio: "width:height", by default "1:1"; `image_area` pixels in all, by default the
                checkpoint's. Or `height` and `width` in pixels.
            seed: a whole number.
            settings: fields of `emu3.pipeline.DrawSettings`; the checkpoint's by default.

        Raises:
            InputError: a value that cannot be.
        """
        size = _size(ratio, image_area, height, width)
        factor = self.codec.config.spatial_scale_factor
        (grid,) = size.grids(1, self.defaults.image_area, factor)
        asked = _settings(DrawSettings, settings).filled(self.defaults)
        drawing = TextToImage(self.model, self.prompts)
        (codes,), _ = drawing.codes(drawing.request([Picture(prompt, grid, seed)], asked))
        return self.codec.picture(codes)

    def ask(
        self,
        question: str,
        image: "Image.Image | Clip | str | Path",
        *,
        seed: int = 0,
        **settings: Any,
    ) -> str:
        """The answer to a question about a picture or a clip, or about the file of one.

        `settings` are fields of `emu3.pipeline.AskSettings`; by default the likeliest answer.

        Raises:
            InputError: no such picture, or a value that cannot be.
        """
        prompt = self.prompts.user_turn([self.coded(image), Text(question)], first=True)
        asked = _settings(AskSettings, settings).filled(self.defaults)
        answers = Answers(self.model, self.prompts)
        (answer,) = answers.texts(answers.request_of([prompt], asked, [seed]))
        return answer

    def film(
        self,
        prompt: str,
        *,
        frames: int | None = None,
        fps: float | None = None,
        piece: int | None = None,
        context: int | None = None,
        ratio: str | None = None,
        image_area: int | None = None,
        height: int | None = None,
        width: int | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> Clip:
        """The clip of a prompt; `.save("x.gif")` writes it.

        Args:
            prompt: what happens.
            frames, fps, piece, context: see `emu3.films.ClipOptions`; the checkpoint's by default.
            ratio, image_area, height, width, seed, settings: as of `draw`.

        Raises:
            InputError: a value that cannot be, or more frames than the model has positions for.
        """
        size = _size(ratio, image_area, height, width)
        factor = self.codec.config.spatial_scale_factor
        (grid,) = size.grids(1, self.defaults.image_area, factor)
        asked = checked(ClipOptions(frames, fps, piece, context))
        film = asked.film(prompt, grid, seed, self.frames_a_code, self.defaults)
        return self._filmed(film, settings)

    def extend(
        self,
        clip: "Clip | str | Path",
        prompt: str = "",
        *,
        frames: int | None = None,
        fps: float | None = None,
        piece: int | None = None,
        context: int | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> Clip:
        """A clip, or a video file, animation or folder of frames, and `frames` more behind it.

        The other arguments are those of `film`.

        Raises:
            InputError: no such clip, a value that cannot be, or more frames than there is room for.
        """
        asked = checked(ClipOptions(frames, fps, piece, context))
        clip, rate = _clip(clip)
        codes, added = given_codes(clip, self.codec)
        grid = codes.shape[1:]
        film = asked.film(prompt, grid, seed, self.frames_a_code, self.defaults, codes, rate)
        return self._filmed(film, settings, added)

    def edit(
        self,
        prompt: str,
        images: "Image.Image | str | Path | list",
        *,
        seed: int = 0,
        **settings: Any,
    ) -> "Image.Image":
        """One or several pictures, or files of them, changed as the prompt says.

        The result has the grid of the last picture; `settings` are fields of
        `emu3.pipeline.DrawSettings`.

        Raises:
            InputError: no such picture, or a value that cannot be.
        """
        images = images if isinstance(images, list | tuple) else [images]
        codes = [self.coded(image).codes for image in images]
        if not codes or any(picture.ndim != 2 for picture in codes):
            raise InputError("an edit of no picture, or of a clip; allowed: one picture or several")
        edits = Edits(self.model, self.prompts)
        asked = _settings(DrawSettings, settings).filled(self.defaults)
        edit = Edit(prompt, codes, codes[-1].shape, seed)
        rows = [e.codes for e in edits.run(edits.request([edit], asked)) if isinstance(e, RowDone)]
        return self.codec.picture(np.stack(rows))

    def chat(self, **settings: Any) -> "Chat":
        """A conversation: `.say("What is it?", image)` as often as one likes.

        `settings` are fields of `emu3.pipeline.AskSettings`.

        Raises:
            InputError: a value that cannot be.
        """
        asking = _settings(AskSettings, settings).filled(self.defaults)
        drawing = DrawSettings().filled(self.defaults)
        factor = self.codec.config.spatial_scale_factor
        (size,) = PictureSize().grids(1, self.defaults.image_area, factor)
        return Chat(Talk(self.model, self.prompts, asking, drawing, size), self.codec, self.coded)

    def rebuild(self, image: "Image.Image | str | Path") -> "Image.Image":
        """A picture, or the file of one, after its way to codes and back."""
        rebuild = Reconstruction(self.codec)
        return rebuild.image(rebuild.encode_image(_picture(image))[0])

    @property
    def frames_a_code(self) -> int:
        """Frames of a latent frame."""
        return self.codec.config.temporal_downsample_factor

    def _filmed(self, film: Film, settings: dict[str, Any], added: int = 0) -> Clip:
        """The frames of a film but the first `added` ones, which were put before a clip given."""
        asked = _settings(DrawSettings, settings).filled(self.defaults)
        codes = TextToVideo(self.model, self.prompts).codes(film, asked)
        return self.clip_of(film, codes, added)

    def clip_of(self, film: Film, codes: np.ndarray, added: int = 0) -> Clip:
        """The frames of a film's codes (t, h, w) but the first `added` ones."""
        count = film.begun * self.frames_a_code + film.frames
        chunks = self.codec.frames(codes, count)
        return Clip([frame for chunk in chunks for frame in chunk][added:], film.fps)

    def coded(self, shown: "Image.Image | Clip | str | Path") -> Coded:
        """The codes of a picture or a clip, or of the file of one."""
        if isinstance(shown, Clip) or (
            isinstance(shown, str | Path) and FrameSource.is_clip(shown, "the path")
        ):
            frames, fps = _clip(shown)
            pixels = self.codec.frame_pixels(frames())
            return Coded(self.codec.clip_codes(pixels), fps or DEFAULT_FPS)
        return Coded(self.codec.encode(self.codec.pixels(_picture(shown))[None])[0])


@dataclass(frozen=True)
class Answer:
    """What was said: a text and, where the model drew some, pictures."""

    text: str
    images: "list[Image.Image]"

    def __str__(self) -> str:
        return self.text


class Chat:
    """A conversation with pictures and clips in it.

    Args:
        talk: the conversation.
        codec: what turns codes into pictures.
        coded: what turns a picture, a clip or the file of one into codes.
    """

    def __init__(self, talk: Talk, codec: "VisionCodec", coded: "Callable[[Any], Coded]") -> None:
        self.talk, self.codec, self.coded = talk, codec, coded

    def say(self, *parts: "str | Image.Image | Clip | Path", seed: int = 0) -> Answer:
        """The answer to texts, pictures, clips and paths of these, in any order.

        Raises:
            InputError: no such file, or a conversation that is too long.
        """
        said = [Text(part) if isinstance(part, str) else self.coded(part) for part in parts]
        ids: list[int] = []
        rows: list[np.ndarray] = []
        for event in self.talk.say(said, seed):
            ids += event.ids.tolist() if isinstance(event, TextPiece) else []
            rows += [event.codes] if isinstance(event, RowDone) else []
        images = [self.codec.picture(np.stack(rows))] if rows else []
        return Answer(self.talk.text(ids), images)


def _clip(
    clip: "Clip | str | Path",
) -> "tuple[Callable[[], Iterable[Image.Image]], float | None]":
    """The frames of a clip, as often as they are asked for, and frames a second if stated."""
    if isinstance(clip, Clip):
        return lambda: map(_picture, clip.frames), clip.fps
    if not isinstance(clip, str | Path):
        raise InputError(
            f"{type(clip).__name__} is no clip; allowed: a path, or emu3.mllm.parts.Clip"
        )
    FrameSource.is_clip(clip, "the path")  # refuses paths that lead to nothing
    source = FrameSource(clip, "the path")
    return source.frames, source.fps()


def _picture(image: "Image.Image | str | Path") -> "Image.Image":
    return open_image(image, "image") if isinstance(image, str | Path) else image


def _settings(kind: type[Settings], given: dict[str, Any]) -> Settings:
    """A `kind` of the settings given.

    Raises:
        InputError: one of them is none of its fields.
    """
    known = [field.name for field in fields(kind)]
    for name in given:
        check_name("setting", name, known, "its name")
    return checked(kind(**given))


def _size(
    ratio: str | None, image_area: int | None, height: int | None, width: int | None
) -> PictureSize:
    return checked(PictureSize(None if ratio is None else [ratio], image_area, height, width))
