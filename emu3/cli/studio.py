"""How a batch of pictures is made: codes row by row, saved, then pixels."""

from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np

from emu3.cli import common, decoding
from emu3.cli.outputs import Codes, decode_picture, new_file, save_picture
from emu3.cli.progress import Progress

SECONDS_BETWEEN_SAVES = 10.0


@dataclass
class Picture:
    """One picture to make: what was asked, and the codes (rows, columns) made so far."""

    prompt: str
    codes: np.ndarray
    seed: int
    settings: dict
    path: Path | None = None

    def save_codes(self, path: Path | None = None) -> None:
        """Write codes and settings to `path`, by default the picture's own .npz file."""
        Codes(self.codes, self.settings).save(path or self.path)

    @property
    def picture_path(self) -> Path:
        """Where the finished picture is written."""
        return self.path.with_suffix(".png")

    @property
    def preview_path(self) -> Path:
        """Where the unfinished picture is shown."""
        return self.path.with_name(f"{self.path.stem}_preview.png")


class Studio:
    """The loaded models, and how a batch of pictures is made with them."""

    def __init__(self, options, model, tokenizer, vision, image_processor) -> None:
        from emu3.mllm import Emu3Processor

        self.options = options
        self.model = model
        self.vision = vision
        self.image_processor = image_processor
        self.processor = Emu3Processor(image_processor, vision, tokenizer)
        self.saved_at = monotonic()
        self.forwards = 0
        self.finished: list[Path] = []  # pictures written

    def check(self, batches: list[list[Picture]]) -> None:
        """Refuse what a batch asks for before the first one is made.

        Raises:
            InputError: a prompt and its picture are too long, or options do not fit them.
        """
        for pictures in batches:
            self.model.stream(**self._arguments(pictures))  # checks at once, runs when iterated

    def make(self, pictures: list[Picture], folder: Path, progress: Progress) -> None:
        """Make a batch: codes first, then pixels. What is made when it is cut short is kept.

        Raises:
            common.Interrupted: after Ctrl-C, once the codes are saved; lists what is finished.
        """
        for picture in pictures:
            picture.path = new_file(folder, "image", ".npz", picture.save_codes)
        try:
            self._sample(pictures, progress)
            for picture in pictures:
                picture.save_codes()
            for picture in pictures:
                self._decode(picture)
        except BaseException as error:
            kept = keep_codes([p for p in pictures if p.picture_path not in self.finished])
            if not isinstance(error, KeyboardInterrupt):
                raise
            message = common.kept_message(kept, self.options.vq_model, self.finished)
            raise common.Interrupted(message) from None

    def _decode(self, picture: Picture) -> None:
        """Write the finished picture in place of its preview."""
        image = decode_picture(picture.codes, self.vision, self.image_processor)
        picture.preview_path.unlink(missing_ok=True)
        save_picture(image, picture.settings, picture.picture_path)
        self.finished.append(picture.picture_path)

    def _sample(self, pictures: list[Picture], progress: Progress) -> None:
        """Fill in the codes, row by row."""
        from emu3.mllm.generation import Done, RowDone

        for event in self.model.stream(**self._arguments(pictures)):
            if isinstance(event, RowDone):
                picture = pictures[event.sequence]
                picture.codes[event.row] = event.codes
                progress.add(1, len(event.codes) + 1)
                self._show(picture, event.row + 1)
                self._save_now_and_then(pictures)
            elif isinstance(event, Done):
                self.forwards += sum(event.forwards)

    def _arguments(self, pictures: list[Picture]) -> dict:
        """What `model.stream` needs for these pictures."""
        options = self.options
        sizes = np.array([picture.codes.shape for picture in pictures])
        positive = self._prompt_ids([p.prompt + options.suffix for p in pictures], sizes)
        arguments = {
            "input_ids": positive["input_ids"],
            "attention_mask": positive["attention_mask"],
            "image_size": sizes,
            "seed": [picture.seed for picture in pictures],
            "jit": common.compile_step(options),
            **common.sampling_arguments(options),
            **decoding.arguments(options),
        }
        if options.guidance != 1:
            negative = self._prompt_ids([options.negative_prompt] * len(pictures), sizes)
            arguments |= {
                "guidance_scale": options.guidance,
                "negative_prompt_ids": negative["input_ids"],
                "negative_prompt_attention_mask": negative["attention_mask"],
            }
        return arguments

    def _prompt_ids(self, texts: list[str], sizes: np.ndarray):
        return self.processor(
            text=texts,
            mode="G",
            height=sizes[:, 0],
            width=sizes[:, 1],
            padding="longest",
            return_tensors="ms",
        )

    def _show(self, picture: Picture, rows: int) -> None:
        """Write the preview when it is due."""
        every = self.options.preview
        if every and rows % every == 0 and rows < len(picture.codes):
            image = decode_picture(picture.codes, self.vision, self.image_processor)
            save_picture(image, picture.settings, picture.preview_path)

    def _save_now_and_then(self, pictures: list[Picture]) -> None:
        if monotonic() - self.saved_at > SECONDS_BETWEEN_SAVES:
            for picture in pictures:
                picture.save_codes()
            self.saved_at = monotonic()


def keep_codes(pictures: list[Picture]) -> list[Path]:
    """Save the codes of a batch cut short; returns the files that hold finished rows."""
    kept = []
    for picture in pictures:
        picture.preview_path.unlink(missing_ok=True)
        if Codes(picture.codes).finished_rows:
            picture.save_codes()
            kept.append(picture.path)
        else:
            picture.path.unlink(missing_ok=True)
    return kept
