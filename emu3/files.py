"""Files that are never half-written: a temporary name first, then one rename; JSON objects."""

import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emu3.errors import InputError

# Hidden files under way: who wrote them, and on which machine.
HOST = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())[:40]
TEMPORARY = re.compile(r"\.emu3-([A-Za-z0-9]*)-([0-9]+)-")


@contextmanager
def temporary_path(folder: Path, suffix: str = "") -> Iterator[Path]:
    """Yield the path of a new hidden file in `folder` that is gone after the block.

    `own_folder` removes it where the process is killed.

    Raises:
        OSError: of that file; names `folder`, for nobody knows the hidden one.
    """
    prefix = f".emu3-{HOST}-{os.getpid()}-"
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=folder)
    os.close(handle)
    temporary = Path(name)
    try:
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        yield temporary
    except OSError as error:
        if error.filename != name:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place when the block succeeds.

    Raises:
        InputError: the folder cannot be created or written.
        OSError: names `path` where the system names no file, as for a full disk.
    """
    path = Path(path)
    with temporary_path(writable_folder(path.parent), path.suffix) as temporary:
        try:
            yield temporary
            os.replace(temporary, path)
        except OSError as error:
            if error.errno is not None and error.filename in (None, str(temporary)):
                raise OSError(error.errno, error.strerror, str(path)) from None
            raise


def place_new(temporary: Path, path: Path) -> None:
    """Give a finished file its name, never over another one.

    Raises:
        FileExistsError: there is one.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        path.touch(exist_ok=False)
        os.replace(temporary, path)


def own_folder(folder: str | Path, flag: str = "--output") -> Path:
    """`writable_folder`, without what killed processes of ours left half-written in it."""
    folder = writable_folder(folder, flag)
    with os.scandir(folder) as entries:
        for entry in entries:
            found = TEMPORARY.match(entry.name)
            if found and found[1] == HOST and not _is_alive(int(found[2])):
                Path(entry.path).unlink(missing_ok=True)
    return folder


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's
    return True


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
        raise InputError(f"{path} is no regular file; allowed: a file on disk; change {flag}")


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
    """The first `stem_NNNN.suffix` in `folder` of whose number there is no file yet."""
    pattern = re.compile(re.escape(stem) + "_([0-9]{4,})")
    found = (pattern.match(name) for name in os.listdir(folder))
    taken = {int(match[1]) for match in found if match}
    number = next(number for number in range(len(taken) + 1) if number not in taken)
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
