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
    """A resume file that is open, its tensors read one by one: all of them would fill memory."""

    def __init__(self, file: safe_open) -> None:
        self.file = file

    def tensor(self, name: str) -> np.ndarray:
        """The tensor of that name."""
        return self.file.get_tensor(name)

    @property
    def values(self) -> dict[str, Any]:
        """The plain values."""
        return json.loads(self.file.metadata()["values"])


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
            yield StateFile(file)
    except InputError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; change {flag}") from None
