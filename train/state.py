"""Resume state: every parameter of a cell and a few plain values in one safetensors file."""

import json
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import nn
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from emu3.errors import InputError
from emu3.files import atomic_path


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
