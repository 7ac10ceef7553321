"""Kinds of work a worker does for a batch: pictures and clips from text, edits, answers,
pictures rebuilt.

Jobs of equal tasks share a batch; a task's items differ freely. `run` yields (index of the item,
event); an item's last event is a `Finished`. `together` is how many items may be computed at once;
where it is more than one, `check` refuses, as an InputError, an item that cannot be alone. `each`
is how many sequences an item takes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emu3 import films, talks
from emu3.mllm import parts
from emu3.mllm.generation.events import CandidateRow, RowDone, TextPiece
from emu3.mllm.parts import Clip, Given, Message
from emu3.pipeline import (
    Answers,
    AskSettings,
    DrawSettings,
    Picture,
    TextToImage,
)
from emu3.tokenizer.codes import NOT_MADE

if TYPE_CHECKING:
    from PIL import Image

    from emu3.loading import Emu3
    from emu3.mllm.generation.request import Request

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
    """The end of an item: what it became, and the tokens of its prompt and its answer."""

    result: "Image.Image | Clip | str | tuple[Image.Image, Image.Image] | tuple[Clip, Clip]"
    prompt_tokens: int
    tokens: int
    ended: bool = True  # False for an answer that was cut at its longest


@dataclass(frozen=True)
class Draw:
    """Pictures from text with equal settings, which are `filled`."""

    settings: DrawSettings
    name, together = "draw", SIZES[-1]

    @property
    def each(self) -> int:
        """See above."""
        return self.settings.best_of

    def run(self, models: "Emu3", pictures: Sequence[Picture]) -> Iterator[tuple[int, Any]]:
        """Rows of each picture as they are made, then the picture."""
        yield from _grown(models, self._request(models, pictures), len(pictures))

    def check(self, models: "Emu3", picture: Picture) -> None:
        """Refuse a picture that cannot be drawn."""
        self._request(models, [picture])

    def _request(self, models: "Emu3", pictures: Sequence[Picture]) -> "Request":
        drawing = TextToImage(models.model, models.prompts)
        return drawing.request(filled_up(pictures), self.settings)


@dataclass(frozen=True, eq=False)
class Change:
    """What is to be done with pictures; `size` (h, w) in codes is the last one's if it is None."""

    prompt: str
    images: "Sequence[Image.Image]"
    size: tuple[int, int] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Edit:
    """Pictures changed with equal settings, which are `filled`."""

    settings: DrawSettings
    name, together = "edit", SIZES[-1]

    @property
    def each(self) -> int:
        """See above."""
        return self.settings.best_of

    def run(self, models: "Emu3", changes: Sequence[Change]) -> Iterator[tuple[int, Any]]:
        """Rows of each new picture as they are made, then the picture."""
        yield from _grown(models, self._request(models, changes), len(changes))

    def check(self, models: "Emu3", change: Change) -> None:
        """Refuse a change that cannot be made."""
        self._request(models, [change])

    def _request(self, models: "Emu3", changes: Sequence[Change]) -> "Request":
        edits = [self._edit(models, change) for change in changes]
        return talks.Edits(models.model, models.prompts).request(filled_up(edits), self.settings)

    def _edit(self, models: "Emu3", change: Change) -> talks.Edit:
        codes = [models.coded(image).codes for image in change.images]
        return talks.Edit(change.prompt, codes, change.size or codes[-1].shape, change.seed)


def _grown(models: "Emu3", request: "Request", count: int) -> Iterator[tuple[int, Any]]:
    """Rows of the first `count` pictures of a request, and each one when it is whole."""
    codes = [np.full(size, NOT_MADE, np.int32) for size in request.picture_sizes[:count]]
    prompts = request.rows.lengths[:: request.settings.best_of]
    for event in models.model.run(request):
        if isinstance(event, CandidateRow | RowDone) and event.sequence < count:
            index, made = event.sequence, codes[event.sequence]
            made[event.row] = event.codes
            if not event.again:
                yield index, Rows(made, event.row + 1)
            if isinstance(event, RowDone) and event.row + 1 == len(made):
                yield index, Finished(models.codec.picture(made), int(prompts[index]), made.size)


