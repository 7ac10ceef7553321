"""The weights of a checkpoint folder: which files, checked against the model, read one by one."""

from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from emu3.errors import InputError
from emu3.files import read_json
from emu3.hub import CONFIG, to_convert
from emu3.runtime import notice
from emu3.tensorfile import FLOATS, Entry, read_entries

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
COUNTER = "num_batches_tracked"  # of batches trained on; nothing is computed with it
INTEGERS = ("I64", "I32", "I16", "I8", "U8", "BOOL")


def stored_tensors(folder: Path) -> dict[str, Entry]:
    """The tensors of a checkpoint folder by name; their data stays on disk.

    Raises:
        InputError: as `PretrainedModel.from_pretrained`.
    """
    entries = {}
    for path in weight_files(folder):
        entries |= read_entries(path)
    return entries


def load_weights(
    model: nn.Cell, folder: Path, dtype: ms.Type, entries: dict[str, Entry] | None = None
) -> None:
    """Fill the model's parameters from the safetensors files of `folder`.

    Floating-point parameters become `dtype`; integers keep their own. `entries` are
    `stored_tensors(folder)`, where the caller has them.

    Raises:
        InputError: as `PretrainedModel.from_pretrained`.
    """
    entries = stored_tensors(folder) if entries is None else entries
    parameters = dict(model.parameters_and_names())
    for name in [name for name in parameters if name.endswith(COUNTER) and name not in entries]:
        parameters.pop(name).set_data(Tensor(0, ms.int64))
    _check_tensors(folder, entries, parameters)
    for name, parameter in parameters.items():
        if parameter.is_floating_point():
            parameter.set_dtype(dtype)
        array = entries[name].read()
        _check_numbers(entries[name], name, array)
        parameter.set_data(Tensor.from_numpy(array).astype(parameter.dtype))


def _check_numbers(entry: Entry, name: str, array: np.ndarray) -> None:
    """Refuse NaN and infinity; one sum tells of both, and only a sum too large asks each value."""
    if array.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        fine = np.isfinite(array.sum(dtype=np.float64 if array.itemsize == 8 else np.float32))
    if not fine and not np.isfinite(array).all():
        raise InputError(
            f"{entry.path}: {name} holds NaN or infinity; allowed: numbers; fetch or save it again"
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder: one, or those its index names.

    Raises:
        InputError: there are none, or the index is broken.
    """
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        table = read_json(folder / INDEX).get("weight_map")
        names = list(table.values()) if isinstance(table, dict) else []
        if not names or not all(map(_is_name, names)):
            raise InputError(f"{folder / INDEX} names no files beside it; fetch or save it again")
        return [folder / name for name in sorted(set(names))]
    pickled = [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt")]
    hint = f"{pickled[0]} is pickled and refused: convert it; " if pickled else ""
    if pickled and pickled[0].endswith(".ckpt"):
        hint = f"{to_convert(folder / pickled[0])}; "
    raise InputError(f"{folder} holds neither {WEIGHTS} nor {INDEX}; {hint}change the model folder")


def _is_name(value: object) -> bool:
    """Whether the system can be asked for a file of that name in a folder."""
    try:
        return Path(value).name == value and len(value.encode()) <= 255 and "\0" not in value
    except (TypeError, ValueError):  # no text, or half a character
        return False


def _check_tensors(
    folder: Path, entries: dict[str, Entry], parameters: dict[str, Parameter]
) -> None:
    missing = [name for name in parameters if name not in entries]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of {len(parameters)} tensors, first {missing[0]}; "
            "fetch or save it again"
        )
    for name, parameter in parameters.items():
        entry, wanted = entries[name], tuple(parameter.shape)
        if entry.shape != wanted:
            raise InputError(
                f"{entry.path}: {name} has shape {entry.shape}; {CONFIG} asks for {wanted}"
            )
        allowed = FLOATS if parameter.is_floating_point() else INTEGERS
        if entry.code not in allowed:
            raise InputError(
                f"{entry.path}: {name} is stored as {entry.code}; allowed: {', '.join(allowed)}; "
                "quantised weights are not read: use a checkpoint with plain ones"
            )
    extra = [name for name in entries if name not in parameters]
    if extra:
        notice(f"{folder} holds {len(extra)} tensors the model does not use, first {extra[0]}")
