"""Runs that may be stopped: resume state in one safetensors file, and the steps that write it."""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import nn
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from emu3.cli.flags import non_negative_float, non_negative_int
from emu3.errors import InputError
from emu3.files import atomic_path
from emu3.runtime import DTYPES


def save_state(path: str | Path, cell: nn.Cell, values: dict[str, Any]) -> None:
    """Write all parameters of `cell` and the JSON-able `values`, whole or not at all."""
    tensors = {name: p.asnumpy() for name, p in cell.parameters_and_names()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"values": json.dumps(values)})


def load_state(path: str | Path, cell: nn.Cell) -> dict[str, Any]:
    """Restore what `save_state` wrote; returns the values.

    Raises:
        InputError: the file is damaged or belongs to another model.
    """
    parameters = dict(cell.parameters_and_names())
    try:
        with safe_open(path, framework="np") as file:
            names = set(file.keys())
            if names != set(parameters):
                odd = sorted(names ^ set(parameters))[0]
                raise InputError(f"{path} is of another model: tensor {odd}; change --state")
            for name, parameter in parameters.items():
                value = file.get_tensor(name)
                if value.shape != tuple(parameter.shape):
                    raise InputError(
                        f"{path}: {name} has shape {value.shape}, the model {parameter.shape}; "
                        "change --state"
                    )
                parameter.set_data(ms.Tensor(value))
            return json.loads(file.metadata()["values"])
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot read {path}: {error}; change --state") from None


def add_run_options(group: argparse._ArgumentGroup, name: str) -> None:
    """Where a run saves, how often, and when it stops: what `Run` reads, and --save-dtype."""
    add = group.add_argument
    add("--output", default=f"outputs/{name}", help="folder of the trained model")
    add("--state", default=f"outputs/{name}_state.safetensors", help="resume file")
    add("--save-every", type=non_negative_float, default=90, help="seconds between saves of it")
    add("--save-dtype", choices=tuple(DTYPES), default="float16", help="dtype of the saved weights")
    add("--minutes", type=non_negative_float, default=1e9, help="stop (and save) after so many")
    add("--seed", type=non_negative_int, default=0, help="seed of weights and of all that is drawn")


class Run:
    """The steps of a run: it goes on from the saved state and saves it now and then.

    Args:
        args: the options of `add_run_options`, and `steps`, how many there are in all.
        cell: what to save and restore.
    """

    def __init__(self, args: argparse.Namespace, cell: nn.Cell) -> None:
        self.args, self.cell, self.state = args, cell, Path(args.state)
        self.done = load_state(self.state, cell)["step"] if self.state.exists() else 0
        self.bar = tqdm(total=args.steps, initial=self.done)

    def steps(self) -> Iterator[int]:
        """Numbers of the steps left; saves when it is time, and after the last one."""
        begun = saved = time.monotonic()
        with self.bar:
            for step in range(self.done, self.args.steps):
                yield step
                self.bar.update()
                self.done, now = step + 1, time.monotonic()
                last = self.done == self.args.steps or now - begun > self.args.minutes * 60
                if last or now - saved > self.args.save_every:
                    save_state(self.state, self.cell, {"step": self.done})
                    saved = now
                if last:
                    return
