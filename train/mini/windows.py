"""Jacobi decoding by window, beside plain decoding: `python -m train.mini.windows`.

The evaluation's held-out prompts are drawn one after the other in every way, in turns; what is
printed are runs of the network and seconds a picture.
"""

from dataclasses import dataclass
from functools import cached_property

from emu3.benchmarks import measure
from emu3.benchmarks.table import Row, show
from emu3.cli import options as shared
from emu3.cli.shell import command, leave
from emu3.loading import Emu3, load_models
from emu3.mllm.vocabulary import MAX_GRID_SIDE
from emu3.options import group, option, whole
from emu3.pipeline import DrawSettings, Picture, TextToImage

WINDOWS = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Options:
    """Of this command."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    prompts: int = option(
        "held-out prompts of the evaluation, one picture each", 20, whole(1, 10**5)
    )
    window: list[int] | None = option(
        f"may be given several times (default: {', '.join(map(str, WINDOWS))})",
        None,
        whole(1, MAX_GRID_SIDE**2),
    )
    coupling: str = option("none, maximal, gumbel or fixed", "maximal")
    repeats: int = option(
        "times all pictures are made, after one that is not counted", 3, whole(1, 1000)
    )
    device: shared.Device = group()

    def __post_init__(self) -> None:
        self.ways  # noqa: B018 - a window or a coupling that there is not is refused at once

    @cached_property
    def ways(self) -> dict[str, DrawSettings]:
        """Settings of every way by its label; plain is the first.

        Raises:
            InputError: a window or a coupling that there is not.
        """
        ways = [DrawSettings(decoding="plain")]
        for window in self.window or WINDOWS:
            ways.append(DrawSettings(decoding="jacobi", window=window, coupling=self.coupling))
        return {settings.scheme.label: settings for settings in ways}


def run(options: Options) -> None:
    """Make the same prompts' pictures one after the other in every way, in turns."""
    device = options.device
    device.start()
    from train.mini.evaluate.asked import Asked
    from train.mini.evaluate.measures import prompts
    from train.mini.world.scenes import RATIOS

    models = load_models(options.model, options.vq_model, device.dtype, device.attn_implementation)
    asked = [
        Picture(text, RATIOS[ratio], seed)
        for seed, (text, _, ratio, _) in enumerate(prompts(Asked(options.prompts, 0, 1)))
    ]
    runs = {}

    def draw(name: str) -> float:
        settings, made = options.ways[name].filled(models.defaults), []
        seconds = measure.timed(
            lambda: made.extend(
                draw_one(models, picture, settings, device.jit) for picture in asked
            )
        )
        runs[name] = sum(made) / len(asked)
        return seconds / len(asked)

    print(measure.machine())
    timings = measure.take_turns({n: lambda n=n: draw(n) for n in options.ways}, options.repeats)
    show(rows(timings, runs, str(models.model.dtype).lower()))
    print(f"fastest on this machine: {min(timings, key=lambda name: timings[name].median)}")


def draw_one(models: Emu3, picture: Picture, settings: DrawSettings, jit: bool | None) -> int:
    """Makes one picture; returns its runs of the network."""
    drawing = TextToImage(models.model, models.prompts)
    (codes,), done = drawing.codes(drawing.request([picture], settings, jit))
    models.codec.pictures(codes[None])
    return sum(done.forwards)


def rows(timings: dict[str, measure.Timing], runs: dict[str, float], precision: str) -> list[Row]:
    """A line a way."""
    lines = []
    for name, timing in timings.items():
        row = Row(name, timing, precision=precision, rate=1, unit="img/s")
        row.extra["runs a picture"] = f"{runs[name]:.1f}"
        row.extra["of plain's runs"] = f"{runs[name] / runs['plain']:.0%}"
        row.extra["times as fast as plain"] = f"{timing.ratio(timings['plain']):.2f}"
        lines.append(row)
    return lines


build_parser, main = command(
    "train.mini.windows", "Measure Jacobi decoding by window.", Options, run
)

if __name__ == "__main__":
    leave(main())
