"""Whole tasks with a checkpoint: pictures by batch size, answers, and the time to a first token."""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from emu3 import bundled
from emu3.benchmarks import measure
from emu3.benchmarks.peer import ROOT
from emu3.benchmarks.table import Row, show
from emu3.cli import options as shared
from emu3.errors import InputError
from emu3.images import open_image
from emu3.loading import Emu3, load_models
from emu3.pipeline import Answers, AskSettings, DrawSettings, Picture, PictureSize, TextToImage

if TYPE_CHECKING:
    from emu3.mllm import Emu3ForCausalLM

BATCHES = (1, 2, 4)
QUESTION = "Please describe the image"


@dataclass(frozen=True)
class PictureOptions:
    """Of `t2i`."""

    model: str
    vq_model: str
    prompt: str | None
    ratio: str
    image_area: int | None
    settings: DrawSettings
    batch_size: list[int] | None
    repeats: int
    device: shared.Device

    def __post_init__(self) -> None:
        self.size  # noqa: B018 - a ratio that is none is refused at once

    @cached_property
    def size(self) -> PictureSize:
        """The size of each picture."""
        return PictureSize([self.ratio], self.image_area)


@dataclass(frozen=True)
class AnswerOptions:
    """Of `vqa`."""

    model: str
    vq_model: str
    image: str
    question: str
    new_tokens: int
    batch_size: list[int] | None
    repeats: int
    device: shared.Device


@dataclass(frozen=True)
class StartupOptions:
    """Of `startup`."""

    model: str
    vq_model: str
    repeats: int
    device: shared.Device


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """The options of `PictureOptions`."""
    shared.add_language_option(parser)
    shared.add_vision_option(parser)
    parser.add_argument("--prompt", metavar="TEXT", help="(default: the checkpoint's example)")
    parser.add_argument("--ratio", default="1:1", metavar="W:H", help="(default: %(default)s)")
    parser.add_argument(
        "--image-area",
        type=shared.positive_int,
        metavar="PIXELS",
        help="size of the picture (default: the checkpoint's)",
    )
    shared.add_guidance_option(parser)
    shared.add_decoding_options(parser)
    checkpoints = ("suffix", "negative_prompt", "temperature", "top_k", "top_p")
    parser.set_defaults(**dict.fromkeys(checkpoints))
    _add_batches(parser, "pictures")
    shared.add_device_options(parser)


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    """The options of `AnswerOptions`."""
    shared.add_language_option(parser)
    shared.add_vision_option(parser)
    parser.add_argument(
        "--image",
        default=str(bundled.DEMO_IMAGE),
        metavar="FILE",
        help="image to ask about (default: a bundled one)",
    )
    parser.add_argument(
        "--question", default=QUESTION, metavar="TEXT", help="(default: %(default)s)"
    )
    shared.add_numbers(parser, ("--new-tokens", 64, "tokens of each answer, its end ignored"))
    _add_batches(parser, "questions")
    shared.add_device_options(parser)


def add_startup_options(parser: argparse.ArgumentParser) -> None:
    """The options of `StartupOptions`."""
    shared.add_language_option(parser)
    shared.add_vision_option(parser)
    shared.add_numbers(parser, ("--repeats", 3, "fresh processes timed, after one that is not"))
    shared.add_device_options(parser)


def _add_batches(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--batch-size",
        type=shared.positive_int,
        action="append",
        metavar="N",
        help=f"{what} together; may be given several times (default: 1, 2, 4)",
    )
    shared.add_numbers(
        parser, ("--repeats", 3, "batches timed of each size, after one that is not")
    )


def loaded(options: PictureOptions | AnswerOptions | StartupOptions) -> Emu3:
    """The models of the options, on their device."""
    device = options.device
    device.start()
    return load_models(options.model, options.vq_model, device.dtype, device.attn_implementation)


