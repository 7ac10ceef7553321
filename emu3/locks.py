"""One writer a folder: a lock file with the holder's process id."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emu3.errors import InputError
from emu3.files import writable_folder

LOCK = ".lock"


@contextmanager
def locked_folder(path: str | Path, flag: str) -> Iterator[Path]:
    """Hold the folder `path`, made if needed, against every other process for the block.

    The system drops the lock of a process that died, however it died; its file is taken over.

    Raises:
        InputError: another process holds it; names the folder, that process and `flag`.
    """
    folder = writable_folder(path, flag)
    handle = _held(folder, flag)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone
            (folder / LOCK).unlink()
        os.close(handle)


def _held(folder: Path, flag: str) -> int:
    """The open lock file of `folder`, locked, with our process id in it."""
    while True:
        handle = _opened(folder / LOCK, flag)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise InputError(
                f"folder {folder} is being written by process {holder}; wait for it, stop it, or "
                f"change {flag}"
            ) from None
        except OSError:  # a file system without locks: the command works as it did before them
            return handle
        # The last holder may have removed this file between our opening and locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(folder / LOCK)):
                os.truncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                return handle
        os.close(handle)


def _opened(path: Path, flag: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; change {flag}") from None
