"""Options as fields of frozen dataclasses: meaning, range and default of each stand in one place.

    @dataclass(frozen=True)
    class Options:
        ratio: str = option("width to height", "1:1", metavar="W:H")
        count: int = option("pictures of each prompt", 1, kind=positive_int)

`emu3.cli.shell` makes the parser of a command from them; `pipeline`'s settings are such, too.
"""

import argparse
from collections.abc import Callable
from dataclasses import field
from typing import Any


def option(
    help: str,
    default: Any = None,
    kind: Callable[[str], Any] | None = None,
    **more: Any,
) -> Any:
    """A field of a dataclass that people set.

    Args:
        help: what it is for, in words; says what None stands for.
        default: of the field and of the command line.
        kind: reads and checks a text; by default the field's own type.
        more: `also`, other names of it; `positional`; arguments of `argparse.add_argument`.
    """
    return field(default=default, metadata={"help": help, "kind": kind, **more})


def group(leave_out: tuple[str, ...] = (), **defaults: Any) -> Any:
    """A field that is a dataclass of options itself, with other defaults than its own.

    Fields to `leave_out` are no options here and keep their defaults.
    """
    return field(kw_only=True, metadata={"leave_out": leave_out, "defaults": defaults})


def positive_int(text: str) -> int:
    """A whole number >= 1, for argparse."""
    return _number(text, int, lambda x: x >= 1, "a whole number >= 1")


def non_negative_int(text: str) -> int:
    """A whole number >= 0, for argparse."""
    return _number(text, int, lambda x: x >= 0, "a whole number >= 0")


def non_negative_float(text: str) -> float:
    """A finite number >= 0, for argparse."""
    return _number(text, float, lambda x: 0 <= x < float("inf"), "a number >= 0")


def positive_float(text: str) -> float:
    """A finite number > 0, for argparse."""
    return _number(text, float, lambda x: 0 < x < float("inf"), "a number above 0")


def below_one(text: str) -> float:
    """A number in [0, 1), for argparse."""
    return _number(text, float, lambda x: 0 <= x < 1, "a number from 0 to below 1")


def probability(text: str) -> float:
    """A number in (0, 1], for argparse."""
    return _number(text, float, lambda x: 0 < x <= 1, "a number above 0 and up to 1")


def share(text: str) -> float:
    """A number in [0, 1], for argparse."""
    return _number(text, float, lambda x: 0 <= x <= 1, "a number from 0 to 1")


def _number(text: str, kind: type, fits: Callable, allowed: str):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
    return value
