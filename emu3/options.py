"""Options as fields of frozen dataclasses: meaning, range and default of each stand in one place.

    @dataclass(frozen=True)
    class Options:
        ratio: str = option("width to height", "1:1", metavar="W:H")
        count: int = option("pictures of each prompt", 1, kind=positive_int)

`emu3.cli.shell` makes the parser of a command from them; `pipeline`'s settings are such, too.
"""

import argparse
import os
import unicodedata
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any, TypeVar

from emu3.errors import InputError, shown

Options = TypeVar("Options")

MOST = 2**31 - 1
SMALLEST, LARGEST = 1e-37, 3e38  # of float32, which computes
MOST_GUIDANCE = 1e6
MOST_CANDIDATES = 64
LONGEST_TEXT = 2**18
MOST_MARKS = 256  # Unicode's own streams allow 30; normalising long runs takes quadratic time


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


def checked(values: Options) -> Options:
    """Options that a program gave, as the command line would have taken them.

    Raises:
        InputError: a value that its reader refuses.
    """
    for item in fields(values):
        value, kind = getattr(values, item.name), item.metadata.get("kind")
        if value is None or kind is None:
            continue
        try:
            plain = value.item() if hasattr(value, "item") else value  # float32 rounds its text
            if kind(plain if isinstance(plain, str) else str(plain)) != plain:
                raise InputError(f"{item.name} = {shown(value)} is of another type; change it")
        except argparse.ArgumentTypeError as error:
            raise InputError(f"{item.name}: {error}; change it") from None
    return values


def whole(least: int, most: int = MOST) -> Callable[[str], int]:
    """A reader of whole numbers from `least` to `most`, for argparse."""

    def read(text: str) -> int:
        return _number(text, int, lambda x: least <= x <= most, f"a whole number {span}")

    span = f">= {least}" if most == MOST else f"from {least} to {most}"
    return read


def number(least: float, most: float) -> Callable[[str], float]:
    """A reader of numbers from `least` to `most`, for argparse."""

    def read(text: str) -> float:
        span = f"a number from {least:g} to {most:g}"
        return _number(text, float, lambda x: least <= x <= most, span)

    return read


def positive_int(text: str) -> int:
    """A whole number >= 1 of 31 bits, for argparse."""
    return whole(1)(text)


def non_negative_int(text: str) -> int:
    """A whole number >= 0 of 31 bits, for argparse."""
    return whole(0)(text)


def seed_number(text: str) -> int:
    """A whole number of 63 bits, for argparse; other programs draw theirs from as many."""
    return whole(0, 2**63 - 1)(text)


def non_negative_float(text: str) -> float:
    """A finite float32 >= 0, for argparse."""
    return _number(text, float, lambda x: 0 <= x <= LARGEST, "a number >= 0")


def positive_float(text: str) -> float:
    """A finite float32 > 0, for argparse."""
    return _number(text, float, lambda x: SMALLEST <= x <= LARGEST, "a number above 0")


def below_one(text: str) -> float:
    """A number in [0, 1), for argparse."""
    return _number(text, float, lambda x: 0 <= x < 1, "a number from 0 to below 1")


def probability(text: str) -> float:
    """A number in [1e-6, 1], for argparse: float32 sums of probabilities know no smaller ones."""
    return _number(text, float, lambda x: 1e-6 <= x <= 1, "a number from 0.000001 to 1")


def share(text: str) -> float:
    """A number in [0, 1], for argparse."""
    return _number(text, float, lambda x: 0 <= x <= 1, "a number from 0 to 1")


def temperature_number(text: str) -> float:
    """0, or a number by which float32 logits can be divided, for argparse."""
    fits = lambda x: x == 0 or 1e-3 <= x <= 1e3  # noqa: E731
    return _number(text, float, fits, "0 or a number from 0.001 to 1000")


def guidance_number(text: str) -> float:
    """How strongly a prompt may steer, for argparse."""
    allowed = f"a number from 0 to {MOST_GUIDANCE:.0f}"
    return _number(text, float, lambda x: 0 <= x <= MOST_GUIDANCE, allowed)


def path_text(text: str) -> str:
    """A path with ~ for the home folder, for argparse."""
    found = os.path.expanduser(text)
    if "\0" in found or not found:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no path")
    if found.startswith("~"):
        raise argparse.ArgumentTypeError(
            f"{shown(text)} names the home folder of nobody here; write ./~ for a file of that name"
        )
    return found


def words(text: str) -> str:
    """Text for a model, for argparse: UTF-8 that says something, of a length a model may read."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{shown(text)} says nothing; allowed: some words")
    return plain_text(text)


def plain_text(text: str) -> str:
    """Text for a model that may be empty, for argparse."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not UTF-8; allowed: UTF-8 text, see `locale`"
        ) from None
    if len(text) > LONGEST_TEXT:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is too long; allowed: {LONGEST_TEXT} characters"
        )
    run = 0
    for character in "" if text.isascii() else text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run > MOST_MARKS:
            raise argparse.ArgumentTypeError(
                f"{shown(text)} is no text; allowed: {MOST_MARKS} combining marks in a row"
            )
    return text


def _number(text: str, kind: type, fits: Callable, allowed: str):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        most = f" and up to {MOST}" if kind is int and ">=" in allowed else ""
        raise argparse.ArgumentTypeError(f"{shown(text)} is not {allowed}{most}")
    return value
