"""Measuring, for this process and for a peer's alike: times, bandwidth, memory. Imports no network.

A Timing is one number per repeat; what is compared runs in turns, so that both see one machine.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata

READ_BYTES = 2**28
MOST_REPEATS, MOST_TOGETHER, MOST_TOKENS = 10_000, 1024, 2**18  # of any measurement
CLEAR_PEAK = "5"  # what Linux wants in clear_refs to forget the peak so far


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat."""

    seconds: list[float]

    @property
    def median(self) -> float:
        """Middle of the repeats."""
        return statistics.median(self.seconds)

    def spread(self, scale: float = 1.0) -> str:
        """Fastest and slowest, times `scale`."""
        return f"{min(self.seconds) * scale:.4g}-{max(self.seconds) * scale:.4g}"

    def ratio(self, other: "Timing") -> float:
        """How often our time fits into `other`'s: the median over pairs of repeats."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds))


def timed(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def take_turns(runs: dict[str, Callable[[], float]], repeats: int) -> dict[str, Timing]:
    """Call each of `runs`, which give seconds, in turn: once uncounted, then `repeats` times."""
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(run())
    return {name: Timing(values) for name, values in seconds.items()}


def read_bandwidth(threads: int) -> float:
    """Bytes per second that `threads` threads read, each summing its part of a large array."""
    import numpy as np

    parts = np.array_split(np.ones(READ_BYTES // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        seconds = [timed(lambda: list(pool.map(np.sum, parts))) for _ in range(5)]
    return READ_BYTES / min(seconds)


def memory_bytes(field: str) -> int:
    """VmRSS, memory in use now, or VmHWM, its peak, of this process; 0 where Linux is not."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            lines = [line for line in file if line.startswith(field + ":")]
    except OSError:
        return 0
    return int(lines[0].split()[1]) * 1024 if lines else 0


def peak_above(run: Callable[[], object]) -> int:
    """Bytes by which one call raises this process's memory above what was in use before it."""
    before = memory_bytes("VmRSS")
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write(CLEAR_PEAK)
    except OSError:
        pass  # the peak is then that of the whole process: an upper bound
    run()
    return max(0, memory_bytes("VmHWM") - before)


def machine(packages: tuple[str, ...] = ("mindspore", "numpy", "transformers")) -> str:
    """One line on processor, cores and versions."""
    versions = [f"{name} {metadata.version(name)}" for name in packages]
    parts = (processor(), f"{os.cpu_count()} cores", f"Python {platform.python_version()}")
    return ", ".join((*parts, *versions))


def processor() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
