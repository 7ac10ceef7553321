"""Checkpoints of the original MindSpore port (`.ckpt`) written as folders of published files.

The port's training saves one file, or, with ZeRO-3, one of each rank, in which large matrices are
split on their first axis. Names lose the parts that training put before them.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mindspore.nn.utils import no_init_parameters

from emu3.checkpointfile import BFLOAT16, TYPES, StoredValue, stored_values
from emu3.configfile import read_config
from emu3.errors import InputError
from emu3.files import natural_order, require_file
from emu3.hub import CONFIG, GENERATION_CONFIG, checkpoint_folder
from emu3.mllm import Emu3Config, Emu3ForCausalLM
from emu3.mllm.tokenization_emu3 import TOKENIZER_FILES

TRAINING = ("network.", "_backbone.")  # cells that training puts around the network
TABLE = "embedding_table"  # MindSpore's word for an embedding's weight
FLAG = "FILE"


@dataclass(frozen=True)
class Joined:
    """A tensor whose parts, one a file, follow each other on the first axis; read when asked."""

    parts: list[StoredValue]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """The stored type's name, in small letters."""
        return self.parts[0].kind.lower()

    def float(self) -> "Joined":
        """Itself: bfloat16 is read as float32."""
        return self

    def asnumpy(self) -> np.ndarray:
        """The whole tensor."""
        arrays = [part.read() for part in self.parts]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def convert(files: Sequence[str | Path], model: str | Path, output: str | Path) -> Path:
    """Write the weights of `files` as a folder that loads, with the settings of `model`.

    Args:
        files: one checkpoint, or those of all ranks; rank 10 is taken to follow rank 9.
        model: the folder or hub id whose config.json and tokenizer the weights belong to.
        output: the new folder.

    Raises:
        InputError: a file is none, or its tensors are not those of the model.
    """
    patterns = [CONFIG, GENERATION_CONFIG, *TOKENIZER_FILES]
    folder = checkpoint_folder(model, patterns)
    config = read_config(Emu3Config, folder, {})
    with no_init_parameters():
        network = Emu3ForCausalLM(config)
    network.source = folder
    files = sorted(map(Path, files), key=_by_number)
    ranks = [_values(path) for path in files]
    shapes = {name: tuple(p.shape) for name, p in network.parameters_and_names()}
    tensors = {name: _joined(name, shape, ranks, files) for name, shape in shapes.items()}
    kinds = {tensor.dtype for tensor in tensors.values()}
    dtype = kinds.pop() if len(kinds) == 1 else "float32"
    network.save_pretrained(output, dtype=dtype, weights=tensors)
    return Path(output)


def _by_number(path: Path) -> list[tuple]:
    return [natural_order(Path(part)) for part in path.parts]


def published_tag(tag: str) -> str:
    """What the published files call a tensor of a checkpoint."""
    for cell in TRAINING:
        tag = tag.replace(cell, "")
    return tag.replace(TABLE, "weight")


def _values(path: Path) -> dict[str, StoredValue]:
    """The tensors of a checkpoint by published name, their bytes on disk until they are read."""
    require_file(path, "checkpoint", FLAG)
    try:
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        stored = stored_values(data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} is no MindSpore checkpoint: {reason}; change {FLAG}") from None
    floats = {kind for kind, dtype in TYPES.items() if dtype.kind == "f"} | {BFLOAT16}
    return {published_tag(t): value for t, value in stored.items() if value.kind in floats}


def _joined(
    name: str,
    shape: tuple[int, ...],
    ranks: list[dict[str, StoredValue]],
    files: Sequence[Path],
) -> Joined:
    """The tensor of that name, whole in the first file or split over all."""
    parts = [rank.get(name) for rank in ranks]
    if None in parts:
        raise InputError(f"{files[parts.index(None)]} holds no {name}; change {FLAG} or --model")
    dims = [tuple(part.dims) for part in parts]
    if dims[0] == shape:
        return Joined(parts[:1], shape)
    if (sum(d[0] for d in dims), *dims[0][1:]) == shape and len({d[1:] for d in dims}) == 1:
        return Joined(parts, shape)
    raise InputError(
        f"{name} has shape {dims[0]} in {files[0]}, {CONFIG} of the model asks for {shape}; "
        "allowed: a whole checkpoint, or those of all ranks; change "
        f"{FLAG} or --model"
    )
