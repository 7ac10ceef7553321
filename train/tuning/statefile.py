"""The resume file of any training run: tensors by name, and plain values, in one safetensors file.

emu3-mini's runs keep one file; fine-tuning keeps one in each checkpoint.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from emu3.errors import InputError


class StateFile:
    """A resume file that is open, its tensors read one by one: all of them would fill memory.

    `values` are the plain ones; `values["step"]` is a whole number.
    """

    def __init__(self, file: safe_open, values: dict[str, Any]) -> None:
        self.file, self.values = file, values

    def tensor(self, name: str) -> np.ndarray:
        """The tensor of that name."""
        return self.file.get_tensor(name)


def write_state(path: Path, tensors: dict[str, np.ndarray], values: dict[str, Any]) -> None:
    """Write tensors and JSON-able values; `path` is temporary, the caller renames it."""
    save_file(tensors, path, metadata={"values": json.dumps(values)})


@contextmanager
def open_state(path: Path, shapes: dict[str, tuple[int, ...]], flag: str) -> Iterator[StateFile]:
    """Yield what `write_state` wrote, which must hold tensors of just these names and shapes.

    Raises:
        InputError: the file is damaged, or of another model or choice of trained parameters.
    """
    try:
        with safe_open(path, framework="np") as file:
            odd = sorted(set(file.keys()) ^ set(shapes))
            if odd:
                raise InputError(f"{path} is of another model: tensor {odd[0]}; change {flag}")
            for name, shape in shapes.items():
                stored = tuple(file.get_slice(name).get_shape())
                if stored != tuple(shape):
                    raise InputError(
                        f"{path}: {name} has shape {stored}, the model {tuple(shape)}; "
                        f"change {flag}"
                    )
            yield StateFile(file, _values(path, file.metadata(), flag))
    except InputError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; change {flag}") from None


def _values(path: Path, metadata: dict[str, str] | None, flag: str) -> dict[str, Any]:
    try:
        values = json.loads((metadata or {})["values"])
    except (KeyError, ValueError, RecursionError):
        values = None
    step = values.get("step") if isinstance(values, dict) else None
    if type(step) is not int or step < 0:
        raise InputError(f"{path} does not say how many steps are done; change {flag}")
    return values
