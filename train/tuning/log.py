"""What a fine-tuning run says: lines on the screen, CSV files and their curves, reports."""

import csv
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from emu3 import runtime
from emu3.errors import InputError
from emu3.files import atomic_path
from train.tuning.curves import curves, read_columns
from train.tuning.reports import Report, finite

COLUMNS = ("step", "loss", "grad_norm", "learning_rate", "tokens_per_second", "peak_mb")
EVALUATED = ("step", "loss", "accuracy")


class Figures(NamedTuple):
    """What an optimizer step gave, over all processes; the loss is nan without any label."""

    loss: float
    grad_norm: float
    tokens: int


class Log:
    """One line a step on the screen, one row in log.csv, and what else is reported to.

    Evaluations stand in evaluation.csv: step, mean loss of the held-back labels, and the share of
    them that was the likeliest id. curves.png shows both files.
    """

    def __init__(
        self, output: Path, first: int, steps: int, reports: Sequence[Report] = ()
    ) -> None:
        self.steps, self.first, self.reports = steps, first, reports
        self.last = time.monotonic()
        self.begun: float | None = None  # once the first step, which compiles, is over
        self.steps_path, self.evaluations = output / "log.csv", output / "evaluation.csv"
        self.curves = output / "curves.png"
        for path, columns in ((self.steps_path, COLUMNS), (self.evaluations, EVALUATED)):
            forget_from(path, first + 1, columns)

    def add(self, step: int, figures: Figures, rate: float, show: bool) -> None:
        """Record one step."""
        now = time.monotonic()
        speed = figures.tokens / (now - self.last)
        self.last = now
        memory = runtime.peak_memory_bytes() / 2**20
        row = (step, f"{figures.loss:.6f}", f"{figures.grad_norm:.5f}", f"{rate:.4e}")
        _append(self.steps_path, [*row, f"{speed:.0f}", f"{memory:.0f}"])
        values = (figures.loss, figures.grad_norm, rate, speed, memory)
        self._report(step, dict(zip(COLUMNS[1:], values)))
        if show:
            self.say(
                f"step {step}/{self.steps} loss {row[1]} norm {row[2]} lr {row[3]} "
                f"{speed:.0f} tokens/s {memory:.0f} MB{self._left(step, now)}"
            )
        if self.begun is None:
            self.begun = now

    def add_evaluation(self, step: int, loss: float, accuracy: float) -> None:
        """Record the loss of the held-back labels, and the share that was the likeliest id."""
        _append(self.evaluations, [step, f"{loss:.6f}", f"{accuracy:.6f}"])
        self._report(step, {"evaluation_loss": loss, "evaluation_accuracy": accuracy})
        self.say(f"step {step} evaluation loss {loss:.4f}, {100 * accuracy:.1f} % of labels right")

    def draw(self) -> None:
        """Write the curves of both files as one picture."""
        shown = read_columns(self.steps_path, ("loss", "grad_norm"))
        held_back = read_columns(self.evaluations, EVALUATED[1:])
        shown |= {f"evaluation {name}": points for name, points in held_back.items()}
        sheet = curves(shown, shares=("evaluation accuracy",))
        try:
            with atomic_path(self.curves) as path:
                sheet.save(path, "PNG")
        except OSError as error:
            raise _unwritten(self.curves, error) from None

    def _left(self, step: int, now: float) -> str:
        """How long the rest will take, by the steps after the first one."""
        if self.begun is None:
            return ""
        left = (now - self.begun) / (step - self.first - 1) * (self.steps - step)
        return f", {_clock(left)} left"

    def _report(self, step: int, figures: dict[str, float]) -> None:
        for report in self.reports:
            report.add(step, finite(figures))

    def say(self, text: str) -> None:
        """Print a line at once; a terminal that is gone does not end the run."""
        try:
            print(text, flush=True)
        except OSError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends

    def close(self) -> None:
        """Have what is written in the background on disk."""
        for report in self.reports:
            report.close()


def forget_from(path: Path, step: int, columns: Sequence[str] = ()) -> None:
    """Drop the rows of a log from `step` on, which are done again, and what was half-written.

    Its first row names the `columns`, where there are any; the first column is the step. Rows
    without one, which people wrote, stay where they are.
    """
    content = path.read_bytes() if path.exists() else b""
    content = content.partition(b"\0")[0]  # a power loss leaves zeros where the end should be
    head = (",".join(columns) + "\n").encode() if columns else b""
    rows = content.removeprefix(head).splitlines(keepends=True)
    kept = [row for row in rows if row.endswith(b"\n") and row.strip() and _before(row, step)]
    with atomic_path(path) as temporary:
        temporary.write_bytes(head + b"".join(kept))


def _before(row: bytes, step: int) -> bool:
    """Whether a row is of an earlier step, or of none."""
    first = row.partition(b",")[0].strip()
    return not first.isdigit() or (len(first) < 20 and int(first) < step)


def _append(path: Path, row: list) -> None:
    """Add a row to a CSV file.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(row)
    except OSError as error:
        raise _unwritten(path, error) from None


def _unwritten(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write {path}: {error.strerror}; free space or change --output_dir; checkpoints "
        "are whole"
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(math.ceil(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
