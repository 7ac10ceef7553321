"""emu3-mini's models in batches, for the evaluation: draw, answer, rebuild.

b items of a batch; h w for pixels, but h, w of codes are latent rows and columns.
"""

import argparse
from dataclasses import asdict

import numpy as np

from emu3.cli import common, decoding

# The longest description of three shapes takes about a third of this in either language.
ANSWER_TOKENS = 96


class Models:
    """The loaded models and how batches go through them."""

    def __init__(self, options: argparse.Namespace) -> None:
        from emu3.mllm import Emu3Processor
        from emu3.mllm.defaults import CheckpointDefaults

        self.options = options
        self.forwards = 0
        if options.task != "reconstruction":
            defaults = CheckpointDefaults.from_pretrained(options.model)
            self.options = with_defaults(options, defaults)
        self.decoding = decoding.chosen(self.options)
        self.vision, self.image_processor = common.load_vision(options)
        if options.task != "reconstruction":
            self.model, tokenizer = common.load_language(options)
            common.check_same_codes(self.model, self.vision)
            self.processor = Emu3Processor(
                self.image_processor, self.vision, tokenizer, defaults.chat_template
            )

    @property
    def settings(self) -> dict:
        """The resolved options."""
        return dict(vars(self.options))

    def draw(self, texts: list[str], sizes: np.ndarray, seeds: list[int]) -> list[np.ndarray]:
        """Pictures (h, w, 3) uint8 of texts at latent `sizes` (b, 2), each with its own seed."""
        options = self.options
        inputs = self._prompts([text + options.positive_prompt for text in texts], sizes)
        arguments = {
            "attention_mask": inputs["attention_mask"],
            "image_size": sizes,
            "seed": seeds,
            "jit": common.compile_step(options),
            **common.sampling_arguments(options),
            **decoding.arguments(options),
        }
        if options.guidance != 1:
            negative = self._prompts([options.negative_prompt] * len(texts), sizes)
            arguments |= {
                "guidance_scale": options.guidance,
                "negative_prompt_ids": negative["input_ids"],
                "negative_prompt_attention_mask": negative["attention_mask"],
            }
        *_, done = self.model.stream(inputs["input_ids"], **arguments)
        self.forwards += sum(done.forwards)
        pieces = [self.processor.vocabulary.parse_images(row) for row in done.sequences]
        codes = [next(piece for piece in row if piece.ndim == 2) for row in pieces]
        return [self.pixels(c[None])[0] for c in codes]

    def answer(self, texts: list[str], images: list) -> list[str]:
        """Answers to questions about PIL pictures of one size; always the likeliest tokens."""
        inputs = self.processor(
            text=texts, image=images, mode="U", padding="longest", return_tensors="ms"
        )
        ids = inputs["input_ids"]
        rows = self.model.generate(
            ids,
            attention_mask=inputs["attention_mask"],
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            jit=common.compile_step(self.options),
        )
        return self.processor.batch_decode(
            rows.asnumpy()[:, ids.shape[1] :], skip_special_tokens=True
        )

    def rebuild(self, images: list) -> list[np.ndarray]:
        """Pictures (h, w, 3) uint8 after encoding and decoding PIL pictures of one size."""
        import mindspore as ms

        features = self.image_processor(images, return_tensors="np")
        return self.pixels(self.vision.encode(ms.Tensor(features["pixel_values"])).asnumpy())

    def pixels(self, codes: np.ndarray) -> list[np.ndarray]:
        """Pictures (h, w, 3) uint8 of codes (b, h, w)."""
        import mindspore as ms

        decoded = self.vision.decode(ms.Tensor(codes))
        return [
            np.asarray(image) for image in self.image_processor.postprocess(decoded)["pixel_values"]
        ]

    def _prompts(self, texts: list[str], sizes: np.ndarray):
        return self.processor(
            text=texts,
            mode="G",
            height=sizes[:, 0],
            width=sizes[:, 1],
            padding="longest",
            return_tensors="ms",
        )


def with_defaults(options: argparse.Namespace, defaults) -> argparse.Namespace:
    """The options with the checkpoint's defaults where the user said nothing."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    stated = {**asdict(defaults), "guidance": defaults.guidance_scale}
    names = ["guidance", "temperature", "top_k", "top_p", "positive_prompt", "negative_prompt"]
    scheme = decoding.filled_in(options, defaults)
    filled = {**vars(options), **{n: stated[n] for n in names}, **given, **scheme}
    return argparse.Namespace(**filled)
