"""The one exception type for input a person can mend; commands turn it into exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """Bad input. The message names the value, what is allowed, and the flag to change."""


def shown(value: object, most: int = 60) -> str:
    """A value for a message, cut where it is long."""
    if isinstance(value, str) and len(value) > most:
        return repr(f"{value[:most]}... ({len(value)} characters)")
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits have no text
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 2 * most else f"{text[: 2 * most - 3]}..."


@contextmanager
def about(what: str | Path, flag: str) -> Iterator[None]:
    """Let an InputError also name what it is about and the flag that gave it, where it does not.

    Raises:
        InputError: the block's, with both.
    """
    try:
        yield
    except InputError as error:
        if str(what) in str(error) and flag in str(error):
            raise
        raise InputError(f"{what}: {error} or change {flag}") from None


def gib(count: float) -> str:
    """Bytes in words, in GiB."""
    return f"{count / 2**30:.2f} GiB"
