"""The compiled kernels: built by the machine's compiler on first use, kept in a cache folder.

All C++ sources of this folder make one library, so that they share one team of threads. Its name
holds a hash of sources, flags, compiler and processor: a change of any of them builds anew.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

from emu3.errors import InputError
from emu3.files import atomic_path

FOLDER = Path(__file__).parent
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-pthread", "-fno-math-errno")
# What sources may use, from the best down: the processor's features, and the flags they allow.
AVX512 = "-mavx512f -mavx512bw -mavx512dq -mavx512vl"
AVX512_NAMES = "avx512f avx512bw avx512dq avx512vl avx2 fma"
LEVELS = (
    (f"{AVX512_NAMES} avx512_bf16 amx_bf16", f"{AVX512} -mavx512bf16 -mamx-tile -mamx-bf16"),
    (f"{AVX512_NAMES} avx512_bf16", f"{AVX512} -mavx512bf16"),
    (AVX512_NAMES, AVX512),
    ("avx2 fma", ""),
)
SECONDS = 300


def compiler() -> tuple[str, ...]:
    """The command that compiles C++: $CXX, or the first there is.

    Raises:
        InputError: there is none.
    """
    named = os.environ.get("CXX")
    words = shlex.split(named) if named else [name for name in COMPILERS if shutil.which(name)][:1]
    if not words or shutil.which(words[0]) is None:
        raise InputError(
            f"no C++ compiler {named or 'c++, g++ or clang++'}: install one or set CXX"
        )
    return (shutil.which(words[0]), *words[1:])


def built(command: tuple[str, ...], compiling: Callable[[], None] = lambda: None) -> Path:
    """The library as this compiler makes it, from the cache or new; new ones after `compiling()`.

    Raises:
        InputError: the compiler fails, or the cache folder cannot be written or is not ours.
    """
    levels = processor_flags()
    flags = (*FLAGS, *levels[0])
    sources = sorted(path for path in FOLDER.iterdir() if path.suffix in (".cpp", ".h"))
    status = os.stat(command[0])
    marks = [*command, str(status.st_size), str(status.st_mtime_ns), *flags, platform.machine()]
    digest = hashlib.sha256("\n".join(marks).encode())
    for source in sources:
        digest.update(source.name.encode() + source.read_bytes())
    path = cache_folder() / f"kernels-{digest.hexdigest()[:20]}.so"
    if not (path.exists() and ours(path)):
        compiling()
        with atomic_path(path) as temporary:
            inputs = [str(source) for source in sources if source.suffix == ".cpp"]
            known = next((each for each in levels if _knows(command, each)), levels[0])
            compiled([*command, *FLAGS, *known, *inputs, "-o", str(temporary)])
    return path


def _knows(command: tuple[str, ...], flags: tuple[str, ...]) -> bool:
    """Whether a compiler, which may be older than the processor, takes some flags."""
    try:
        compiled([*command, *flags, "-fsyntax-only", "-x", "c++", os.devnull])
    except InputError:
        return False
    return True


def compiled(command: list[str]) -> None:
    """Run a compiler.

    Raises:
        InputError: it fails; holds the first line it says.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{command[0]} does not compile kernels: {error}") from None
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines() or [f"code {done.returncode}"]
        raise InputError(f"{command[0]} does not compile kernels: {said[0]}")


def cache_folder() -> Path:
    """The folder for what is compiled, ours alone.

    Raises:
        InputError: it cannot be made, or belongs to somebody else.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.path.expanduser(home)) / "emu3-mindspore"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"no cache folder {folder}: {error.strerror}; set XDG_CACHE_HOME"
        ) from None
    if not ours(folder):
        raise InputError(f"{folder} can be written by others; set XDG_CACHE_HOME")
    return folder


def ours(path: Path) -> bool:
    """Whether this user owns a path and nobody else may write it: code is loaded from there."""
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def processor_flags() -> list[tuple[str, ...]]:
    """Flags that let sources use this processor's vectors, best first; the last are none at all."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return [()]
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    features = set(line.split())
    fitting = [more.split() for needed, more in LEVELS if features.issuperset(needed.split())]
    return [*(("-mavx2", "-mfma", *more) for more in fitting), ()]


@cache
def loaded(path: Path) -> ctypes.CDLL:
    """The library in this process, which keeps it until the end."""
    return ctypes.CDLL(str(path))
