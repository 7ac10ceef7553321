"""The one exception type for input a person can mend; commands turn it into exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """Bad input. The message names the value, what is allowed, and the flag to change."""


def shown(text: str, most: int = 60) -> str:
    """A text in quotes, cut where it is long."""
    cut = text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
    return repr(cut)


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
