"""Runs that may be stopped: one resume file, and the steps that write it."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mindspore import Tensor, nn
from tqdm import tqdm

from emu3.files import atomic_path
from train.mini.options import RunOptions
from train.tuning.statefile import open_state, write_state

FINISHED = "finished"


def save_state(path: str | Path, cell: nn.Cell, values: dict[str, Any]) -> None:
    """Write all parameters of `cell` and the JSON-able `values`, whole or not at all."""
    tensors = {name: p.asnumpy() for name, p in cell.parameters_and_names()}
    with atomic_path(path) as temporary:
        write_state(temporary, tensors, values)


def load_state(path: str | Path, cell: nn.Cell) -> dict[str, Any]:
    """Restore what `save_state` wrote; returns the values.

    Raises:
        InputError: the file is damaged or belongs to another model.
    """
    parameters = dict(cell.parameters_and_names())
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    with open_state(Path(path), shapes, "--state") as file:
        for name, parameter in parameters.items():
            parameter.set_data(Tensor(file.tensor(name)))
        return file.values


class Run:
    """The steps of a run: it goes on from the saved state and saves it now and then.

    Args:
        steps: how many there are in all.
        cell: what to save and restore.
    """

    def __init__(self, options: RunOptions, steps: int, cell: nn.Cell) -> None:
        self.options, self.last, self.cell = options, steps, cell
        self.state = Path(options.state)
        self.done = load_state(self.state, cell)["step"] if self.state.exists() else 0
        self.bar = tqdm(total=steps, initial=self.done)

    def steps(self) -> Iterator[int]:
        """Numbers of the steps left; saves when it is time, and after the last one."""
        begun = saved = time.monotonic()
        with self.bar:
            for step in range(self.done, self.last):
                yield step
                self.bar.update()
                self.done, now = step + 1, time.monotonic()
                last = self.done == self.last or now - begun > self.options.minutes * 60
                if last or now - saved > self.options.save_every:
                    save_state(self.state, self.cell, {"step": self.done})
                    saved = now
                if last:
                    return

    def steps_with(self, make: Callable[[int], Any]) -> Iterator[tuple[int, Any]]:
        """Numbers of the steps left, and what `make` gives for each: the next one is made beside.

        make: what a step learns from, by its number; NumPy alone.
        """
        with ThreadPoolExecutor(1) as beside:
            coming = beside.submit(make, self.done)
            for step in self.steps():
                batch, coming = coming.result(), beside.submit(make, step + 1)
                yield step, batch

    def finish(self) -> None:
        """Leave an empty file FINISHED in the output folder once the last step is done.

        To be called when all that the run makes is written.
        """
        mark = Path(self.options.output) / FINISHED
        if self.done < self.last:
            mark.unlink(missing_ok=True)
            return
        with atomic_path(mark) as path:
            path.touch()
