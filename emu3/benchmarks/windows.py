"""Jacobi decoding by window: runs of the network and seconds a picture, beside plain decoding."""

import argparse

from emu3.benchmarks import measure
from emu3.benchmarks.table import Row, show
from emu3.cli import common, flags

WINDOWS = (2, 4, 8, 16, 32)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `jacobi`."""
    common.add_language_option(parser)
    common.add_vision_option(parser)
    flags.add_numbers(
        parser, ("--prompts", 20, "held-out prompts of the evaluation, one picture each")
    )
    parser.add_argument(
        "--window",
        type=flags.positive_int,
        action="append",
        metavar="L",
        help=f"may be given several times (default: {', '.join(map(str, WINDOWS))})",
    )
    parser.add_argument(
        "--coupling",
        default="maximal",
        metavar="NAME",
        help="none, maximal, gumbel or fixed (default: %(default)s)",
    )
    flags.add_numbers(
        parser, ("--repeats", 3, "times all pictures are made, after one that is not counted")
    )
    common.add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Make the same prompts' pictures one after the other in every way, in turns."""
    from emu3.mllm.generation.schemes import read_decoding

    ways = {"plain": {"decoding": "plain", "window": None, "coupling": None}}
    for window in options.window or WINDOWS:
        settings = {"decoding": "jacobi", "window": window, "coupling": options.coupling}
        label = read_decoding(argparse.Namespace(**settings, zipar_window=None)).label
        ways[label] = settings
    common.start_device(options)
    from emu3.cli.batches import Models
    from train.evaluation import make_prompts

    nothing = {"guidance": None, "zipar_window": None, "task": "generation"}
    models = Models(argparse.Namespace(**{**vars(options), **ways["plain"], **nothing}))
    prompts = make_prompts(options.prompts, 0)
    runs = {}

    def draw(name: str) -> float:
        models.options = argparse.Namespace(**vars(models.options) | ways[name])
        before = models.forwards
        seconds = measure.timed(lambda: [draw_one(models, p, i) for i, p in enumerate(prompts)])
        runs[name] = (models.forwards - before) / len(prompts)
        return seconds / len(prompts)

    print(measure.machine())
    timings = measure.take_turns({n: lambda n=n: draw(n) for n in ways}, options.repeats)
    show(rows(timings, runs, models))
    print(f"fastest on this machine: {min(timings, key=lambda name: timings[name].median)}")


def draw_one(models, prompt, seed: int) -> None:
    """One picture of a prompt of the evaluation."""
    import numpy as np

    models.draw([prompt.text], np.array([[prompt.scene.rows, prompt.scene.cols]]), [seed])


def rows(timings: dict, runs: dict[str, float], models) -> list[Row]:
    """A line a way."""
    lines = []
    for name, timing in timings.items():
        row = Row(name, timing, precision=str(models.model.dtype).lower(), rate=1, unit="img/s")
        row.extra["runs a picture"] = f"{runs[name]:.1f}"
        row.extra["of plain's runs"] = f"{runs[name] / runs['plain']:.0%}"
        row.extra["times as fast as plain"] = f"{timing.ratio(timings['plain']):.2f}"
        lines.append(row)
    return lines
