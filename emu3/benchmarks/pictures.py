"""Whole tasks with a checkpoint: pictures by batch size, answers, and the time to a first token."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from emu3 import bundled
from emu3.benchmarks import measure
from emu3.benchmarks.peer import ROOT
from emu3.benchmarks.table import Row, show
from emu3.cli import options as shared
from emu3.errors import InputError
from emu3.images import open_image
from emu3.loading import Emu3, load_models
from emu3.options import group, option, path_text, whole, words
from emu3.pipeline import Answers, AskSettings, DrawSettings, Picture, PictureSize, TextToImage

if TYPE_CHECKING:
    from emu3.mllm import Emu3ForCausalLM

BATCHES = (1, 2, 4)
TOGETHER = "together; may be given several times (default: 1, 2, 4)"
QUESTION = "Please describe the image"


def repeats(what: str) -> Any:
    """--repeats."""
    return option(f"{what} timed, after one that is not", 3, whole(1, measure.MOST_REPEATS))


@dataclass(frozen=True)
class PictureOptions:
    """Of `t2i`."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    prompt: str | None = option("what to draw (default: the checkpoint's example)")
    size: PictureSize = group(leave_out=("height", "width"))
    settings: DrawSettings = group(
        leave_out=("suffix", "negative_prompt", "temperature", "top_k", "top_p")
    )
    batch_size: list[int] | None = option(
        f"pictures {TOGETHER}", None, whole(1, measure.MOST_TOGETHER)
    )
    repeats: int = repeats("batches of each size")
    weights: str | None = shared.weights()
    device: shared.Device = group()


@dataclass(frozen=True)
class AnswerOptions:
    """Of `vqa`."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    image: str = option(
        "image to ask about (default: a bundled one)",
        str(bundled.DEMO_IMAGE),
        path_text,
        metavar="FILE",
    )
    question: str = option("what to ask", QUESTION, words)
    new_tokens: int = option(
        "tokens of each answer, its end ignored", 64, whole(1, measure.MOST_TOKENS)
    )
    batch_size: list[int] | None = option(
        f"questions {TOGETHER}", None, whole(1, measure.MOST_TOGETHER)
    )
    repeats: int = repeats("batches of each size")
    weights: str | None = shared.weights()
    device: shared.Device = group()


@dataclass(frozen=True)
class StartupOptions:
    """Of `startup`."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    repeats: int = repeats("fresh processes")
    weights: str | None = shared.weights()
    device: shared.Device = group()


def loaded(options: PictureOptions | AnswerOptions | StartupOptions) -> Emu3:
    """The models of the options, on their device."""
    device = options.device
    device.start()
    return load_models(
        options.model, options.vq_model, device.dtype, device.attn_implementation, options.weights
    )


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
        row.extra["decoding"] = settings.label
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
    stated = json.dumps(asdict(options))
    command = [sys.executable, "-m", "emu3.benchmarks.first_token", stated]

    def start() -> float:
        return measure.timed(lambda: _until_first_token(command))

    print(measure.machine())
    (timing,) = measure.take_turns({"": start}, options.repeats).values()
    show([Row("start-up to first token", timing, mode=options.device.mode)])


def _until_first_token(command: list[str]) -> None:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"a fresh process failed: {reason}; change --model or --vq-model")
