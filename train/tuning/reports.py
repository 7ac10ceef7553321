"""Where a run's figures go beside its CSV files: TensorBoard, SwanLab.

csv          log.csv and evaluation.csv, always
tensorboard  OUTPUT/tensorboard
swanlab      OUTPUT/swanlab; SWANLAB_MODE=online, which is SwanLab's own, sends them as well
"""

import argparse
import math
import os
import signal
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from emu3.errors import InputError, shown

PACKAGES = {"tensorboard": "tensorboardX", "swanlab": "swanlab"}  # also our extras' names
NAMES = ("csv", *PACKAGES)
OWN_MODE = "SWANLAB_MODE"


class Report(Protocol):
    """A place that figures of steps go to."""

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Record finite figures of a step, by name."""

    def close(self) -> None:
        """Have everything on disk."""


def report_names(text: str) -> str:
    """Names of reports with commas between them, for argparse."""
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{shown(unknown[0])} is no report; allowed: {', '.join(NAMES)}, with commas between"
        )
    return ",".join(dict.fromkeys(names))


def require_reports(names: str) -> None:
    """Refuse reports whose packages are not installed.

    Raises:
        InputError: names them and how to install them.
    """
    asked = names.split(",")
    missing = [n for n, package in PACKAGES.items() if n in asked and find_spec(package) is None]
    if missing:
        packages = " ".join(PACKAGES[name] for name in missing)
        raise InputError(
            f"--report_to {','.join(missing)} needs {packages}; install it with: pip install "
            f"{packages}; or leave it out of --report_to"
        )


def open_reports(
    names: str, output: Path, first: int, settings: Mapping[str, Any]
) -> Sequence[Report]:
    """The reports of a run that goes on after step `first` with those options."""
    kinds = {"tensorboard": TensorBoard, "swanlab": SwanLab}
    return [kinds[name](output, first, settings) for name in names.split(",") if name in kinds]


class TensorBoard:
    """Event files in OUTPUT/tensorboard; figures of steps that are done again go."""

    def __init__(self, output: Path, first: int, settings: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(output / "tensorboard"), purge_step=first + 1)
        lines = "\n".join(f"    {name}: {value}" for name, value in settings.items())
        self.writer.add_text("settings", lines, first + 1)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class SwanLab:
    """A run in OUTPUT/swanlab, which stays on this machine unless SWANLAB_MODE says otherwise."""

    def __init__(self, output: Path, first: int, settings: Mapping[str, Any]) -> None:
        import swanlab

        folder = output / "swanlab"
        folder.mkdir(parents=True, exist_ok=True)
        # SwanLab answers Ctrl-C by itself; the trainer saves first.
        caught = (signal.SIGINT, signal.SIGTERM)
        before = [signal.getsignal(number) for number in caught]
        self.run = swanlab.init(
            project="emu3",
            name=output.absolute().name,
            description=f"from step {first + 1}",
            log_dir=str(folder),
            mode=None if os.environ.get(OWN_MODE) else "offline",
            config=dict(settings),
        )
        for number, handler in zip(caught, before):
            signal.signal(number, handler)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        self.run.log(dict(figures), step=step)

    def close(self) -> None:
        self.run.finish()


def finite(figures: Mapping[str, float]) -> dict[str, float]:
    """Those figures that are numbers: a step without labels has no loss."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}
