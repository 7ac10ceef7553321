"""Pictures for the prompts of a suite: drawn in batches, gone on with, laid out as it says."""

import hashlib
import json
from argparse import ArgumentTypeError
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emu3 import bundled
from emu3.cli import options as shared
from emu3.cli.img_gen import picture_settings
from emu3.cli.outputs import Progress, Stopwatch, save_picture
from emu3.cli.room import chosen_weights, width_of
from emu3.cli.shell import Interrupted
from emu3.errors import InputError
from emu3.evaluation.suites import SUITES, Prompt
from emu3.files import note_settings, own_folder
from emu3.mllm.generation.events import CandidateRow, ChoicePart, PrefillPart, RowDone
from emu3.options import group, option, path_text, whole
from emu3.pipeline import DrawSettings, Picture, PictureSize, TextToImage, in_lists

if TYPE_CHECKING:
    from emu3.evaluation.suites import Suite

MOST = 10**6  # prompts
BUNDLED = {"geneval": "geneval.jsonl", "dpg": "dpg_bench", "mjhq": "mjhq.json"}


def part_of(text: str) -> str:
    """K/N with 1 <= K <= N, for argparse."""
    first, slash, count = text.partition("/")
    if not slash or not (first.isdecimal() and count.isdecimal() and len(text) < 16):
        raise ArgumentTypeError(f"{text[:40]!r}; allowed: K/N, such as 1/8")
    if not 1 <= int(first) <= int(count):
        raise ArgumentTypeError(f"{text!r}; allowed: K/N with K from 1 to N")
    return text


@dataclass(frozen=True)
class Options:
    """Of every suite."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    prompts: str | None = option(
        "the suite's list of prompts (default: a few bundled ones)", None, path_text, metavar="PATH"
    )
    output: str | None = option(
        "folder to write or go on with (default: outputs/evaluation/ and the suite)",
        None,
        path_text,
        metavar="FOLDER",
    )
    samples: int = option(
        "pictures of each prompt, 0 for as many as the suite asks for", 0, whole(0, 64)
    )
    limit: int = option("only the first so many prompts, 0 for all", 0, whole(0, MOST))
    part: str = option(
        "K/N draws every N-th prompt from the K-th on: N commands share the work",
        "1/1",
        part_of,
        metavar="K/N",
    )
    settings: DrawSettings = group()
    size: PictureSize = group()
    seed: int = shared.seed()
    batch_size: int = option("pictures made together", 4, whole(1, 10_000))
    weights: str | None = shared.weights()
    device: shared.Device = group()

    def __post_init__(self) -> None:
        if self.size.ratio and len(self.size.ratio) > 1:
            raise InputError(
                f"{len(self.size.ratio)} ratios; allowed: one for all pictures; change --ratio"
            )


@dataclass(frozen=True)
class Work:
    """A picture that is missing: whose, which one of its prompt's, and what to draw."""

    prompt: Prompt
    number: int
    picture: Picture


def run(name: str, options: Options) -> None:
    """Draw what is missing of the pictures of the suite of that name."""
    suite = SUITES[name]
    prompts = suite.read(Path(options.prompts or bundled.EVALUATION / BUNDLED[name]))
    output = own_folder(options.output or f"outputs/evaluation/{name}")
    options.device.start()
    from emu3.mllm.defaults import CheckpointDefaults

    checkpoint = CheckpointDefaults.from_pretrained(options.model)
    settings = options.settings.filled(checkpoint)
    shared.notice_if_lossy(settings.scheme)
    studio = Studio(options, suite, output / "images", options.samples or suite.samples)
    studio.plan(prompts, settings, checkpoint)
    note_settings(output, studio.about | {"prompts": _content(prompts), "samples": studio.samples})
    watch, mine = Stopwatch(), _part(prompts, options)
    todo = [prompt for prompt in mine if not suite.is_whole(studio.folder, prompt, studio.samples)]
    if todo:
        studio.draw(list(studio.missing(prompts, todo)), settings)
    for prompt in todo:
        suite.finish(studio.folder, prompt, studio.samples)
    print(watch.closing_line(f"{studio.folder}: {len(mine)} prompt(s), {len(todo)} of them new"))


