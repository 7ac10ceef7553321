"""Numbers on the command line: what they may be, and several options alike."""

import argparse
from collections.abc import Callable


def add_numbers(parser, *options: tuple[str, int, str]) -> None:
    """Options (flag, default, meaning) that take a whole number from 1, in a parser or group."""
    for flag, default, what in options:
        parser.add_argument(
            flag,
            type=positive_int,
            default=default,
            metavar="N",
            help=f"{what} (default: %(default)s)",
        )


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
