"""The compiled step of a command, kept for the next command in the cache folder of the kernels.

Compiling a step takes a second or more of every command. MindSpore can store what it made of one,
but looks only at the script that was started to tell whether that still holds. So each graph has a
folder named by everything it is made from; what cannot be named is compiled as ever.

    emu3-mindspore/graphs/<name>/rank_0/graph_cache/compile_cache_<n>.mindir
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common import api

from emu3 import runtime
from emu3.errors import InputError
from emu3.nn.kernels.library import cache_folder, ours

KEPT = 64  # folders, each of 0.3 to 1 MB; the longest unused go first
PLAIN = (type(None), bool, int, float, complex, str, bytes, Path)
PACKAGE = Path(__file__).parents[1]


class Unnamed(Exception):
    """Something whose part in a graph cannot be told."""


@contextmanager
def kept(cell: nn.Cell, arguments: tuple[Tensor, ...]) -> Iterator[None]:
    """Within it, a method of `cell` that is compiled with `arguments` is taken from the cache.

    Where it is not there, it is put there. Does nothing where nobody asked for it
    (`runtime.keep_first_graph`) and where nothing can be written.
    """
    folder = _folder(cell, arguments) if runtime.keeps_graph() else None
    work = None if folder is None else _copied(folder)
    if work is None:
        yield
        return
    try:
        with runtime.graphs_kept_in(work):
            yield
        _keep(Path(work), folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _copied(folder: Path) -> str | None:
    """A folder of this process with what `folder` holds, which another may tidy up meanwhile."""
    work = None
    try:
        work = tempfile.mkdtemp(prefix=".work-", dir=folder.parent)
        if folder.exists():
            shutil.copytree(folder, work, dirs_exist_ok=True)
    except OSError:
        pass
    return work


def _folder(cell: nn.Cell, arguments: tuple[Tensor, ...]) -> Path | None:
    if not os.path.isfile(_script()):  # MindSpore reads it
        return None
    try:
        home = cache_folder() / "graphs"
        home.mkdir(mode=0o700, exist_ok=True)
        if not (ours(home) and os.access(home, os.W_OK)):
            return None
        return home / name_of(cell, arguments)
    except (InputError, OSError, Unnamed):
        return None


def _keep(work: Path, folder: Path) -> None:
    """Give what was made its place, whole files only, and let the longest unused folders go."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for made in sorted(work.rglob("*")):
            place = folder / made.relative_to(work)
            if made.is_dir():
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif not place.exists() or place.read_bytes() != made.read_bytes():
                os.replace(made, place)
        os.utime(folder)
        by_use = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in by_use[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:  # a full disk, or another process that tidies up: the graph is in memory
        return


def name_of(cell: nn.Cell, arguments: tuple[Tensor, ...]) -> str:
    """The name of a cell's graph: a hash of versions, sources, the cell's parts, and shapes.

    Raises:
        Unnamed: the cell has a part of a kind that is not known here.
    """
    digest = hashlib.sha256()
    for text in (*_versions(), *_described(cell, set())):
        digest.update(text.encode())
        digest.update(b"\0")
    for tensor in arguments:
        digest.update(f"{tensor.dtype}{tensor.shape}".encode())
    return digest.hexdigest()[:24]


def _script() -> str:
    """The script that ran when MindSpore was imported, which it takes for the program's."""
    return getattr(api, "entry_script_path", None) or os.path.realpath(sys.argv[0])


@cache
def _versions() -> tuple[str, ...]:
    sources = sorted(PACKAGE.rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return ms.__version__, sys.version, digest, _script()


@cache
def _common() -> frozenset[str]:
    """What every cell has: its state, which says nothing of what it computes."""
    return frozenset(vars(nn.Cell())) - {"training", "_cells", "_params"}


def _described(value, seen: set[int]) -> Iterator[str]:
    """Texts that are equal for equal values, whatever the process."""
    if isinstance(value, PLAIN):
        yield repr(value)
        return
    yield type(value).__qualname__
    if id(value) in seen:
        return
    if isinstance(value, Parameter):
        yield f"{value.name}{value.dtype}{value.shape}"
    elif isinstance(value, Tensor):
        yield from _described(value.asnumpy(), seen)
    elif isinstance(value, np.ndarray | np.generic):
        yield f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
    elif isinstance(value, dict):
        yield from _all((part for pair in value.items() for part in pair), seen)
    elif isinstance(value, tuple | list):
        yield from _all(value, seen)
    elif isinstance(value, FunctionType | MethodType | BuiltinFunctionType):
        yield f"{value.__module__}.{value.__qualname__}"
        cells = getattr(value, "__closure__", None) or ()
        yield from _all((cell.cell_contents for cell in cells), seen | {id(value)})
    elif isinstance(value, type):
        yield f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, ms.Type):
        yield str(value)
    else:
        yield from _parts(value, seen | {id(value)})


def _parts(value, seen: set[int]) -> Iterator[str]:
    """A cell, a primitive or an object of ours, by its attributes."""
    ours_too = type(value).__module__.partition(".")[0] == "emu3"
    if not (ours_too or isinstance(value, nn.Cell | ops.Primitive)):
        raise Unnamed(f"{type(value)}")
    left_out = _common() if isinstance(value, nn.Cell) else ()
    for name, part in vars(value).items():
        if name not in left_out:
            yield name
            yield from _described(part, seen)


def _all(values: Iterable, seen: set[int]) -> Iterator[str]:
    for value in values:
        yield from _described(value, seen)
    yield "end"