def run_pictures(options: PictureOptions) -> None:
    """Measure pictures from prompt to pixels."""
    models = loaded(options)
    from emu3.mllm.vocabulary import Vocabulary

    drawing = TextToImage(models.model, models.prompts)
    settings = options.settings.filled(models.defaults)
    prompt = options.prompt or models.defaults.example_prompt
    factor = models.codec.config.spatial_scale_factor
    ((h, w),) = options.size.grids(1, models.defaults.image_area, factor)
    tokens = Vocabulary.grid_length(h, w)

    def draw(batch: int) -> None:
        pictures = [Picture(prompt, (h, w), seed) for seed in range(batch)]
        codes, _ = drawing.codes(drawing.request(pictures, settings, options.device.jit))
        for made in codes:
            models.codec.pictures(made[None])

    print(measure.machine())
    rows = []
    for batch in options.batch_size or BATCHES:
        runs = {"": lambda batch=batch: measure.timed(lambda: draw(batch)) / tokens}
        (timing,) = measure.take_turns(runs, options.repeats).values()
        size = f"{w * factor}x{h * factor}"
        row = task_row("picture", timing, models.model, options.device, batch, size)
        row.extra["decoding"] = settings.scheme.label
        row.extra["img/s"] = f"{batch / (timing.median * tokens):.4g}"
        row.extra["s/img"] = f"{timing.median * tokens / batch:.4g}"
        rows.append(row)
    show(rows)


def run_answers(options: AnswerOptions) -> None:
    """Measure answers of a fixed length, prefill apart."""
    image = open_image(options.image)
    models = loaded(options)
    answers = Answers(models.model, models.prompts)
    settings = AskSettings(max_new_tokens=options.new_tokens).filled(models.defaults)
    (codes,) = models.codec.encode(models.codec.pixels(image)[None])
    print(measure.machine())
    rows = []
    for batch in options.batch_size or BATCHES:
        request = answers.request(
            [options.question] * batch,
            [codes] * batch,
            settings,
            jit=options.device.jit,
            eos_token_id=None,
        )
        prefills = []

        def answer(request=request, prefills=prefills) -> float:
            first, *_, done = answers.run(request)
            prefills.append(first.seconds)
            return (done.seconds - first.seconds) / options.new_tokens

        (timing,) = measure.take_turns({"": answer}, options.repeats).values()
        prompt = f"{request.ids.shape[1]} tokens of prompt"
        row = task_row("answer", timing, models.model, options.device, batch, prompt)
        row.extra["prefill s"] = f"{measure.Timing(prefills[1:]).median:.4g}"
        rows.append(row)
    show(rows)


def task_row(
    what: str,
    timing: measure.Timing,
    model: "Emu3ForCausalLM",
    device: shared.Device,
    batch: int,
    resolution: str,
) -> Row:
    """A line in the columns of published tables."""
    return Row(
        what,
        timing,
        mode={"auto": "graph step"}.get(device.mode, device.mode),
        precision=str(model.dtype).lower(),
        batch=batch,
        resolution=resolution,
        attention=model.model.layers[0].self_attn.attention,
        rate=batch,
    )


def run_startup(options: StartupOptions) -> None:
    """Measure fresh processes: interpreter, imports, loading, compiling, prefill, first token."""
    options.device.start()
    program = FIRST_TOKEN.format(root=str(ROOT))
    command = [sys.executable, "-c", program, json.dumps(asdict(options))]

    def start() -> float:
        return measure.timed(lambda: _until_first_token(command))

    print(measure.machine())
    (timing,) = measure.take_turns({"": start}, options.repeats).values()
    show([Row("start-up to first token", timing, mode=options.device.mode)])


def _until_first_token(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"a fresh process failed: {reason}; change --model or --vq-model")


FIRST_TOKEN = """
import sys
sys.path.insert(0, {root!r})
from emu3.benchmarks.pictures import first_token
first_token(sys.argv[1])
"""


def first_token(text: str) -> None:
    """Load both models and leave the process when the first token of a picture is there.

    `text` is JSON of `StartupOptions`.
    """
    import os

    stated = json.loads(text)
    options = StartupOptions(**stated | {"device": shared.Device(**stated["device"])})
    models = loaded(options)
    defaults, factor = models.defaults, models.codec.config.spatial_scale_factor
    drawing = TextToImage(models.model, models.prompts)
    (size,) = PictureSize().grids(1, defaults.image_area, factor)
    picture = Picture(defaults.example_prompt, size)

    class Leave:
        """A streamer that ends the process at the first new token."""

        def put(self, column) -> None:
            os._exit(0)

    request = drawing.request([picture], DrawSettings().filled(defaults), options.device.jit)
    for _ in models.model.run(request, Leave()):
        pass
