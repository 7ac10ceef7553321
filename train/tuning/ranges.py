"""What a value given as text may be: kinds for `emu3.options.option`, with bounds said in words.

Real numbers are looked at as float32, in which the trainer computes.
"""

import argparse
import math
import struct
from collections.abc import Callable

LARGEST_COUNT = 2**31 - 1
SMALLEST, LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # float32, subnormal numbers left out
FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
SHOWN = 40  # characters of a refused value


def whole(least: int, most: int = LARGEST_COUNT) -> Callable[[str], int]:
    """A whole number from `least` to `most`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise _refusal(text, f"a whole number from {least} to {most}")
        return value

    return read


def real(least: float, below: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """A number that float32 holds, from `least`, or `above` it, to less than `below`."""
    first = f"above {least:g}" if above and least else f"from {SMALLEST:.1e}"
    first = f"{'' if above or least else '0, or '}a number {first}"
    allowed = f"{first} to {f'below {below:g}' if below < math.inf else f'{LARGEST:.1e}'}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not abs(value) <= LARGEST or 0 < abs(value) < SMALLEST:
            raise _refusal(text, allowed)
        (held,) = struct.unpack("f", struct.pack("f", value))
        if not (held > least if above else held >= least) or not held < below:
            raise _refusal(text, allowed)
        return value

    return read


def _refusal(text: str, allowed: str) -> argparse.ArgumentTypeError:
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"
    return argparse.ArgumentTypeError(f"{shown!r} is not {allowed}")
