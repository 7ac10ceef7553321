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

from emu3.errors import InputError, shown

JSON_BYTES = 2**28  # a list of a million features has 60 MB
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
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


def parse_object(content: bytes, what: object, remedy: str, unique: bool = False) -> dict[str, Any]:
    """The object that JSON text in UTF-8 spells; with `unique` no name may come twice in one.

    Raises:
        InputError: it is no JSON, nested too deep, no object, or holds NaN, infinity or whole
            numbers of thousands of digits; names `what` and ends in `remedy`.
    """
    try:
        pairs = _unique if unique else None
        text = content.decode("utf-8")
        value = json.loads(text, parse_constant=_no_number, object_pairs_hook=pairs)
    except ValueError as error:
        raise InputError(f"{what} is no JSON: {json_fault(error)}; {remedy}") from None
    except RecursionError:
        raise InputError(f"{what} is nested too deep; allowed: plain objects; {remedy}") from None
    if not isinstance(value, dict):
        raise InputError(f"{what} holds no JSON object; {remedy}")
    return value


def json_fault(error: Exception) -> str:
    """Why JSON text could not be read: of Python's words those that help here."""
    return "nested too deep" if isinstance(error, RecursionError) else str(error).split(";")[0]


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} stands in it twice")
    return found


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def note_settings(folder: Path, settings: dict) -> None:
    """Note what is made in a command's own `folder`, or see that it goes on with the same.

    Raises:
        InputError: what is there was made from other settings; names one.
    """
    path = folder / "settings.json"
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        write_json(path, settings)
        return
    before = read_json(path, "change --output")
    odd = next((key for key in settings | before if settings.get(key) != before.get(key)), None)
    if odd is not None:
        raise InputError(
            f"{folder} holds results for {odd} {shown(before.get(odd))}, not "
            f"{shown(settings.get(odd))}; allowed: the same, to go on; change --output"
        )


def natural_order(path: Path) -> tuple:
    """A key by which frame2 comes before frame10."""
    parts = re.split(r"([0-9]+)", path.name)
    return ([int(p) if i % 2 else p.casefold() for i, p in enumerate(parts)], path.name)
