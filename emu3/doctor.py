"""Whether this machine can run Emu3, and how: each check gives findings, none ends the others."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from emu3.benchmarks.measure import processor, read_bandwidth
from emu3.errors import InputError
from emu3.requirements import ASCEND, PYTHON, needed, stated_version, within

OK, SLOW, WRONG = "ok", "slow", "WRONG"
CARD = Path("/dev/davinci_manager")
ASCEND_FILES = {
    "Ascend driver": (Path("/usr/local/Ascend/driver/version.info"),),
    "CANN": (
        Path(os.environ.get("ASCEND_HOME_PATH", "/usr/local/Ascend/ascend-toolkit/latest"))
        / "version.cfg",
        Path("/usr/local/Ascend/ascend-toolkit/latest/opp/version.info"),
    ),
}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is (OK, SLOW or WRONG), and what was seen."""

    what: str
    state: str
    seen: str


def findings() -> Iterator[Finding]:
    """Everything there is to say, the slowest checks last."""
    yield Finding("machine", OK, f"{platform.platform()}, {processor()}")
    for check in (versions, ascend, threads, memory, caches, computing, compiler):
        try:
            yield from check()
        # Whatever a broken machine raises is what a doctor is asked for.
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            yield Finding(check.__name__, WRONG, f"{type(error).__name__}: {reason}")


def versions() -> Iterator[Finding]:
    """Python and every package against the ranges that setup.cfg states."""
    for name, allowed in needed():
        try:
            version = platform.python_version() if name == PYTHON else metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, WRONG, f"not installed; needed: {allowed}")
            continue
        state = OK if within(version, allowed) else WRONG
        yield Finding(name, state, f"{version} (needed: {allowed})")


def ascend(
    card: Path = CARD, files: dict[str, tuple[Path, ...]] | None = None
) -> Iterator[Finding]:
    """The card, its driver and CANN, where there is a card."""
    if not card.exists():
        yield Finding("device", OK, f"CPU (no Ascend card: {card} does not exist)")
        return
    yield Finding("device", OK, "Ascend")
    for name, places in (files or ASCEND_FILES).items():
        version = next(filter(None, map(stated_version, places)), None)
        if version is None:
            yield Finding(name, WRONG, f"not found: no version in {', '.join(map(str, places))}")
            continue
        state = OK if within(version, ASCEND[name]) else WRONG
        yield Finding(name, state, f"{version} (needed: {ASCEND[name]})")


def threads() -> Iterator[Finding]:
    """Cores, those this process may use, and a variable that holds them back."""
    allowed, cores = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    held = os.environ.get("OMP_NUM_THREADS")
    few = held is not None and held.isdigit() and int(held) < allowed
    seen = f"{allowed} of {cores} cores" + (f", OMP_NUM_THREADS={held}" if held else "")
    yield Finding("threads", SLOW if few else OK, seen)


def memory() -> Iterator[Finding]:
    """How fast memory is read, how much is free, and which weights of the released 8B fit."""
    from emu3 import runtime
    from emu3.estimate import WIDTHS, Work, estimate, gib
    from emu3.mllm import Emu3Config
    from emu3.names import WEIGHTS
    from emu3.tokenizer import Emu3VisionVQConfig

    rate = read_bandwidth(len(os.sched_getaffinity(0)))
    yield Finding("memory is read at", OK, f"{rate / 1e9:.1f} GB/s")
    free = runtime.available_memory_bytes()
    yield Finding("free memory", OK, "unknown" if free is None else gib(free))
    works = {form: Work(width=width) for form, width in WIDTHS.items() if runtime.computes(form)}
    if not runtime.on_ascend():  # computed in float32, whatever they are stored as
        works = {form: Work(width=WIDTHS["float32"], weights=form) for form in WEIGHTS}
    for form, work in works.items():
        peak = estimate(Emu3Config(), Emu3VisionVQConfig(), work).peak
        fits = "" if free is None else ("fits" if peak <= free else "does not fit")
        yield Finding(f"8B in {form}", OK, f"a 720x720 picture needs {gib(peak)}: {fits}")


def caches() -> Iterator[Finding]:
    """The folders for models and for what is compiled."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from emu3.nn.kernels.library import cache_folder

    for what, folder in (("model cache", Path(HF_HUB_CACHE)), ("kernel cache", cache_folder())):
        place = folder
        while not place.exists():
            place = place.parent
        state = OK if os.access(place, os.W_OK) else WRONG
        yield Finding(what, state, f"{folder}{'' if state == OK else ' cannot be written'}")


def computing() -> Iterator[Finding]:
    """A product on the device that would be chosen."""
    import mindspore as ms
    from mindspore import Tensor

    from emu3 import runtime

    device = runtime.setup()
    ones = Tensor([[1.0, 2.0], [3.0, 4.0]], ms.float32)
    right = (ones @ ones).asnumpy().tolist() == [[7.0, 10.0], [15.0, 22.0]]
    seen = f"MindSpore multiplies on {device}" if right else f"a product on {device} is wrong"
    yield Finding("computing", OK if right else WRONG, seen)


def compiler() -> Iterator[Finding]:
    """Whether kernels compile; without them operators of MindSpore do the work."""
    from emu3.nn.kernels import library

    try:
        path = library.built(library.compiler())
    except InputError as error:
        yield Finding("kernels", SLOW, str(error))
        return
    yield Finding("kernels", OK, f"{path.name}, compiled by {library.compiler()[0]}")


def verdict(found: list[Finding]) -> tuple[str, int]:
    """The last line, and the exit code: 1 when something is wrong."""
    wrong = [finding.what for finding in found if finding.state == WRONG]
    slow = [finding.what for finding in found if finding.state == SLOW]
    if wrong:
        return f"verdict: not ready: {', '.join(wrong)}", 1
    return f"verdict: ready, but slow: {', '.join(slow)}" if slow else "verdict: ready", 0
