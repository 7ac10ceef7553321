"""Checkpoints of a training run: whole or not there at all.

    OUTPUT/checkpoint-STEP/   a folder from_pretrained loads, and state.safetensors beside it

The state holds masters and moments of every trained weight under its published name and shape,
whatever number of processes and ZeRO stage wrote it, so another number may go on with it.
"""

import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.files import writable_folder
from emu3.parallel.collectives import Stack
from emu3.parallel.mesh import Mesh
from train.tuning.zero import Unit, share_of

STATE = "state.safetensors"
KINDS = ("master", "exp_avg", "exp_avg_sq")
CHECKED = 4096  # values of each frozen weight
NAME = re.compile(r"checkpoint-(\d+)")


class States:
    """The units' state as whole tensors by name, and back.

    Args:
        units: of `train.tuning.zero`.
        shapes: published shape of every trained parameter by name.
        mesh: all processes take part in every call.
    """

    def __init__(self, units: list[Unit], shapes: dict[str, tuple[int, ...]], mesh: Mesh) -> None:
        self.units, self.shapes, self.mesh = units, shapes, mesh
        self.stack = Stack(mesh.world)

    def whole(self, kind: str, keep: bool = True) -> dict[str, np.ndarray]:
        """The parts named `kind` of KINDS, gathered, float32 by parameter name.

        A process that does not `keep` them takes part and gets an empty dictionary.
        """
        found = {}
        for unit in self.units:
            own = getattr(unit, kind)
            flat = own.asnumpy().copy()  # not a view of what goes on changing
            if unit.split or unit.shared:
                flat = self.stack(own * 1.0).asnumpy().reshape(-1)
            if not keep:
                continue
            start = 0
            for name in unit.names:
                shape = self.shapes[name]
                size = int(np.prod(shape))
                found[name] = flat[start : start + size].reshape(shape)
                start += size
        return found

    def restore(self, kind: str, tensors: dict[str, np.ndarray]) -> None:
        """Put whole tensors back; masters go into the parameters too."""
        for unit in self.units:
            flat = np.concatenate([tensors[name].reshape(-1) for name in unit.names])
            share = unit.split or unit.shared
            own = share_of(flat, self.mesh.world) if share else flat
            getattr(unit, kind).set_data(Tensor(np.ascontiguousarray(own)))
            if kind == "master":
                _fill(unit.parameters, own if unit.shared else flat)


def _fill(parameters: list[Parameter], flat: np.ndarray) -> None:
    start = 0
    for parameter in parameters:
        part = flat[start : start + parameter.size].reshape(parameter.shape)
        parameter.set_data(Tensor(np.ascontiguousarray(part)).astype(parameter.dtype))
        start += parameter.size


def write_state(
    path: Path,
    whole: dict[str, dict[str, np.ndarray]],
    others: dict[str, np.ndarray],
    values: dict[str, Any],
) -> None:
    """Write what `States.whole` gave for each of KINDS, other small tensors, and plain values."""
    tensors = {f"{kind}.{name}": tensor for kind in KINDS for name, tensor in whole[kind].items()}
    save_file(tensors | others, path, metadata={"values": json.dumps(values)})


def read_state(path: Path, states: States) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Restore what `write_state` wrote; returns the other tensors and the values.

    Raises:
        InputError: the file is damaged, or belongs to another model or another choice of
            trained parameters.
    """
    expected = {f"{kind}.{name}": shape for kind in KINDS for name, shape in states.shapes.items()}
    try:
        with safe_open(path, framework="np") as file:
            names = set(file.keys())
            others = {name: file.get_tensor(name) for name in names if "." not in name}
            odd = sorted((names - set(others)) ^ set(expected))
            if odd:
                raise InputError(f"{path} is of another model: tensor {odd[0]}; change --resume")
            for name, shape in expected.items():
                stored = tuple(file.get_slice(name).get_shape())
                if stored != shape:
                    raise InputError(
                        f"{path}: {name} has shape {stored}, the model {shape}; change --resume"
                    )
            for kind in KINDS:
                names = states.shapes
                states.restore(kind, {n: file.get_tensor(f"{kind}.{n}") for n in names})
            return others, json.loads(file.metadata()["values"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {path}: {error}; change --resume") from None


def checkpoints(output: Path) -> list[Path]:
    """The finished checkpoints of a run, oldest first."""
    found = [p for p in output.glob("checkpoint-*") if NAME.fullmatch(p.name)]
    return sorted((p for p in found if (p / STATE).exists()), key=_step)


def _step(path: Path) -> int:
    return int(NAME.fullmatch(path.name)[1])


def find_resume(output: Path, resume: str) -> Path | None:
    """Where to go on: the last checkpoint for "auto" (None without one), or the folder given.

    Raises:
        InputError: the folder given holds no state.
    """
    if resume == "none":
        return None
    if resume == "auto":
        return next(reversed(checkpoints(output)), None)
    if not (Path(resume) / STATE).exists():
        raise InputError(f"{resume} holds no {STATE}; allowed: auto, none, or a checkpoint folder")
    return Path(resume)


def refuse_later(output: Path, step: int) -> None:
    """Refuse to write beside checkpoints of later steps, which the next start would go on from.

    Raises:
        InputError: names the newest of them.
    """
    newest = next(reversed(checkpoints(output)), None)
    if newest is not None and _step(newest) > step:
        raise InputError(
            f"{newest} is of a later step than {step}, where this run starts; allowed: --resume "
            "auto, which goes on from it, or another folder; change --output_dir"
        )


def frozen_checksum(model: nn.Cell) -> int:
    """A checksum of the beginnings of all weights that are not trained; 0 without any."""
    total = 0
    for parameter in model.get_parameters():
        if not parameter.requires_grad:
            start = as_numpy(parameter).reshape(-1)[:CHECKED].astype(np.float32)
            total = zlib.crc32(start.tobytes(), total)
    return total


@contextmanager
def new_checkpoint(output: Path, step: int, keep: int) -> Iterator[Path]:
    """Yield an empty folder; when the block succeeds it becomes output/checkpoint-`step`.

    Then the oldest beyond `keep` go. When the block fails, the folder goes and nothing else.

    Raises:
        InputError: the files cannot be written.
    """
    temporary = output / f".unfinished-{step}"
    shutil.rmtree(temporary, ignore_errors=True)
    writable_folder(temporary, "--output_dir")
    try:
        yield temporary
        _sync(temporary)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(
            f"cannot write checkpoint-{step} in {output}: {error}; free space or change "
            "--output_dir; earlier checkpoints are whole"
        ) from None
    _publish(temporary, output, step, keep)


def _publish(temporary: Path, output: Path, step: int, keep: int) -> None:
    final = output / f"checkpoint-{step}"
    if final.exists():
        shutil.rmtree(final)
    os.replace(temporary, final)
    for old in checkpoints(output)[:-keep]:
        # Renamed first: a half-deleted folder must not look like a checkpoint.
        os.replace(old, output / f".unfinished-{_step(old)}")
    for leftover in output.glob(".unfinished-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Have the files on disk before their folder gets its name."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def plain_tensors(cell: nn.Cell, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Scalars and small tensors of a cell by attribute, for a state file."""
    return {name: np.atleast_1d(getattr(cell, name).asnumpy()) for name in names}


def restore_plain(cell: nn.Cell, tensors: dict[str, np.ndarray]) -> None:
    """What `plain_tensors` gave, back into the cell."""
    for name, value in tensors.items():
        parameter = getattr(cell, name)
        parameter.set_data(Tensor(value.reshape(parameter.shape), ms.float32))
