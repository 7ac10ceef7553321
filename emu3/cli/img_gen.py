"""Text to image: `python -m emu3.cli.img_gen --prompt "a yellow sun above a blue boat at sea"`.

Each picture has a seed of its own (--seed, --seed + 1, ...), so any of them can be made again
alone. Its codes are in an .npz file from its first row on, its PNG carries prompt and settings.
"""

import json
import math
from argparse import ArgumentTypeError
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic

import numpy as np

from emu3.cli import options as shared
from emu3.cli import shell
from emu3.cli.outputs import (
    Progress,
    Stopwatch,
    kept_message,
    new_file,
    save_picture,
    with_prompts,
)
from emu3.cli.room import chosen_weights, width_of
from emu3.codesfile import Codes
from emu3.errors import InputError
from emu3.files import own_folder, require_file
from emu3.loading import load_models, read_configs
from emu3.mllm.generation.events import (
    CandidateRow,
    ChoicePart,
    Done,
    PrefillPart,
    RowDone,
)
from emu3.options import group, non_negative_int, option, path_text, whole, words
from emu3.pipeline import (
    DrawSettings,
    Picture,
    PictureSize,
    TextToImage,
    in_lists,
)
from emu3.tokenizer.codes import NOT_MADE, finished_rows

SECONDS_BETWEEN_SAVES = 10.0
LARGEST_PROMPT_FILE = 2**24
MOST_PICTURES = 100_000


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    prompt: list[str] | None = option(
        "what to draw; may be given several times (default: the checkpoint's example)",
        None,
        words,
    )
    prompt_file: str | None = option(
        "a text file with a prompt a line", None, path_text, metavar="FILE"
    )
    settings: DrawSettings = group()
    size: PictureSize = group()
    seed: int = shared.seed()
    output: str = option(
        "folder for pictures and codes, numbered image_0000 ...",
        "outputs",
        path_text,
        metavar="FOLDER",
    )
    images_per_prompt: int = option(
        "pictures of each prompt, each with a seed of its own", 1, whole(1, MOST_PICTURES)
    )
    batch_size: int = option("pictures made together", 4, whole(1, 10_000))
    preview: int = option(
        "show the unfinished picture every so many rows, 0 for never", 0, non_negative_int
    )
    resume: bool = option(
        "leave out pictures that --output holds, made from the same settings", False
    )
    weights: str | None = shared.weights()
    device: shared.Device = group()

    def __post_init__(self) -> None:
        count = max(1, len(self.prompts)) * self.images_per_prompt
        if count > MOST_PICTURES:
            raise InputError(
                f"{count} pictures; allowed: up to {MOST_PICTURES} a run; change "
                "--images-per-prompt or --prompt-file"
            )

    @cached_property
    def prompts(self) -> list[str]:
        """The prompts of --prompt and --prompt-file, in this order.

        Raises:
            InputError: the file cannot be read or holds no prompt.
        """
        return [*(self.prompt or []), *(read_prompts(self.prompt_file) if self.prompt_file else [])]


