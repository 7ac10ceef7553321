"""The models in batches: draw, film, extend, edit, answer, rebuild.

Pictures are (h, w, 3) uint8, codes (h, w) or (t, h, w) int32.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from emu3.cli.options import Device
from emu3.loading import check_same_codes, load_language, load_vision
from emu3.mllm.generation.events import Done, RowDone
from emu3.mllm.parts import Coded, Message, Open, Text
from emu3.pipeline import Answers, AskSettings, DrawSettings, drawing_request
from train.mini.world.paint import painted

ANSWER_TOKENS = 64


class Models:
    """The loaded models.

    Args:
        model: the language model; None for the vision tokenizer alone, which rebuilds.
        vq_model: the vision tokenizer.
        settings: how is drawn; the checkpoint's where nobody said anything.
        weights: what the language model's matrices are stored as on CPU.
        painter: who draws codes as pictures, of PAINTERS.
    """

    def __init__(
        self,
        model: str | None,
        vq_model: str,
        settings: DrawSettings,
        device: Device,
        weights: str | None = None,
        painter: str = "vision",
    ) -> None:
        from emu3.mllm.defaults import CheckpointDefaults
        from emu3.mllm.prompts import PromptBuilder
        from emu3.tokenizer import VisionCodec

        self.settings, self.jit, self.painter = settings, device.jit, painter
        self._forwards: list[int] = []
        self.codec = VisionCodec(*load_vision(vq_model, device.dtype))
        if model is not None:
            defaults = CheckpointDefaults.from_pretrained(model)
            self.language, tokenizer = load_language(
                model, device.dtype, device.attn_implementation, weights
            )
            check_same_codes(self.language, self.codec.vision)
            self.prompts = PromptBuilder.stated(tokenizer, defaults)
            self.settings = settings.filled(defaults)
            self.answers = Answers(self.language, self.prompts)
            self.answering = AskSettings(max_new_tokens=ANSWER_TOKENS).filled(defaults)

    def draw(
        self, texts: Sequence[str], sizes: Sequence[tuple[int, int]], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Codes of pictures of one size."""
        parts = [[Text(text), Open(size)] for text, size in zip(texts, sizes)]
        empty = [[Text(""), Open(size)] for size in sizes]
        return self._made(
            [self.prompts.prompt(p) for p in parts],
            [self.prompts.prompt(p) for p in empty],
            seeds,
            [(1, *size) for size in sizes],
        )

    def film(
        self,
        texts: Sequence[str],
        size: tuple[int, int, int],
        seeds: Sequence[int],
        begun: Sequence[np.ndarray] | None = None,
    ) -> list[np.ndarray]:
        """Codes (t, h, w) of clips, each behind its first frames `begun` if they are given."""
        begun = begun if begun is not None else [None] * len(texts)
        opened = [Open(size, begun=first) for first in begun]
        return self._made(
            [self.prompts.prompt([Text(text), end]) for text, end in zip(texts, opened)],
            [self.prompts.prompt([Text(""), end]) for end in opened],
            seeds,
            [size] * len(texts),
            begun,
        )

    def edit(
        self, codes: Sequence[np.ndarray], texts: Sequence[str], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Codes of pictures of one size, changed as is asked."""

        def ids(text: str, picture: np.ndarray) -> list[int]:
            user = Message("user", (Coded(picture), Text(text)))
            return self.prompts.conversation([user], Open(picture.shape))

        prompts = [ids(text, picture) for text, picture in zip(texts, codes)]
        silent = [ids("", picture) for picture in codes]
        return self._made(prompts, silent, seeds, [(1, *picture.shape) for picture in codes])

    def answer(self, questions: Sequence[str], codes: Sequence[np.ndarray]) -> list[str]:
        """Answers about pictures or clips; always the likeliest tokens."""
        request = self.answers.request(questions, codes, self.answering, jit=self.jit)
        return [text.strip() for text in self.answers.texts(request)]

    def encode(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """Codes of pictures as a person gives them."""
        return self.codec.encode_each([self.codec.pixels(image) for image in images])

    def encode_clip(self, frames: np.ndarray) -> np.ndarray:
        """Codes (t, h, w) of frames (n, h, w, 3)."""
        pixels = np.stack([self.codec.pixels(Image.fromarray(frame)) for frame in frames])
        return self.codec.encode_clip(pixels)

    def picture(self, codes: np.ndarray) -> np.ndarray:
        """The picture of codes (h, w)."""
        if self.painter == "world":
            return painted(codes)
        return np.asarray(self.codec.picture(codes))

    def frames(self, codes: np.ndarray) -> np.ndarray:
        """The frames (n, h, w, 3) of codes (t, h, w)."""
        count = len(codes) * self.codec.config.temporal_downsample_factor
        (made,) = self.codec.frames(codes, count, count)
        return np.stack([np.asarray(frame) for frame in made])

    def forwards_of_one(self) -> float | None:
        """Mean runs of the network for what was made since this was asked last; None: nothing."""
        made, self._forwards = self._forwards, []
        return sum(made) / len(made) if made else None

    def _made(
        self,
        prompts: list[list[int]],
        negatives: list[list[int]],
        seeds: Sequence[int],
        sizes: Sequence[tuple[int, int, int]],
        begun: Sequence[np.ndarray | None] | None = None,
    ) -> list[np.ndarray]:
        """Codes of a batch; (h, w) where t is 1."""
        request = drawing_request(
            self.language,
            prompts,
            negatives,
            list(seeds),
            self.settings,
            jit=self.jit,
            video_size=list(sizes),
        )
        made = [np.zeros(size, np.int32) for size in sizes]
        for codes, first in zip(made, begun or []):
            if first is not None:
                codes[: len(first)] = first
        for event in self.language.run(request):
            if isinstance(event, RowDone):
                made[event.sequence][event.frame, event.row] = event.codes
            elif isinstance(event, Done):
                self._forwards += event.forwards
        return [codes[0] if len(codes) == 1 else codes for codes in made]
