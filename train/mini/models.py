"""emu3-mini's models in batches, for the evaluation: draw, answer, rebuild.

Pictures are (h, w, 3) uint8.
"""

import numpy as np
from PIL import Image

from emu3.cli.options import Device
from emu3.loading import check_same_codes, load_language, load_vision
from emu3.pipeline import Answers, AskSettings, DrawSettings, Picture, TextToImage

# The longest description of three shapes takes about a third of this in either language.
ANSWER_TOKENS = 96


class Models:
    """The loaded models and how batches go through them.

    Args:
        model: the language model; None for the vision tokenizer alone, which rebuilds.
        vq_model: the vision tokenizer.
        settings: how pictures are drawn; the checkpoint's where nobody said anything.
        weights: what the language model's matrices are stored as on CPU.
    """

    def __init__(
        self,
        model: str | None,
        vq_model: str,
        settings: DrawSettings,
        device: Device,
        weights: str | None = None,
    ) -> None:
        from emu3.mllm.defaults import CheckpointDefaults
        from emu3.mllm.prompts import PromptBuilder
        from emu3.tokenizer import VisionCodec

        self.settings, self.jit = settings, device.jit
        self.forwards = 0
        self.codec = VisionCodec(*load_vision(vq_model, device.dtype))
        if model is not None:
            defaults = CheckpointDefaults.from_pretrained(model)
            language, tokenizer = load_language(
                model, device.dtype, device.attn_implementation, weights
            )
            check_same_codes(language, self.codec.vision)
            prompts = PromptBuilder(tokenizer, defaults.chat_template)
            self.settings = settings.filled(defaults)
            self.drawing, self.answers = TextToImage(language, prompts), Answers(language, prompts)
            self.answering = AskSettings(max_new_tokens=ANSWER_TOKENS).filled(defaults)

    def draw(self, pictures: list[Picture]) -> list[np.ndarray]:
        """Pictures of one size."""
        request = self.drawing.request(pictures, self.settings, self.jit)
        codes, done = self.drawing.codes(request)
        self.forwards += sum(done.forwards)
        return [np.asarray(self.codec.pictures(made[None])[0]) for made in codes]

    def answer(self, questions: list[str], images: list[Image.Image]) -> list[str]:
        """Answers to questions about pictures of one size; always the likeliest tokens."""
        codes = self.codec.encode(self._pixels(images))
        request = self.answers.request(questions, codes, self.answering, jit=self.jit)
        return self.answers.texts(request)

    def rebuild(self, images: list[Image.Image]) -> list[np.ndarray]:
        """Pictures of one size after encoding and decoding."""
        return [np.asarray(p) for p in self.codec.pictures(self.codec.encode(self._pixels(images)))]

    def _pixels(self, images: list[Image.Image]) -> np.ndarray:
        """(b, 3, h, w) float32."""
        return np.stack([self.codec.pixels(image) for image in images])
