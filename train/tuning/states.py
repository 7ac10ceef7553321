"""What a checkpoint keeps of a run: masters and moments of every trained weight, and the powers.

They are whole tensors under published names and shapes, whatever number of processes and ZeRO
stage wrote them, so another number may go on with them:

    master.NAME exp_avg.NAME exp_avg_sq.NAME   float32, in the weight's shape
    power1 power2                              (1,), of `train.tuning.step.Update`
"""

import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.parallel.collectives import Stack
from emu3.parallel.mesh import Mesh
from train.tuning.ranges import LARGEST
from train.tuning.statefile import open_state, write_state
from train.tuning.zero import Unit, share_of

if TYPE_CHECKING:
    from train.tuning.step import Update

KINDS = ("master", "exp_avg", "exp_avg_sq")
POWERS = ("power1", "power2")
REMEDY = "take another checkpoint; change --resume"
CHECKED = 4096  # values of each frozen weight


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


def save(
    path: Path,
    whole: dict[str, dict[str, np.ndarray]],
    update: "Update",
    values: dict[str, Any],
) -> None:
    """Write what `States.whole` gave for each of KINDS, the powers, and plain values."""
    tensors = {f"{kind}.{name}": tensor for kind in KINDS for name, tensor in whole[kind].items()}
    tensors |= {name: getattr(update, name).asnumpy().reshape(1) for name in POWERS}
    write_state(path, tensors, values)


def restore(path: Path, states: States, update: "Update") -> dict[str, Any]:
    """Put back what `save` wrote; returns the plain values.

    Raises:
        InputError: the file is damaged, or belongs to another model or another choice of
            trained parameters.
    """
    shapes = {f"{kind}.{name}": shape for kind in KINDS for name, shape in states.shapes.items()}
    shapes |= dict.fromkeys(POWERS, (1,))
    with open_state(path, shapes, "--resume") as file:
        check_values(path, file.values)
        for kind in KINDS:
            states.restore(kind, {name: file.tensor(f"{kind}.{name}") for name in states.shapes})
        for name in POWERS:
            getattr(update, name).set_data(Tensor(float(file.tensor(name)[0]), ms.float32))
        return file.values


def check_values(path: Path, values: dict[str, Any]) -> None:
    """Refuse plain values that `Trainer` did not write.

    Raises:
        InputError: says which.
    """
    scaler, identity = values.get("scaler"), values.get("identity")
    named = re.fullmatch(r"checkpoint-(\d+)", path.parent.name)
    if named and int(named[1]) != values["step"]:
        raise InputError(
            f"{path} is of step {values['step']!r}, not of its folder's name; {REMEDY}"
        )
    if not isinstance(scaler, dict) or not all(
        type(scaler.get(name)) in (int, float) and 0 <= scaler[name] <= LARGEST
        for name in ("scale", "good")
    ):
        raise InputError(f"{path} states no loss scale; {REMEDY}")
    if not isinstance(identity, dict) or not all(type(v) is int for v in identity.values()):
        raise InputError(f"{path} does not state what it was trained with; {REMEDY}")


def checksum(parameters: Iterable[Parameter]) -> int:
    """A checksum of the beginnings of weights; 0 without any."""
    total = 0
    for parameter in parameters:
        start = as_numpy(parameter).reshape(-1)[:CHECKED].astype(np.float32)
        total = zlib.crc32(start.tobytes(), total)
    return total


def frozen_checksum(model: nn.Cell) -> int:
    """The checksum of all weights that are not trained."""
    return checksum(p for p in model.get_parameters() if not p.requires_grad)
