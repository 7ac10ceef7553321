"""Whole clips with a checkpoint, from their prompt to pixels."""

from dataclasses import dataclass

from emu3.benchmarks import measure
from emu3.benchmarks.pictures import loaded, repeats, task_row
from emu3.benchmarks.table import show
from emu3.cli import options as shared
from emu3.facade import Emu3
from emu3.films import MOST_PIXEL_FRAMES
from emu3.options import group, option, whole


@dataclass(frozen=True)
class Options:
    """Of `t2v`."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    prompt: str | None = option("what happens (default: the checkpoint's example)")
    frames: int | None = option(
        "frames of a clip (default: the checkpoint's)", None, whole(1, MOST_PIXEL_FRAMES)
    )
    repeats: int = repeats("clips")
    weights: str | None = shared.weights()
    device: shared.Device = group()


def run(options: Options) -> None:
    """Measure one clip after the other."""
    models = loaded(options)
    emu3 = Emu3(models.model, models.prompts, models.codec, models.defaults)
    prompt = options.prompt or models.defaults.video_prompt
    made = []

    def film() -> float:
        seconds = measure.timed(lambda: made.append(emu3.film(prompt, frames=options.frames)))
        return seconds / len(made[-1].frames)

    print(measure.machine())
    (timing,) = measure.take_turns({"": film}, options.repeats).values()
    frames = made[-1].frames
    width, height = frames[0].size
    row = task_row("clip", timing, models.model, options.device, 1, f"{width}x{height}")
    row.unit = "frames/s"
    row.extra["frames"] = str(len(frames))
    row.extra["s/clip"] = f"{timing.median * len(frames):.4g}"
    show([row])
