"""The weights of a checkpoint folder: which files, checked against the model, read one by one."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore.common.np_dtype import bfloat16

from emu3.configfields import GROUP
from emu3.errors import InputError, gib
from emu3.files import read_json
from emu3.hub import CONFIG, to_convert
from emu3.names import WEIGHTS as WEIGHTS_FORMS
from emu3.names import check_name
from emu3.nn.forms import encoded, form_bytes
from emu3.nn.linear import Weighted
from emu3.runtime import available_memory_bytes, notice, on_ascend
from emu3.tensorfile import FLOATS, STORED, Entry, read_entries, write_tensors

if TYPE_CHECKING:
    from emu3.pretrained import PretrainedModel

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
COUNTER = "num_batches_tracked"  # of batches trained on; nothing is computed with it
INFINITE = 0x7F80  # bits that no number of bfloat16 has all of
AT_ONCE = 2**24  # values looked at, so that checking takes little memory
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


def choose_form(model: "PretrainedModel", asked: str | None, dtype: ms.Type) -> str:
    """The form for the matrices of a model without values, which computes in `dtype`: the one
    asked for, or what fits.

    Raises:
        InputError: there is no such form here, or memory cannot hold it; names one that fits.
    """
    flag = "change --weights"
    if asked is not None:
        check_name("weights", asked, WEIGHTS_FORMS, "--weights")
    quantised = getattr(model.config, "quantised", False)
    if on_ascend() and "int8" in model.forms:
        form = ascend_form(quantised, asked)
        if form == "int8" and not model.has_fused_step(dtype):
            raise InputError(
                "weights int8 on Ascend are for steps of fused operators; allowed: 16 bits, "
                f"flash_attention_2, heads of a multiple of 16; {flag}"
            )
        return form
    forms = ("int8",) if quantised else model.forms
    if asked not in (None, *forms):
        raise InputError(f"weights {asked}; allowed for this model: {', '.join(forms)}; {flag}")
    if on_ascend():
        return forms[0]
    available = available_memory_bytes()
    sizes = {form: stored_bytes(model, form) for form in forms}
    fitting = [form for form in forms if available is None or sizes[form] <= available]
    if asked in fitting or (asked is None and len(forms) == 1):
        return asked or forms[0]
    if asked is None and fitting:
        if fitting[0] != forms[0]:
            notice(
                f"weights are kept in {fitting[0]}: in {forms[0]} they take "
                f"{gib(sizes[forms[0]])}, {gib(available)} are free"
            )
        return fitting[0]
    smallest = asked or forms[-1]
    allowed = f"{flag} to {fitting[0]}" if fitting else "use a machine with more memory"
    raise InputError(
        f"weights in {smallest} need {gib(sizes[smallest])} of memory, {gib(available)} are free; "
        f"{allowed}"
    )


def ascend_form(quantised: bool, asked: str | None) -> str:
    """The form for matrices on Ascend: int8, of `quantised` checkpoints too, or "float32", which
    there stands for the dtype that computes.

    Raises:
        InputError: another form is asked for.
    """
    allowed = ("int8",) if quantised else ("float32", "int8")
    if asked not in (None, *allowed):
        words = "int8" if quantised else "int8, or --dtype"
        raise InputError(f"weights {asked}; allowed here on Ascend: {words}; change --weights")
    return asked or allowed[0]


def stored_bytes(model: nn.Cell, form: str) -> int:
    """Memory of a model's parameters with its matrices in a form."""
    matrices = {
        id(cell.weight) for _, cell in model.cells_and_names() if isinstance(cell, Weighted)
    }
    return sum(
        form_bytes(p.shape, form if id(p) in matrices else "float32")
        for p in model.get_parameters()
    )


