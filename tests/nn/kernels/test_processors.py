"""Kernels as other processors run them, against this machine's library: 128-bit vectors of x86-64
without AVX, and of aarch64 where a cross compiler and QEMU are (Debian: g++-aarch64-linux-gnu and
qemu-user). That library is held against MindSpore's operators by the tests of networks' parts."""

import ctypes
import platform
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emu3.nn.forms import quantised
from emu3.nn.kernels import library, operators
from emu3.nn.masked import MASKED
from emu3.tensorfile import from_bfloat16, to_bfloat16

pytestmark = pytest.mark.skipif(operators.library() is None, reason="no compiler for kernels here")

CROSS, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
FLAGS = tuple("-O1" if flag == "-O3" else flag for flag in library.FLAGS)  # compiles faster
SYSROOT = "/usr/aarch64-linux-gnu"
ROWS, PLACES, SLOTS, HEADS, GROUPS, WIDTH = 2, 3, 21, 4, 2, 10  # of a decoding step
WIDE, INNER = 70, 75
RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def positive(*shape: int) -> np.ndarray:
    return np.abs(floats(*shape))


def zeros(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [np.zeros(shape, np.float32) for shape in shapes]


def stored(form: str, *shapes: tuple[int, int]) -> list[np.ndarray]:
    """Matrices of a form, then their scales."""
    matrices = [floats(*shape) for shape in shapes]
    if form == "float32":
        return matrices
    if form == "bfloat16":
        return [to_bfloat16(matrix) for matrix in matrices]
    return [part for kind in zip(*map(quantised, matrices)) for part in kind]


def product(form: str, rows: int) -> list[np.ndarray]:
    shapes = (37, 133), (5, 133)
    return [floats(rows, 133), *stored(form, *shapes), *zeros((rows, 42))]


def hidden(batch: int, rows: int, keys: int) -> np.ndarray:
    """Causal for the last `rows` of `keys`."""
    seen = np.arange(keys) <= np.arange(keys - rows, keys)[:, None]
    return np.repeat(np.where(seen, np.float32(0), np.float32(MASKED))[None, None], batch, 0)


def attention() -> list[np.ndarray]:
    return [floats(2, 4, 37, 10), floats(2, 2, 41, 10), floats(2, 2, 41, 10), hidden(2, 37, 41)]


def step(cache: str, line: int) -> list[np.ndarray]:
    """The inputs of a step's attention, x of `line` numbers a place."""
    places = ROWS * PLACES
    bias = np.full((ROWS, 1, PLACES, SLOTS), MASKED, np.float32)
    bias[..., 3:18] = 0
    first = np.arange(ROWS * GROUPS).reshape(ROWS, 1, -1) * SLOTS
    where = (first + np.arange(PLACES)[:, None] + 15).astype(np.int32).reshape(-1)
    kept = [floats(ROWS * GROUPS * SLOTS, WIDTH) for _ in "kv"]
    if cache == "bfloat16":
        kept = [to_bfloat16(each) for each in kept]
    return [floats(places, line), floats(places, WIDTH), floats(places, WIDTH), bias, where, *kept]


def step_layer(form: str, cache: str) -> list[np.ndarray]:
    heads, groups = HEADS * WIDTH, GROUPS * WIDTH
    shapes = (heads, WIDE), (groups, WIDE), (groups, WIDE), (WIDE, heads)
    shapes += (INNER, WIDE), (INNER, WIDE), (WIDE, INNER)
    eps = np.array([1e-5], np.float32)
    inputs = [*step(cache, WIDE), floats(WIDE), floats(WIDE), eps, *stored(form, *shapes)]
    return [*inputs, *zeros((ROWS * PLACES, WIDE))]


def norm(*maps: tuple[int, ...]) -> list[np.ndarray]:
    """x, weight, bias, settings (groups, eps, swish), maps of scale and shift."""
    settings = np.array([32, 1e-6, 1], np.float32)
    return [floats(2, 64, 6, 10), floats(64), floats(64), settings, *(floats(*m) for m in maps)]


TERMS = np.array([0.5, 1e-2, 0.9**3, 0.95**3, 0.1, 0.9, 0.95, 1e-6], np.float32)
DROP = np.array([2**30, 7], np.int32)  # a quarter, and what the seed starts from
SEED = np.zeros(1, np.int32)
FORMS = ("float32", "bfloat16", "int8")
MAPS = (2, 64, 3, 5), (2, 64, 3, 5)  # of scale and shift
LINE, STEP_OUT = (HEADS + 2 * GROUPS) * WIDTH, (ROWS * PLACES, HEADS * WIDTH)
PIXELS, CHANNELS = (2, 64, 6, 10), (64,)
QUERY, KEYS = (2, 4, 37, 10), (2, 2, 41, 10)
CONV, WEIGHT, CONVOLVED = (2, 20, 9, 13), (35, 20, 3, 3), (2, 35, 9, 13)
# What each kernel is given: inputs, then outputs.
CALLS: dict[str, Callable[[], list[np.ndarray]]] = {
    **{f"product_{form}": lambda form=form: product(form, 7) for form in FORMS},
    **{
        f"lines_{form}": lambda form=form: [
            np.array([[3, 0], [8, 3]], np.int32),
            *stored(form, (9, 133)),
            *zeros((2, 2, 133)),
        ]
        for form in FORMS
    },
    **{
        f"widen_{form}": lambda form=form: [*stored(form, (9, 133)), *zeros((9, 133))]
        for form in FORMS
    },
    "matmul": lambda: [floats(19, 270), floats(43, 270), *zeros((19, 43))],
    "fill_cache": lambda: [
        floats(2, 3, 5, 8),
        floats(2, 3, 5, 8),
        *(np.ones((2 * 3 * 7, 8), np.float32) for _ in range(2)),
        np.ones(1, np.float32),
    ],
    "marks": lambda: [floats(90, 101), floats(7), np.zeros(4, np.int32)],
    "gated_matmul": lambda: [
        floats(19, 270),
        floats(43, 270),
        floats(43, 270),
        *zeros((19, 43)),
    ],
    "rms_norm": lambda: [floats(70, 21), floats(21), TERMS[7:], *zeros((70, 21))],
    "rms_norm_grad": lambda: [
        floats(70, 21),
        floats(21),
        TERMS[7:],
        floats(70, 21),
        *zeros((70, 21), (21,)),
    ],
    "swiglu": lambda: [floats(90, 101), 50 * floats(90, 101), *zeros((90, 101))],
    "swiglu_grad": lambda: [*(floats(90, 101) for _ in "gus"), *zeros((90, 101), (90, 101))],
    "cross_entropy": lambda: [
        9 * floats(5, 37),
        np.arange(5, dtype=np.int32) * 9,
        *zeros((5,), (5, 37)),
    ],
    "heads": lambda: [floats(2, 7, 30), floats(1, 7, 10), *zeros((2, 3, 7, 10))],
    "heads_grad": lambda: [floats(2, 3, 7, 10), *zeros((2, 7, 30))],
    "rotary": lambda: [floats(2, 7, 30), floats(1, 7, 10), floats(1, 7, 10), *zeros((2, 3, 7, 10))],
    "rotary_grad": lambda: [
        floats(2, 3, 7, 10),
        floats(1, 7, 10),
        floats(1, 7, 10),
        *zeros((2, 7, 30)),
    ],
    "attention": lambda: [*attention(), *zeros((2, 37, 40))],
    "attention_grad": lambda: [*attention(), floats(2, 37, 40), *zeros(QUERY, KEYS, KEYS)],
    "dropped_attention": lambda: [*attention(), DROP, *zeros((2, 37, 40)), SEED],
    "dropped_attention_grad": lambda: (
        [*attention(), DROP, SEED, floats(2, 37, 40), *zeros(QUERY, KEYS, KEYS)]
    ),
    "dropout": lambda: [floats(90, 101), DROP, *zeros((90, 101)), SEED],
    "dropout_grad": lambda: [floats(90, 101), DROP, SEED, *zeros((90, 101))],
    **{
        f"step_attention_{cache}": lambda cache=cache: [*step(cache, LINE), *zeros(STEP_OUT)]
        for cache in FORMS[:2]
    },
    **{
        f"step_layer_{form}_{cache}": lambda form=form, cache=cache: step_layer(form, cache)
        for form in FORMS[1:]
        for cache in FORMS[:2]
    },
    "conv": lambda: [floats(*CONV), floats(*WEIGHT), floats(35), *zeros(CONVOLVED)],
    "conv_grad_x": lambda: [floats(*CONVOLVED), floats(*WEIGHT), *zeros(CONV)],
    "conv_grad_weight": lambda: (
        [floats(*CONV), floats(*WEIGHT), floats(*CONVOLVED), *zeros(WEIGHT, (35,))]
    ),
    "group_norm": lambda: [*norm(), *zeros(PIXELS)],
    "group_norm_grad": lambda: [*norm(), floats(*PIXELS), *zeros(PIXELS, CHANNELS, CHANNELS)],
    "mapped_norm": lambda: [*norm(*MAPS), *zeros(PIXELS)],
    "mapped_norm_grad": lambda: (
        [*norm(*MAPS), floats(*PIXELS), *zeros(PIXELS, CHANNELS, CHANNELS, *MAPS)]
    ),
    "double_pixels": lambda: [floats(2, 3, 5, 7), *zeros((2, 3, 10, 14))],
    "double_pixels_grad": lambda: [floats(2, 3, 10, 14), *zeros((2, 3, 5, 7))],
    "adamw": lambda: (
        [
            floats(300),
            floats(300),
            positive(300),
            floats(300),
            TERMS,
            *zeros((100,), (10, 20), (1,)),
        ]
    ),
    "adamw_of_many": lambda: (
        [
            TERMS,
            TERMS[4:6],
            floats(33),
            floats(7, 5),
            floats(33),
            floats(7, 5),
            positive(33),
            positive(7, 5),
            floats(33),
            floats(7, 5),
            *zeros((1,)),
        ]
    ),
    "sum_of_squares": lambda: [floats(33), floats(7, 5), *zeros((1,))],
    "short_nt": lambda: [floats(13, 37), floats(35, 37), *zeros((13, 35))],
    "short_nn": lambda: [floats(13, 37), floats(37, 35), *zeros((13, 35))],
    "short_tn": lambda: [floats(37, 13), floats(37, 35), *zeros((13, 35))],
    "muon_of_many": lambda: (
        [
            np.append(TERMS, TERMS.dtype.type(5)),
            *(floats(*size) for _ in range(3) for size in ((5, 9), (9, 5))),
            *zeros((1,)),
        ]
    ),
}


def called(path: Path, name: str, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What the arrays hold after a kernel of a library of this machine."""
    arrays = [array.copy() for array in arrays]
    count, loaded = len(arrays), library.loaded(path)
    shapes = [(ctypes.c_int64 * array.ndim)(*array.shape) for array in arrays]
    data = (ctypes.c_void_p * count)(*(array.ctypes.data for array in arrays))
    axes = (ctypes.c_int * count)(*(array.ndim for array in arrays))
    shape = (ctypes.c_void_p * count)(*map(ctypes.addressof, shapes))
    loaded.set_threads(2)
    assert getattr(loaded, name)(count, data, axes, shape, None, None, None) == 0
    return arrays


def emulated(runner: Path, name: str, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The same by a program for another processor, as runner.cpp wants it."""
    numbers = lambda *values: struct.pack(f"<{len(values)}q", *values)  # noqa: E731
    told = [numbers(len(name)), name.encode(), numbers(2, len(arrays))]
    for array in arrays:
        told += [numbers(array.ndim, array.nbytes, *array.shape), array.tobytes()]
    command = [EMULATOR, "-L", SYSROOT, str(runner)]
    done = subprocess.run(command, input=b"".join(told), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    made, place = [], 0
    for array in arrays:
        part = done.stdout[place : place + array.nbytes]
        made.append(np.frombuffer(part, array.dtype).reshape(array.shape))
        place += array.nbytes
    assert place == len(done.stdout)
    return made


@pytest.fixture(scope="module")
def plain() -> Path:
    """The library as an x86-64 without AVX has it."""
    if platform.machine() != "x86_64":
        pytest.skip("no x86-64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "processor_flags", lambda: [()])
        patch.setattr(library, "FLAGS", FLAGS)
        return library.built(library.compiler())


@pytest.fixture(scope="module")
def arm(tmp_path_factory) -> Path:
    """The kernels and their runner as a program for aarch64."""
    if not (shutil.which(CROSS) and shutil.which(EMULATOR)):
        pytest.skip("no cross compiler or no emulator")
    path = tmp_path_factory.mktemp("arm") / "runner"
    sources = [*sorted(library.FOLDER.glob("*.cpp")), Path(__file__).with_name("runner.cpp")]
    flags = [flag for flag in FLAGS if flag != "-shared"]
    include = ["-I", str(library.FOLDER), "-rdynamic", "-ldl", "-o", str(path)]
    library.compiled([CROSS, *flags, *map(str, sources), *include])
    return path


def check(name: str, run: Callable, path: Path) -> None:
    arrays = CALLS[name]()
    wanted, made = called(operators.library(), name, arrays), run(path, name, arrays)
    assert any((now != before).any() for now, before in zip(wanted, arrays))
    for ours, theirs in zip(made, wanted):
        if ours.dtype != np.float32:  # whole numbers, and bfloat16 that may be one unit apart
            wide = ours.dtype == np.uint16
            ours, theirs = (from_bfloat16(x) if wide else x.astype(float) for x in (ours, theirs))
            assert np.abs(ours - theirs).max() <= (2**-8 * np.abs(theirs).max() if wide else 0)
        else:
            assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_every_kernel_is_called_here():
    text = "".join(path.read_text() for path in library.FOLDER.glob("*.cpp"))
    kernels = set(re.findall(r'extern "C" int (\w+)\(', text))
    assert kernels and kernels <= set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_vectors_of_128_bits_give_the_same(name, plain):
    check(name, called, plain)


@pytest.mark.parametrize("name", CALLS)
def test_neon_gives_the_same(name, arm):
    check(name, emulated, arm)
