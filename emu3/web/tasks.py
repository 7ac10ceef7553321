"""Kinds of work a worker does for a batch: pictures from text, answers, pictures rebuilt.

Jobs of equal tasks share a batch; a task's items differ freely. `run` yields (index of the item,
event); an item's last event is a `Finished`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emu3.mllm.generation.events import RowDone, TextPiece
from emu3.pipeline import (
    Answers,
    AskSettings,
    DrawSettings,
    Picture,
    Reconstruction,
    TextToImage,
)
from emu3.tokenizer.codes import NOT_MADE

if TYPE_CHECKING:
    from PIL import Image

    from emu3.loading import Emu3

SIZES = (1, 2, 4, 8, 16, 32, 64)  # of batches: each is compiled once


@dataclass(frozen=True)
class Rows:
    """The first `done` rows of a picture's codes (h, w) are made."""

    codes: np.ndarray
    done: int


@dataclass(frozen=True)
class Piece:
    """The text so far, and how much of it is new."""

    text: str
    new: str


@dataclass(frozen=True)
class Finished:
    """The end of an item: a picture or a text, and the tokens of its prompt and its answer."""

    result: "Image.Image | str | tuple[Image.Image, Image.Image]"
    prompt_tokens: int
    tokens: int
    ended: bool = True  # False for an answer that was cut at its longest


@dataclass(frozen=True)
class Draw:
    """Pictures from text with equal settings, which are `filled`."""

    settings: DrawSettings
    name = "draw"

    def run(self, models: "Emu3", pictures: Sequence[Picture]) -> Iterator[tuple[int, Any]]:
        """Rows of each picture as they are made, then the picture."""
        drawing = TextToImage(models.model, models.prompts)
        request = drawing.request(filled_up(pictures), self.settings)
        codes = [np.full(picture.size, NOT_MADE, np.int32) for picture in pictures]
        for event in drawing.run(request):
            if isinstance(event, RowDone) and event.sequence < len(pictures):
                index, made = event.sequence, codes[event.sequence]
                made[event.row] = event.codes
                yield index, Rows(made, event.row + 1)
                if event.row + 1 == len(made):
                    prompt = int(request.rows.lengths[index])
                    yield index, Finished(models.codec.picture(made), prompt, made.size)


@dataclass(frozen=True)
class Question:
    """What is asked about pixel values (3, h, w) of a picture, or about nothing but words."""

    text: str
    pixels: np.ndarray | None
    seed: int = 0


@dataclass(frozen=True)
class Ask:
    """Answers with equal settings, which are `filled`."""

    settings: AskSettings
    name = "ask"

    def run(self, models: "Emu3", questions: Sequence[Question]) -> Iterator[tuple[int, Any]]:
        """Pieces of each answer as they come, then the whole."""
        answers = Answers(models.model, models.prompts)
        codes = [
            None if q.pixels is None else models.codec.encode(q.pixels[None])[0] for q in questions
        ]
        request = answers.request(
            filled_up([q.text for q in questions]),
            filled_up(codes),
            self.settings,
            filled_up([q.seed for q in questions]),
        )
        ids: list[list[int]] = [[] for _ in questions]
        texts = ["" for _ in questions]
        for event in answers.run(request):
            if isinstance(event, TextPiece) and event.sequence < len(questions):
                index = event.sequence
                ids[index] += event.ids.tolist()
                text = whole_characters(answers.text(ids[index]))
                if len(text) > len(texts[index]):
                    piece, texts[index] = text[len(texts[index]) :], text
                    yield index, Piece(text, piece)
        for index, made in enumerate(ids):
            prompt, ended = int(request.rows.lengths[index]), len(made) < request.forced.shape[1]
            yield index, Finished(answers.text(made), prompt, len(made), ended)


@dataclass(frozen=True)
class Rebuild:
    """Pictures to codes and back."""

    name = "rebuild"

    def run(self, models: "Emu3", pixels: Sequence[np.ndarray]) -> Iterator[tuple[int, Any]]:
        """For each picture of values (3, h, w): as the model is shown it, and rebuilt."""
        rebuild = Reconstruction(models.codec)
        for index, item in enumerate(pixels):
            codes, seen = rebuild.encode_pixels(item)
            yield index, Finished((seen, rebuild.image(codes)), 0, codes.size)


Task = Draw | Ask | Rebuild


def whole_characters(text: str) -> str:
    """A text without a character at its end of which some bytes are still to come."""
    return text.rstrip("\N{REPLACEMENT CHARACTER}")


def filled_up(items: Sequence) -> list:
    """The items, and copies of the last one up to a size of `SIZES`."""
    size = next((size for size in SIZES if size >= len(items)), len(items))
    return [*items, *[items[-1]] * (size - len(items))]
