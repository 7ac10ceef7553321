"""`.pth` samples of the PyTorch repository (`torch.save`), read without torch.

Such a file is a zip with a pickle, `data.pkl`, and the bytes of tensors beside it, `data/KEY`. A
pickle is a program: here it may build dicts, lists, texts, numbers, numpy arrays and torch tensors,
from stand-ins that only note what they are told. Whatever else it names is refused.
"""

import collections
import io
import math
import pickle
import pickletools
import zipfile
from typing import Any

import numpy as np

HOW_ELSE = "save it again in PyTorch, as torch.save({name, images: a numpy array, texts}, path)"
MOST_PICKLE = 2**26  # bytes
MOST_MEMO = 2**16
FORBIDDEN = {"BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER", "EXT1", "EXT2", "EXT4", "INST", "OBJ"}
STORAGES = {
    f"{name}Storage": np.dtype(kind)
    for name, kind in (
        *(("Long", "<i8"), ("Int", "<i4"), ("Short", "<i2"), ("Char", "i1"), ("Byte", "u1")),
        *(("Bool", "?"), ("Half", "<f2"), ("Float", "<f4"), ("Double", "<f8")),
    )
}


def parse_torch(data: bytes) -> dict[str, Any]:
    """The dict that was saved, with numpy arrays for arrays and tensors.

    Raises:
        ValueError: no zip that `torch.save` made, or it holds something else; says what to do.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            text = _member(archive, pickled)
            _check_program(text)
            found = _Reader(text, archive, pickled.removesuffix(".pkl")).load()
        found = _plain(found)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}; allowed: a dict")
        return found
    # zipfile and pickle raise nearly anything for a damaged file.
    except Exception as error:
        raise ValueError(f"{str(error) or type(error).__name__}; {HOW_ELSE}") from None


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member, which torch.save never compresses."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, so torch.save did not make it")
    return archive.read(name)


def _check_program(text: bytes) -> None:
    """Refuse a pickle that makes its reader reserve memory it does not fill."""
    if len(text) > MOST_PICKLE:
        raise ValueError(f"a pickle of {len(text)} bytes; allowed: up to {MOST_PICKLE}")
    for code, argument, _ in pickletools.genops(text):
        memo = code.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > MOST_MEMO
        if memo or code.name in FORBIDDEN:
            raise ValueError(f"the pickle's {code.name} is refused")


class _Kind:
    """Stands for numpy.dtype: its code, and the byte order its state gives."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype:
        kind = np.dtype(self.code)
        if kind.kind not in "biuf":
            raise ValueError(f"an array of {kind}; allowed: numbers")
        return kind if self.order == "|" else kind.newbyteorder(self.order)


class _Array:
    """Stands for a numpy array under way: its state tells all of it."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        _, shape, kind, columns_first, content = self.state
        dtype = kind.dtype()
        if not isinstance(content, bytes) or len(content) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"an array's content does not fit its shape {shape}")
        order = "F" if columns_first else "C"
        return np.frombuffer(content, dtype).reshape(shape, order=order)


class _Scalar:
    """Stands for a numpy number."""

    def __init__(self, kind: _Kind, content: bytes) -> None:
        self.kind, self.content = kind, content

    def array(self) -> np.ndarray:
        return np.frombuffer(self.content, self.kind.dtype()).reshape(())


class _Tensor:
    """Stands for a torch tensor: a view of the values of its storage."""

    def __init__(self, values: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: Any):
        self.values, self.offset, self.shape, self.strides = values, offset, shape, strides

    def array(self) -> np.ndarray:
        spans = [(n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)]
        room = len(self.values)
        fits = min(self.offset, *self.shape, *self.strides, 0) >= 0
        if not fits or math.prod(self.shape) > room or self.offset + sum(spans) >= room:
            raise ValueError(f"a tensor of shape {self.shape} leaves its storage")
        strides = [step * self.values.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(
            self.values[self.offset :], self.shape, strides, writeable=False
        ).copy()


def _encoded(text: str, encoding: str) -> bytes:
    """Stands for _codecs.encode, by which pickles of protocol 2 hold bytes."""
    if encoding != "latin1":
        raise ValueError(f"text encoded as {encoding!r}")
    return text.encode("latin1")


def _parameter(tensor: _Tensor, *_: Any) -> _Tensor:
    return tensor


ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encoded,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Kind,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): name for name in STORAGES},
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", _Array), ("scalar", _Scalar))
    },
}


class _Reader(pickle.Unpickler):
    """An unpickler that knows `ALLOWED` alone."""

    def __init__(self, text: bytes, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(text))
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name of the pickle.

        Raises:
            ValueError: it is not allowed.
        """
        if (module, name) not in ALLOWED:
            raise ValueError(f"it wants {module}.{name}, which is refused")
        return ALLOWED[module, name]

    def persistent_load(self, key: Any) -> np.ndarray:
        """The values of a tensor's storage."""
        what, kind, name, _, count = key
        if what != "storage" or kind not in STORAGES:
            raise ValueError(f"storage {str(key)[:60]}; allowed: of numbers")
        content = _member(self.archive, f"{self.folder}/{name}")
        if len(content) != count * STORAGES[kind].itemsize:
            raise ValueError(f"storage {name} has not its {count} values")
        return np.frombuffer(content, STORAGES[kind])


def _plain(found: Any) -> Any:
    """Stand-ins as what they stand for; of a dict its values."""
    if isinstance(found, dict):
        return {key: _plain(value) for key, value in found.items()}
    return found.array() if isinstance(found, _Array | _Scalar | _Tensor) else found
