"""Questions about images: `python -m emu3.cli.vqa --image photo.png --question "What is it?"`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emu3 import bundled
from emu3.cli import options as shared
from emu3.cli import shell
from emu3.cli.outputs import Progress, Spoken, Stopwatch
from emu3.cli.room import require_room_for_answers, require_room_for_pixels
from emu3.errors import InputError, about
from emu3.images import open_image
from emu3.loading import check_same_codes, load_language, load_vision, read_configs
from emu3.mllm.generation.events import PrefillPart, TextPiece
from emu3.options import group, option, path_text, whole, words
from emu3.pipeline import Answers, AskSettings, in_lists

EXAMPLE_QUESTIONS = ("Please describe the image", "请描述该图片")


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    image: list[str] | None = option(
        "image to ask about; one for all questions or one a question (default: a bundled image)",
        None,
        path_text,
        metavar="FILE",
    )
    question: list[str] | None = option(
        "may be given several times; one for all images or one an image "
        "(default: asks for a description in English and in Chinese)",
        None,
        words,
    )
    template: str | None = option(
        "chat, stage1, or a text with {image_prompt} and {text_prompt} (default: the checkpoint's)",
        None,
        words,
    )
    settings: AskSettings = group()
    batch_size: int = option("questions answered together", 4, whole(1, 10_000))
    seed: int = shared.seed()
    weights: str | None = shared.weights()
    device: shared.Device = group()

    def __post_init__(self) -> None:
        self.pairs  # noqa: B018 - counts that do not fit are refused at once

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """(image, question) pairs; one image or one question serves all the others.

        Raises:
            InputError: both counts exceed one and differ.
        """
        return pair_up(
            self.image or [str(bundled.DEMO_IMAGE)], self.question or list(EXAMPLE_QUESTIONS)
        )


def pair_up(images: list[str], questions: list[str]) -> list[tuple[str, str]]:
    """(image, question) pairs; one image or one question serves all the others.

    Raises:
        InputError: both counts exceed one and differ.
    """
    count = max(len(images), len(questions))
    if len(images) not in (1, count) or len(questions) not in (1, count):
        raise InputError(
            f"{len(images)} images and {len(questions)} questions; allowed: equal counts, or one "
            "of either; change --image or --question"
        )
    return list(zip(images * (count // len(images)), questions * (count // len(questions))))


def run(options: Options) -> None:
    """Answer every question; prints question and answer."""
    images = {path: open_image(path) for path, _ in options.pairs}
    device = options.device
    device.start()
    from emu3.mllm.defaults import CheckpointDefaults
    from emu3.mllm.prompts import PromptBuilder
    from emu3.tokenizer import VisionCodec

    defaults = CheckpointDefaults.from_pretrained(options.model)
    codec = VisionCodec(*load_vision(options.vq_model, device.dtype))
    codes = {path: encoded(codec, path, image, device.dtype) for path, image in images.items()}
    config, _ = read_configs(options.model, options.vq_model)
    weights = require_room(options, config, codec.config, codes)
    model, tokenizer = load_language(
        options.model, device.dtype, device.attn_implementation, weights
    )
    check_same_codes(model, codec.vision)
    prompts = PromptBuilder.stated(tokenizer, defaults, options.template)
    desk = Desk(options, Answers(model, prompts), options.settings.filled(defaults))
    watch = Stopwatch()
    with Progress(None) as progress:
        for batch in in_lists(enumerate(options.pairs), options.batch_size):
            desk.answer(batch, codes, progress)
    print(watch.closing_line(f"{len(options.pairs)} answer(s)", progress.speed))


def encoded(codec, path: str, image, dtype: str | None) -> np.ndarray:
    """The codes (h, w) of a picture.

    Raises:
        InputError: it cannot be coded, or not in this memory; names its file.
    """
    with about(path, "--image"):
        pixels = codec.pixels(image)
        h, w = (side // codec.config.spatial_scale_factor for side in pixels.shape[1:])
        require_room_for_pixels(codec.config, (h, w), dtype, remedy="a smaller picture")
        return codec.encode(pixels[None])[0]


def require_room(options: Options, config, vision, codes: dict[str, np.ndarray]) -> str | None:
    """Refuse questions that memory cannot hold together, before the language model is loaded; the
    form for its matrices.

    Raises:
        InputError: gives the estimate.
    """
    pictures = [codes[path].shape for path, _ in options.pairs]
    prompts = sorted(h * (w + 1) for h, w in pictures)[-options.batch_size :]
    return require_room_for_answers(config, vision, prompts, options.device.dtype, options.weights)


class Desk:
    """Where a batch of questions is answered and printed, each below its picture."""

    def __init__(self, options: Options, answers: Answers, settings: AskSettings) -> None:
        self.options, self.answers, self.settings = options, answers, settings
        self.picture: str | None = None  # the last answers' own

    def answer(
        self,
        batch: list[tuple[int, tuple[str, str]]],
        codes: dict[str, np.ndarray],
        progress: Progress,
    ) -> None:
        """Answer numbered (image, question) pairs; prints each answer as it comes, in their order,
        and what has come of all of them when cut short."""
        options = self.options
        request = self.answers.request(
            [question for _, (_, question) in batch],
            [codes[path] for _, (path, _) in batch],
            self.settings,
            [options.seed + number for number, _ in batch],
            options.device.jit,
        )
        turns = Turns([pair for _, pair in batch], self.answers.text, self.picture)
        try:
            for event in self.answers.run(request):
                if isinstance(event, TextPiece):
                    turns.add(event.sequence, event.ids.tolist())
                    progress.add(len(event.ids), len(event.ids))
                elif isinstance(event, PrefillPart):
                    progress.show(event)
        finally:
            turns.end()
            self.picture = batch[-1][1][0]


class Turns:
    """The answers of a batch, printed in their order below their pictures, whose names are printed
    once in a row: one as it comes, the next when that one is whole.
    """

    def __init__(
        self, pairs: list[tuple[str, str]], spell: Callable[[list[int]], str], picture: str | None
    ) -> None:
        self.pairs, self.picture = pairs, picture
        self.answers = [Spoken(spell, "  A: ") for _ in pairs]
        self.turn = -1
        self._next()

    def add(self, number: int, ids: list[int]) -> None:
        """More ids of an answer."""
        self.answers[number].ids += ids
        while self.turn + 1 < len(self.answers) and self._whole():
            self.answers[self.turn].end()
            self._next()
        self.answers[self.turn].say()

    def end(self) -> None:
        """Print all that has come."""
        self.answers[self.turn].end()
        while self.turn + 1 < len(self.answers):
            self._next()
            self.answers[self.turn].end()

    def _whole(self) -> bool:
        """Whether the answer whose turn it is has ended: those that go on get an id every step."""
        longest = max(len(answer.ids) for answer in self.answers)
        return longest > len(self.answers[self.turn].ids) + 1

    def _next(self) -> None:
        self.turn += 1
        path, question = self.pairs[self.turn]
        if path != self.picture:
            print(path)
        self.picture = path
        print(f"  Q: {question}", flush=True)


build_parser, main = shell.command("emu3.cli.vqa", "Answer questions about images.", Options, run)

if __name__ == "__main__":
    shell.leave(main())
