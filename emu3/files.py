"""Files that are never half-written: a temporary name first, then one rename; JSON objects."""

import glob
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emu3.errors import InputError

JSON_BYTES = 2**28  # a list of a million features has 60 MB
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place when the block succeeds.

    Raises:
        InputError: the folder cannot be created or written.
    """
    path = Path(path)
    writable_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def writable_folder(folder: str | Path, flag: str = "--output") -> Path:
    """Create `folder` if needed and return it.

    Raises:
        InputError: it cannot be created or written; names `flag` as the option to change.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot create folder {folder}: {error.strerror}; change {flag}"
        ) from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"folder {folder} is not writable; change {flag}")
    return folder


def numbered_path(folder: Path, stem: str, suffix: str) -> Path:
    """The first `stem_NNNN.suffix` in `folder` that does not exist yet."""
    taken = {p.name for p in folder.glob(f"{glob.escape(stem)}_*")}
    number = 0
    while any(name.startswith(f"{stem}_{number:04d}") for name in taken):
        number += 1
    return folder / f"{stem}_{number:04d}{suffix}"


def read_json(
    path: Path, remedy: str = "fetch or save it again", limit: int = JSON_BYTES
) -> dict[str, Any]:
    """The object of a JSON file of at most `limit` bytes, with or without a byte order mark.

    Raises:
        InputError: no such regular file, or it holds something else; ends in `remedy`.
    """
    try:
        size = path.stat().st_size
        if not path.is_file() or size > limit:
            raise InputError(
                f"{path} has {size} bytes; allowed: a regular file of up to {limit}; {remedy}"
            )
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; {remedy}") from None
    return parse_object(content.removeprefix(BYTE_ORDER_MARK), path, remedy)


def parse_object(content: bytes, what: object, remedy: str) -> dict[str, Any]:
    """The object that JSON text in UTF-8 spells.

    Raises:
        InputError: it is no JSON, nested too deep, no object, or holds NaN, infinity or whole
            numbers of thousands of digits; names `what` and ends in `remedy`.
    """
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_no_number)
    except ValueError as error:
        raise InputError(f"{what} is no JSON: {error}; {remedy}") from None
    except RecursionError:
        raise InputError(f"{what} is nested too deep; allowed: plain objects; {remedy}") from None
    if not isinstance(value, dict):
        raise InputError(f"{what} holds no JSON object; {remedy}")
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
