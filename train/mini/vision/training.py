"""The course of the vision tokenizer's training, from its options to its folder."""

import csv
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from emu3.configfile import config_of_sizes
from emu3.errors import InputError
from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQImageProcessor, Emu3VisionVQModel
from train.mini.runs import Run
from train.mini.start import start_from
from train.mini.vision.data import Drawn, Seen
from train.mini.vision.options import VisionOptions
from train.mini.vision.step import BothStep, DrawStep, NameStep
from train.mini.world.cells import kind_count, kind_vectors
from train.tuning.log import forget_from
from train.tuning.schedule import cosine_schedule

# What the model knows: its pictures are of 128 x 128 pixels or as large in other shapes.
MIN_PIXELS, MAX_PIXELS = 120 * 120, 136 * 136
CUT, WHOLE = 5, 8  # cells along a side
WARMUP = 60  # steps


def new_model(config_path: str) -> Emu3VisionVQModel:
    """A model from scratch, its codebook one vector for each thing a cell can show.

    Raises:
        InputError: the codebook has not just as many codes.
    """
    config = config_of_sizes(Emu3VisionVQConfig, config_path, "--config")
    if config.codebook_size != kind_count():
        raise InputError(
            f"{config_path}: codebook_size {config.codebook_size}; allowed: {kind_count()}, one "
            "for each thing a cell of a scene can show; change --config"
        )
    model = Emu3VisionVQModel(config).set_train(True)
    model.quantize.embedding.weight.set_data(Tensor(kind_vectors(config.embed_dim)))
    return model


class Course(nn.Cell):
    """All three steps and what they learn from; the cell whose state is saved."""

    def __init__(self, options: VisionOptions) -> None:
        super().__init__()
        self.options = options
        self.model = new_model(options.config)
        self.name = NameStep(self.model).set_train(True)
        self.draw = DrawStep(self.model).set_train(True)
        self.both = BothStep(self.name, self.draw).set_train(True)
        if options.model:
            begun = Emu3VisionVQModel.from_pretrained(options.model)
            start_from(options.model, begun, self.model, "--config")
        seed, self.whole = options.run.seed, (options.names + 1) // 2
        draws = (options.draws + 1) // 2
        self.data = {
            CUT: (
                Seen(seed, options.names, CUT),
                Drawn(seed, options.draws, CUT, options.frames),
            ),
            WHOLE: (Seen(seed, self.whole, WHOLE), Drawn(seed, draws, WHOLE, options.frames)),
        }
        self.last_apart = options.apart_steps
        self.last_both = self.last_apart + options.both_steps
        self.last_draw = self.last_both + options.draw_steps
        self.last = self.last_draw + options.name_steps

    def due(self, step: int) -> dict[str, tuple[nn.Cell, Callable[[int], tuple]]]:
        """The kinds of steps that are due, by name, each with what makes its batches."""
        if self.last_apart <= step < self.last_both:
            clean = Seen(self.options.run.seed + 1, self.whole, WHOLE, other_hand=0.0)
            return {"both": (self.both, clean.with_weights)}
        ends = (self.last_apart, self.last_draw, self.last)
        end = next(end for end in ends if step < end)
        seen, drawn = self.data[WHOLE if step >= end - self.options.whole_steps else CUT]
        kinds = {"naming": (self.name, seen), "drawing": (self.draw, drawn)}
        left_out = {self.last_draw: "naming", self.last: "drawing"}.get(end)
        return {name: kind for name, kind in kinds.items() if name != left_out}

    def batch(self, step: int) -> list[tuple[np.ndarray, ...]]:
        """What each kind of step that is due learns from."""
        return [make(step) for _, make in self.due(step).values()]

    def take(self, step: int, batch: list[tuple[np.ndarray, ...]], lr: float) -> dict[str, float]:
        """One step of each kind that is due; returns losses by name."""
        rate = Tensor(lr, ms.float32)
        return {
            name: float(kind(*map(Tensor, arrays), rate)[0])
            for (name, (kind, _)), arrays in zip(self.due(step).items(), batch)
        }

    def rate(self) -> Callable[[int], float]:
        """The learning rate by step: down for both parts, again for each that goes on alone."""
        peak, floor = self.options.lr, self.options.lr / 50
        ends = [end for end in (self.last_both, self.last_draw, self.last) if end]
        begins = [0, *ends]

        def rate(step: int) -> float:
            begin, end = next(pair for pair in zip(begins, ends) if step < pair[1])
            return cosine_schedule(peak, floor, WARMUP, end - begin)(step - begin)

        return rate


def train(options: VisionOptions) -> None:
    """Run or resume until the last step or minute; saves state and the model folder."""
    course = Course(options)
    run = Run(options.run, course.last, course)
    rate = course.rate()
    log = Path(options.run.output) / "log.csv"
    log.parent.mkdir(parents=True, exist_ok=True)
    forget_from(log, run.done)
    with log.open("a", newline="", buffering=1) as file:
        writer = csv.writer(file)
        for step, batch in run.steps_with(course.batch):
            losses = course.take(step, batch, rate(step))
            run.bar.set_postfix_str(" ".join(f"{k} {v:.3f}" for k, v in losses.items()))
            for name, loss in losses.items():
                writer.writerow([step, name, f"{loss:.5f}"])
    save_model(course.model, options.run.output, options.run.save_dtype)
    run.finish()


def save_model(model: Emu3VisionVQModel, output: str, dtype: str) -> None:
    """Write the folder that inference loads."""
    model.set_train(False).save_pretrained(output, dtype=dtype)
    images = Emu3VisionVQImageProcessor(
        min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS, spatial_factor=model.spatial_scale_factor
    )
    images.save_pretrained(output)
