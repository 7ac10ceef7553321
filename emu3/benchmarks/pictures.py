"""Whole tasks with a checkpoint: pictures by batch size, answers, and the time to a first token."""

import argparse
import json
import subprocess
import sys

from emu3.benchmarks import measure
from emu3.benchmarks.peer import ROOT
from emu3.benchmarks.table import Row, show
from emu3.cli import common, decoding, flags
from emu3.errors import InputError

QUESTION = "Please describe the image"


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Options of `t2i`."""
    common.add_language_option(parser)
    common.add_vision_option(parser)
    parser.add_argument("--prompt", metavar="TEXT", help="(default: the checkpoint's example)")
    parser.add_argument("--ratio", default="1:1", metavar="W:H", help="(default: %(default)s)")
    parser.add_argument(
        "--image-area",
        type=flags.positive_int,
        metavar="PIXELS",
        help="size of the picture (default: the checkpoint's)",
    )
    parser.add_argument(
        "--guidance",
        type=flags.non_negative_float,
        metavar="G",
        help="1 is without guidance (default: the checkpoint's)",
    )
    decoding.add_options(parser)
    _add_batches(parser, "pictures")
    common.add_device_options(parser)


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    """Options of `vqa`."""
    common.add_language_option(parser)
    common.add_vision_option(parser)
    parser.add_argument(
        "--image",
        default=str(common.ASSETS / "demo.png"),
        metavar="FILE",
        help="image to ask about (default: a bundled one)",
    )
    parser.add_argument(
        "--question", default=QUESTION, metavar="TEXT", help="(default: %(default)s)"
    )
    flags.add_numbers(parser, ("--new-tokens", 64, "tokens of each answer, its end ignored"))
    _add_batches(parser, "questions")
    common.add_device_options(parser)


def add_startup_options(parser: argparse.ArgumentParser) -> None:
    """Options of `startup`."""
    common.add_language_option(parser)
    common.add_vision_option(parser)
    flags.add_numbers(parser, ("--repeats", 3, "fresh processes timed, after one that is not"))
    common.add_device_options(parser)


def _add_batches(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--batch-size",
        type=flags.positive_int,
        action="append",
        metavar="N",
        help=f"{what} together; may be given several times (default: 1, 2, 4)",
    )
    flags.add_numbers(parser, ("--repeats", 3, "batches timed of each size, after one that is not"))


def run_pictures(options: argparse.Namespace) -> None:
    """Measure pictures from prompt to pixels."""
    common.start_device(options)
    import numpy as np

    from emu3.cli.batches import Models
    from emu3.mllm.defaults import CheckpointDefaults
    from emu3.mllm.prompts import latent_size
    from emu3.mllm.vocabulary import Vocabulary

    models = Models(argparse.Namespace(**vars(options), task="generation"))
    defaults = CheckpointDefaults.from_pretrained(options.model)
    prompt = options.prompt or defaults.example_prompt
    factor = models.vision.spatial_scale_factor
    h, w = latent_size(options.ratio, options.image_area or defaults.image_area, factor)
    tokens = Vocabulary.grid_length(h, w)
    print(measure.machine())
    rows = []
    for batch in options.batch_size or [1, 2, 4]:

        def draw(batch: int = batch) -> float:
            sizes, seeds = np.tile((h, w), (batch, 1)), list(range(batch))
            return measure.timed(lambda: models.draw([prompt] * batch, sizes, seeds)) / tokens

        (timing,) = measure.take_turns({"": draw}, options.repeats).values()
        row = task_row(
            "picture", timing, models.model, options, batch, f"{w * factor}x{h * factor}"
        )
        row.extra["decoding"] = models.decoding.label
        row.extra["img/s"] = f"{batch / (timing.median * tokens):.4g}"
        row.extra["s/img"] = f"{timing.median * tokens / batch:.4g}"
        rows.append(row)
    show(rows)


def run_answers(options: argparse.Namespace) -> None:
    """Measure answers of a fixed length, prefill apart."""
    common.start_device(options)
    from emu3.mllm import Emu3Processor
    from emu3.mllm.defaults import CheckpointDefaults

    template = CheckpointDefaults.from_pretrained(options.model).chat_template
    image = common.open_image(options.image)
    model, tokenizer = common.load_language(options)
    vision, image_processor = common.load_vision(options)
    common.check_same_codes(model, vision)
    processor = Emu3Processor(image_processor, vision, tokenizer, template)
    print(measure.machine())
    rows = []
    for batch in options.batch_size or [1, 2, 4]:
        inputs = processor(
            text=[options.question] * batch, image=[image] * batch, mode="U", return_tensors="ms"
        )
        prefills = []

        def answer(inputs=inputs, prefills=prefills) -> float:
            first, *_, done = model.stream(
                inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=options.new_tokens,
                do_sample=False,
                eos_token_id=None,
                jit=common.compile_step(options),
            )
            prefills.append(first.seconds)
            return (done.seconds - first.seconds) / options.new_tokens

        (timing,) = measure.take_turns({"": answer}, options.repeats).values()
        prompt = inputs["input_ids"].shape[1]
        row = task_row("answer", timing, model, options, batch, f"{prompt} tokens of prompt")
        row.extra["prefill s"] = f"{measure.Timing(prefills[1:]).median:.4g}"
        rows.append(row)
    show(rows)


def task_row(what: str, timing, model, options, batch: int, resolution: str) -> Row:
    """A line in the columns of published tables."""
    return Row(
        what,
        timing,
        mode={"auto": "graph step"}.get(options.mode, options.mode),
        precision=str(model.dtype).lower(),
        batch=batch,
        resolution=resolution,
        attention=model.model.layers[0].self_attn.attention,
        rate=batch,
    )


def run_startup(options: argparse.Namespace) -> None:
    """Measure fresh processes: interpreter, imports, loading, compiling, prefill, first token."""
    common.start_device(options)
    names = ("model", "vq_model", "device", "device_id", "mode", "dtype", "threads")
    settings = {name: getattr(options, name) for name in (*names, "attn_implementation")}
    command = [sys.executable, "-c", FIRST_TOKEN.format(root=str(ROOT)), json.dumps(settings)]

    def start() -> float:
        return measure.timed(lambda: _until_first_token(command))

    print(measure.machine())
    (timing,) = measure.take_turns({"": start}, options.repeats).values()
    show([Row("start-up to first token", timing, mode=options.mode)])


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


def first_token(settings: str) -> None:
    """Load both models and leave the process when the first token of a picture is there."""
    import os

    options = argparse.Namespace(**json.loads(settings))
    common.start_device(options)
    from emu3.mllm import Emu3Processor
    from emu3.mllm.defaults import CheckpointDefaults

    defaults = CheckpointDefaults.from_pretrained(options.model)
    model, tokenizer = common.load_language(options)
    vision, image_processor = common.load_vision(options)
    processor = Emu3Processor(image_processor, vision, tokenizer)
    ask = {"mode": "G", "image_area": defaults.image_area, "return_tensors": "ms"}
    inputs = processor(text=defaults.example_prompt, **ask)
    unwanted = processor(text=defaults.negative_prompt, **ask)

    class Leave:
        """A streamer that ends the process at the first new token."""

        def __init__(self) -> None:
            self.calls = 0

        def put(self, column) -> None:
            self.calls += 1  # the prompt comes first
            if self.calls == 2:
                os._exit(0)

    model.generate(
        inputs["input_ids"],
        image_size=inputs["image_size"],
        negative_prompt_ids=unwanted["input_ids"],
        guidance_scale=defaults.guidance_scale,
        streamer=Leave(),
        seed=0,
        jit=common.compile_step(options),
    )