def read_prompts(file: str) -> list[str]:
    """The lines of a text file that say something; a byte order mark is none of them.

    Raises:
        InputError: it cannot be read, is too large, or holds no prompt.
    """
    require_file(file, "prompt file", "--prompt-file")
    if (size := Path(file).stat().st_size) > LARGEST_PROMPT_FILE:
        raise InputError(
            f"{file} has {size} bytes; allowed: up to {LARGEST_PROMPT_FILE}; change --prompt-file"
        )
    try:
        # Not splitlines: it also breaks at Unicode's own separators, which prompts may hold.
        lines = Path(file).read_text(encoding="utf-8-sig").split("\n")
        found = [words(line.strip()) for line in lines if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: {error}; change --prompt-file") from None
    except ArgumentTypeError as error:
        raise InputError(f"{file}: prompt {error}; change --prompt-file") from None
    if not found:
        raise InputError(f"{file} holds no prompt; change --prompt-file")
    return found


def run(options: Options) -> None:
    """Make every picture."""
    folder, device = own_folder(options.output), options.device
    device.start()
    from emu3.mllm.defaults import CheckpointDefaults

    checkpoint = CheckpointDefaults.from_pretrained(options.model)
    settings, jit = options.settings.filled(checkpoint), device.jit
    shared.notice_if_lossy(settings.scheme)
    shared.notice_if_far(options.settings, checkpoint)
    shared.notice_of_words(options.prompts, checkpoint)
    pictures, weights = plan(options, settings, checkpoint)
    about = picture_settings(options, settings) | {"weights": weights}
    if options.resume:
        pictures = not_made(pictures, about, folder)
        if not pictures:
            print(f"{folder} holds every picture")
            return
    models = load_models(
        options.model, options.vq_model, device.dtype, device.attn_implementation, weights
    )
    drawing = TextToImage(models.model, models.prompts)
    batches = list(in_lists(pictures, options.batch_size))
    requests = [drawing.request(batch, settings, jit) for batch in batches]  # checked before any
    studio = Studio(options, about, drawing, models.codec, folder)
    watch = Stopwatch()
    with Progress(sum(picture.size[0] for picture in pictures)) as progress:
        for batch, request in zip(batches, requests):
            studio.make(batch, request, progress)
    for line in with_prompts(studio.finished, [picture.prompt for picture in pictures]):
        print(line)
    if settings.scheme.name != "plain":
        at_once = progress.tokens / max(studio.forwards, 1)
        print(f"decoding {settings.scheme.label}: {at_once:.2f} tokens at once instead of one")
    print(watch.closing_line(f"{len(pictures)} picture(s)", progress.speed))


def not_made(pictures: list[Picture], about: dict, folder: Path) -> list[Picture]:
    """Those of `pictures` that no PNG of `folder` shows, made from the same settings."""
    made = set()
    for path in folder.glob("image_*.npz"):
        try:
            codes = Codes.load(path)
        except InputError:  # not one of ours, or cut short: it shows nothing
            continue
        if path.with_suffix(".png").exists():
            made.add((_identity(codes.settings), codes.codes.shape))
    return [p for p in pictures if (_identity(asked(p) | about), tuple(p.size)) not in made]


def _identity(settings: dict) -> str:
    return json.dumps(settings, sort_keys=True)


def asked(picture: Picture) -> dict:
    """What a picture's settings say of itself alone."""
    return {"prompt": picture.prompt, "seed": picture.seed}


def plan(options: Options, settings: DrawSettings, checkpoint) -> tuple[list[Picture], str | None]:
    """The pictures to make, in order, each with its size and seed, and the form for the model's
    matrices, before anything is loaded.

    Raises:
        InputError: sizes or counts that do not fit, or more memory than there is.
    """
    from emu3.estimate import Work

    config, vision = read_configs(options.model, options.vq_model)
    prompts = options.prompts or [checkpoint.example_prompt]
    factor = vision.spatial_scale_factor
    sizes = options.size.grids(len(prompts), checkpoint.image_area, factor)
    shared.notice_if_snapped(options.size, factor)
    pairs = [pair for pair in zip(prompts, sizes) for _ in range(options.images_per_prompt)]
    work = Work(
        sequences=min(options.batch_size, len(pairs)),
        best_of=settings.best_of,
        guided=settings.guidance != 1,
        grid=max(sizes, key=math.prod),
        scheme=settings.scheme,
        width=width_of(options.device.dtype),
    )
    weights = chosen_weights(config, vision, work, options.weights)
    seeds = range(options.seed, options.seed + len(pairs))
    return [Picture(*pair, seed) for pair, seed in zip(pairs, seeds)], weights


@dataclass
class Sheet:
    """A picture under way: its codes (rows, columns) so far, settings, and its .npz file."""

    codes: np.ndarray
    settings: dict
    path: Path | None = None

    def save_codes(self, path: Path | None = None) -> None:
        """Write codes and settings to `path`, by default the picture's own file."""
        Codes(self.codes, self.settings).save(path or self.path)

    @property
    def preview_path(self) -> Path:
        """Where the unfinished picture is shown."""
        return self.path.with_name(f"{self.path.stem}_preview.png")


class Studio:
    """How a batch becomes files: codes row by row, saved, then pixels.

    `options` say vq_model and preview; `drawing` runs a request; files are numbered behind `stem`.
    """

    def __init__(
        self, options, about: dict, drawing, codec, folder: Path, stem: str = "image"
    ) -> None:
        self.options, self.drawing, self.codec, self.folder = options, drawing, codec, folder
        self.stem = stem
        self.settings = about
        self.saved_at = monotonic()
        self.forwards = 0
        self.finished: list[Path] = []  # pictures written

    def make(self, pictures: list[Picture], request, progress: Progress) -> None:
        """Make a batch: codes first, then pixels. What is made when it is cut short is kept.

        Raises:
            shell.Interrupted: after Ctrl-C, once the codes are saved; lists what is finished.
        """
        sheets = [self._sheet(picture) for picture in pictures]
        try:
            self._sample(sheets, request, progress)
            for sheet in sheets:
                sheet.save_codes()
            for sheet in sheets:
                self._decode(sheet)
        except BaseException as error:
            kept = keep_codes([s for s in sheets if s.path not in self._done()])
            if not isinstance(error, KeyboardInterrupt):
                raise
            message = kept_message(kept, self.options.vq_model, self.finished)
            raise shell.Interrupted(message) from None

    def _sheet(self, picture: Picture) -> Sheet:
        return Sheet(np.full(picture.size, NOT_MADE, np.int32), asked(picture) | self.settings)

    def _done(self) -> list[Path]:
        return [path.with_suffix(".npz") for path in self.finished]

    def _sample(self, sheets: list[Sheet], request, progress: Progress) -> None:
        """Fill in the codes, row by row; the first row claims the files."""
        for event in self.drawing.run(request):
            if isinstance(event, CandidateRow | RowDone):
                sheet = sheets[event.sequence]
                sheet.codes[event.row] = event.codes
                progress.row(event)
                self._save_now_and_then(sheets)
                if not event.again:
                    self._show(sheet, event.row + 1)
            elif isinstance(event, PrefillPart | ChoicePart):
                progress.show(event)
            elif isinstance(event, Done):
                self.forwards += sum(event.forwards)

    def _save_now_and_then(self, sheets: list[Sheet]) -> None:
        for sheet in (sheet for sheet in sheets if sheet.path is None):
            sheet.path = new_file(self.folder, self.stem, ".npz", sheet.save_codes)
        if monotonic() - self.saved_at > SECONDS_BETWEEN_SAVES:
            for sheet in sheets:
                sheet.save_codes()
            self.saved_at = monotonic()

    def _show(self, sheet: Sheet, rows: int) -> None:
        """Write the preview when it is due."""
        every = self.options.preview
        if every and rows % every == 0 and rows < len(sheet.codes):
            save_picture(self.codec.picture(sheet.codes), sheet.settings, sheet.preview_path)

    def _decode(self, sheet: Sheet) -> None:
        """Write the finished picture in place of its preview."""
        image = self.codec.picture(sheet.codes)
        sheet.preview_path.unlink(missing_ok=True)
        save_picture(image, sheet.settings, sheet.path.with_suffix(".png"))
        self.finished.append(sheet.path.with_suffix(".png"))


def picture_settings(options, settings: DrawSettings) -> dict:
    """What goes into a picture's metadata beside prompt and seed: enough to make it again."""
    device = options.device
    names = ("suffix", "negative_prompt", "guidance", "temperature", "top_k", "top_p")
    return {name: getattr(settings, name) for name in names} | {
        "model": shared.public_name(options.model),
        "vq_model": shared.public_name(options.vq_model),
        "dtype": device.dtype,
        "attn_implementation": device.attn_implementation,
        "mode": device.mode,
        "decoding": settings.label,
    }


def keep_codes(sheets: list[Sheet]) -> list[Path]:
    """Save the codes of a batch cut short; returns the files that hold finished rows."""
    kept = []
    for sheet in (sheet for sheet in sheets if sheet.path is not None):
        sheet.preview_path.unlink(missing_ok=True)
        if finished_rows(sheet.codes):
            sheet.save_codes()
            kept.append(sheet.path)
        else:
            sheet.path.unlink(missing_ok=True)
    return kept


build_parser, main = shell.command("emu3.cli.img_gen", "Make pictures from text.", Options, run)

if __name__ == "__main__":
    shell.leave(main())