def load_weights(
    model: nn.Cell, folder: Path, dtype: ms.Type, entries: dict[str, Entry] | None = None
) -> None:
    """Fill the model's parameters from the safetensors files of `folder`.

    Floating-point parameters become `dtype`; integers keep their own, and matrices that are held
    in another form (see `Weighted.hold`) take that. `entries` are `stored_tensors(folder)`, where
    the caller has them. One tensor at a time is in memory twice, in part.

    Raises:
        InputError: as `PretrainedModel.from_pretrained`.
    """
    entries = stored_tensors(folder) if entries is None else entries
    held = {
        f"{name}.weight": cell
        for name, cell in model.cells_and_names()
        if isinstance(cell, Weighted) and cell.form != "float32"
    }
    parameters = dict(model.parameters_and_names())
    cells = dict(model.cells_and_names()) if held else {}
    matrices = {f"{n}.weight": cell for n, cell in cells.items() if isinstance(cell, Weighted)}
    scales = {f"{name}_scale" for name in matrices}
    quantised = not scales.isdisjoint(entries)
    for name in [name for name in parameters if name.endswith(COUNTER) and name not in entries]:
        parameters.pop(name).set_data(Tensor(0, ms.int64))
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    for name, cell in matrices.items():
        size, columns = shapes[name] = cell.shape
        shapes[f"{name}_scale"] = (size, -(-columns // GROUP))
    _check_tensors(folder, entries, parameters, shapes, scales, quantised)
    for name, parameter in parameters.items():
        if name in held:
            held[name].fill(*_parts(entries, name, held[name].form), dtype=dtype)
        elif name not in scales:
            if parameter.is_floating_point():
                parameter.set_dtype(dtype)
            array = _plain(entries, name) if name in matrices else entries[name].read()
            _check_numbers(entries[name], name, array)
            if parameter.dtype == ms.float32:  # NumPy takes a fifth of MindSpore's time
                array = array.astype(np.float32, copy=False)
            parameter.set_data(Tensor.from_numpy(array).astype(parameter.dtype))


def write_quantised(entries: dict[str, Entry], path: Path) -> dict[str, int]:
    """Write a safetensors file with the matrices of `entries` in int8; the bytes of each tensor.

    Raises:
        InputError: a tensor holds NaN or infinity, or is stored as nothing we read.
    """
    kinds, held = {}, {}
    for name, entry in entries.items():
        if entry.code not in FLOATS:
            raise InputError(
                f"{entry.path}: {name} is stored as {entry.code}; allowed: {', '.join(FLOATS)}"
            )
        if len(entry.shape) != 2:
            kinds[name] = ("F32", entry.shape)
            continue
        size, columns = entry.shape
        kinds[f"{name}_scale"] = ("F32", (size, -(-columns // GROUP)))
        kinds[name] = ("I8", entry.shape)

    def read(name: str) -> np.ndarray:
        if name in held:  # a matrix, made with its scale
            return held.pop(name)
        matrix = name.removesuffix("_scale")
        if matrix in entries and kinds[matrix][0] == "I8":
            held[matrix], scale = _parts(entries, matrix, "int8")
            return scale
        array = entries[name].read().astype(np.float32, copy=False)
        _check_numbers(entries[name], name, array)
        return array

    write_tensors(path, kinds, read, list(kinds))
    return {n: math.prod(shape) * STORED[code].itemsize for n, (code, shape) in kinds.items()}


def _plain(entries: dict[str, Entry], name: str) -> np.ndarray:
    """The values of a matrix that may be stored in int8."""
    if entries[name].code != "I8":
        return entries[name].read()
    weight, scale = _parts(entries, name, "int8")
    return weight * scale.repeat(GROUP, 1)[:, : weight.shape[1]]


def _parts(entries: dict[str, Entry], name: str, form: str) -> list[np.ndarray]:
    """The arrays of a matrix in a form, from a file that may hold another."""
    entry = entries[name]
    if entry.code == "I8":
        scale = entries[f"{name}_scale"].read()
        _check_numbers(entries[f"{name}_scale"], f"{name}_scale", scale)
        return [entry.read_stored(), scale]
    if entry.code == "BF16" and form == "bfloat16":
        bits = entry.read_stored()
        for some in np.array_split(bits.reshape(-1), 1 + bits.size // AT_ONCE):
            if (some & INFINITE == INFINITE).any():
                raise _no_numbers(entry, name)
        return [bits.view(bfloat16)]
    size, columns = entry.shape
    parts = [np.empty((size, columns), np.int8 if form == "int8" else bfloat16)]
    if form == "int8":
        parts.append(np.empty((size, -(-columns // GROUP)), np.float32))
    for lines, values in entry.read_in_blocks():
        _check_numbers(entry, name, values)
        for part, block in zip(parts, encoded(values, form)):
            part[lines] = block
    return parts


def _check_numbers(entry: Entry, name: str, array: np.ndarray) -> None:
    """Refuse NaN and infinity; one sum tells of both, and only a sum too large asks each value."""
    if array.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        fine = np.isfinite(array.sum(dtype=np.float64 if array.itemsize == 8 else np.float32))
    if not fine and not np.isfinite(array).all():
        raise _no_numbers(entry, name)


def _no_numbers(entry: Entry, name: str) -> InputError:
    return InputError(
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
    folder: Path,
    entries: dict[str, Entry],
    parameters: dict[str, Parameter],
    shapes: dict[str, tuple[int, ...]],
    scales: set[str],
    quantised: bool,
) -> None:
    """Refuse files that are not this model's, of published `shapes`; without `quantised` weights no
    `scales` are there."""
    wanted = [name for name in parameters if name not in scales]
    wanted += sorted(scales) if quantised else []
    missing = [name for name in wanted if name not in entries]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of {len(wanted)} tensors, first {missing[0]}; "
            "fetch or save it again"
        )
    for name in wanted:
        entry = entries[name]
        if entry.shape != shapes[name]:
            raise InputError(
                f"{entry.path}: {name} has shape {entry.shape}; {CONFIG} asks for {shapes[name]}"
            )
        if f"{name}_scale" in scales:
            allowed = ("I8",) if quantised else FLOATS
        else:
            floating = name in scales or parameters[name].is_floating_point()
            allowed = FLOATS if floating else INTEGERS
        if entry.code not in allowed:
            raise InputError(
                f"{entry.path}: {name} is stored as {entry.code}; allowed: {', '.join(allowed)}; "
                "quantised weights are read as `emu3 quantize` writes them: use a checkpoint with "
                "plain ones"
            )
    extra = [name for name in entries if name not in parameters and name not in scales]
    if extra:
        notice(f"{folder} holds {len(extra)} tensors the model does not use, first {extra[0]}")
