"""The one exception type for input a person can mend; commands turn it into exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """Bad input. The message names the value, what is allowed, and the flag to change."""


def shown(value: object) -> str:
    """A value for a message, cut short; whole numbers of thousands of digits have no text."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 120 else f"{text[:117]}..."


@contextmanager
def about(what: str | Path, flag: str) -> Iterator[None]:
    """Let an InputError also name what it is about and the flag that gave it.

    Raises:
        InputError: the block's, with both.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error} or change {flag}") from None