def _part(prompts: list[Prompt], options: Options) -> list[Prompt]:
    """The prompts that this command is to draw."""
    first, count = map(int, options.part.split("/"))
    return prompts[: options.limit or None][first - 1 :: count]


def _content(prompts: list[Prompt]) -> str:
    """A hash of a list of prompts."""
    return hashlib.sha256(json.dumps([(p.name, p.text) for p in prompts]).encode()).hexdigest()


class Studio:
    """Where the pictures of a suite are drawn, into `folder`."""

    def __init__(self, options: Options, suite: "Suite", folder: Path, samples: int) -> None:
        self.options, self.suite, self.folder, self.samples = options, suite, folder, samples

    def plan(self, prompts: list[Prompt], settings: DrawSettings, checkpoint) -> None:
        """Find the size of all pictures and the form of the weights, before anything is loaded.

        Raises:
            InputError: sizes no picture can have, or more memory than there is.
        """
        from emu3 import estimate
        from emu3.loading import read_configs

        options = self.options
        config, vision = read_configs(options.model, options.vq_model)
        factor = vision.spatial_scale_factor
        (self.size,) = options.size.grids(1, checkpoint.image_area, factor)
        work = estimate.Work(
            sequences=min(options.batch_size, len(prompts) * self.samples),
            best_of=settings.best_of,
            guided=settings.guidance != 1,
            grid=self.size,
            scheme=settings.scheme,
            width=width_of(options.device.dtype),
        )
        self.weights = chosen_weights(config, vision, work, options.weights)
        self.about = picture_settings(options, settings)
        self.about |= {"weights": self.weights, "size": self.size, "seed": options.seed}

    def missing(self, prompts: list[Prompt], todo: list[Prompt]) -> Iterator[Work]:
        """The pictures of `todo` that are not there; each has the seed of its place in the list."""
        places = {prompt.name: place for place, prompt in enumerate(prompts)}
        for prompt in todo:
            first = self.options.seed + places[prompt.name] * self.samples
            for number in range(self.samples):
                if not self.suite.sample(self.folder, prompt, number).exists():
                    yield Work(prompt, number, Picture(prompt.text, self.size, first + number))

    def draw(self, missing: list[Work], settings: DrawSettings) -> None:
        """Draw the missing pictures, a batch at a time.

        Raises:
            Interrupted: after Ctrl-C; the pictures of whole batches are kept.
        """
        from emu3.loading import load_models

        options, device = self.options, self.options.device
        if not missing:
            return
        models = load_models(
            options.model, options.vq_model, device.dtype, device.attn_implementation, self.weights
        )
        drawing = TextToImage(models.model, models.prompts)
        batches = list(in_lists(missing, options.batch_size))
        request = partial(drawing.request, settings=settings, jit=device.jit)
        for batch in batches:  # a prompt that is too long is refused before any is drawn
            request([work.picture for work in batch])
        try:
            with Progress(len(missing) * self.size[0]) as progress:
                for batch in batches:
                    made = drawn(drawing, request([w.picture for w in batch]), progress)
                    for work, codes in zip(batch, made):
                        self._save(work, models.codec.picture(codes))
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; the pictures in {self.folder.parent} are kept, the same command "
                "goes on"
            ) from None

    def _save(self, work: Work, image) -> None:
        path = self.suite.sample(self.folder, work.prompt, work.number)
        asked = {"prompt": work.picture.prompt, "seed": work.picture.seed}
        save_picture(image, self.about | asked, path)


def drawn(drawing: TextToImage, request, progress: Progress) -> list:
    """The codes (h, w) of each picture of a request, counted as they come."""
    made = [[] for _ in request.picture_sizes]
    for event in drawing.run(request):
        if isinstance(event, CandidateRow | RowDone):
            progress.row(event)
        if isinstance(event, RowDone):
            made[event.sequence].append(event.codes)
        elif isinstance(event, PrefillPart | ChoicePart):
            progress.show(event)
    return [np.stack(rows) for rows in made]