@dataclass(frozen=True)
class Film:
    """A clip from text with settings that are `filled`."""

    settings: DrawSettings
    name, together, each = "film", 1, 1

    def run(self, models: "Emu3", wanted: Sequence[films.Film]) -> Iterator[tuple[int, Any]]:
        """Rows of each frame as they are made, then the clip."""
        (film,) = wanted
        codes = np.full(film.size, NOT_MADE, np.int32)
        for event in films.TextToVideo(models.model, models.prompts).run(film, self.settings):
            if isinstance(event, CandidateRow | RowDone):
                codes[event.frame, event.row] = event.codes
                if not event.again:
                    yield 0, Rows(codes[event.frame], event.row + 1)
        prompt = len(models.prompts.tokenizer.encode_ordinary(film.prompt))
        yield 0, Finished(models.clip_of(film, codes), prompt, codes.size)


@dataclass(frozen=True, eq=False)
class Question:
    """A conversation that ends with what the user asks, pictures in it as they are.

    `system` stands in place of the opening of the model's own chat template.
    """

    messages: Sequence[Message]
    seed: int = 0
    system: str | None = None


@dataclass(frozen=True)
class Ask:
    """Answers with equal settings, which are `filled`."""

    settings: AskSettings
    name, together, each = "ask", SIZES[-1], 1

    def run(self, models: "Emu3", questions: Sequence[Question]) -> Iterator[tuple[int, Any]]:
        """Pieces of each answer as they come, then the whole."""
        answers = Answers(models.model, models.prompts)
        prompts = [self._prompt(models, question) for question in questions]
        batches = self._of_equal_room(prompts, models.model.config.most_positions)
        requests = [
            self._request(answers, [prompts[i] for i in batch], [questions[i].seed for i in batch])
            for batch in batches
        ]
        for batch, request in zip(batches, requests):
            for index, event in _answered(answers, request, len(batch)):
                yield batch[index], event

    def check(self, models: "Emu3", question: Question) -> None:
        """Refuse a question that cannot be asked."""
        answers = Answers(models.model, models.prompts)
        self._request(answers, [self._prompt(models, question)], [question.seed])

    def _of_equal_room(self, prompts: list[list[int]], positions: int) -> list[list[int]]:
        """Places of the prompts that share a batch: none leaves another's answer less room."""
        batches: dict[int, list[int]] = {}
        for place, prompt in enumerate(prompts):
            room = min(positions - len(prompt), self.settings.max_new_tokens)
            batches.setdefault(room, []).append(place)
        return list(batches.values())

    def _request(self, answers: Answers, prompts: list[list[int]], seeds: list[int]) -> "Request":
        return answers.request_of(filled_up(prompts), self.settings, filled_up(seeds))

    def _prompt(self, models: "Emu3", question: Question) -> list[int]:
        def coded(part: Given) -> Given:
            return models.coded(part.image) if isinstance(part, parts.Image) else part

        said = [Message(m.role, tuple(map(coded, m.parts))) for m in question.messages]
        return models.prompts.conversation(said, opening=question.system)


def _answered(answers: Answers, request: "Request", count: int) -> Iterator[tuple[int, Any]]:
    """Pieces of the first `count` answers of a request, then each whole."""
    ids: list[list[int]] = [[] for _ in range(count)]
    texts = ["" for _ in range(count)]
    for event in answers.run(request):
        if isinstance(event, TextPiece) and event.sequence < count:
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
    """A picture or clip to codes and back."""

    name, together, each = "rebuild", 1, 1

    def run(
        self, models: "Emu3", items: "Sequence[Image.Image | Clip]"
    ) -> Iterator[tuple[int, Any]]:
        """As the model is shown it, and rebuilt."""
        (item,), codec = items, models.codec
        frames = item.frames if isinstance(item, Clip) else [item]
        pixels = np.stack(list(codec.frame_pixels(frames)))
        codes = models.coded(item).codes
        if not isinstance(item, Clip):
            result = codec.seen(pixels)[0], codec.picture(codes)
        else:
            chunks = codec.frames(codes, len(frames))
            rebuilt = [frame for chunk in chunks for frame in chunk]
            result = Clip(codec.seen(pixels), item.fps), Clip(rebuilt, item.fps)
        yield 0, Finished(result, 0, codes.size)


Task = Draw | Edit | Film | Ask | Rebuild


def whole_characters(text: str) -> str:
    """A text without a character at its end of which some bytes are still to come."""
    return text.rstrip("\N{REPLACEMENT CHARACTER}")


def most_items(sequences: int, each: int) -> int:
    """How many items of `each` sequences are made together where so many sequences may be, copies
    that fill a batch up among them."""
    return max([size for size in SIZES if size * each <= sequences], default=1)


def filled_up(items: Sequence) -> list:
    """The items, and copies of the last one up to a size of `SIZES`."""
    size = next((size for size in SIZES if size >= len(items)), len(items))
    return [*items, *[items[-1]] * (size - len(items))]
