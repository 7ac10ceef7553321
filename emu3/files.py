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


def require_file(path: str | Path, what: str, flag: str) -> None:
    """Refuse what is no regular file: a pipe or a device may never end.

    Raises:
        InputError: there is none, or it is something else; names `flag`.
    """
    path = Path(path)
    try:
        found, regular = path.exists(), path.is_file()
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"no {what} {str(path)[:200]}: {reason}; change {flag}") from None
    if not found:
        raise InputError(f"no {what} {path}; change {flag}")
    if not regular:
        raise InputError(f"{path} is no regular file; allowed: a file with a {what}; change {flag}")


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


def read_json(path: Path, remedy: str = "fetch or save it again") -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        InputError: no such file, or it holds something else; ends in `remedy`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; {remedy}") from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}; {remedy}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; {remedy}")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
