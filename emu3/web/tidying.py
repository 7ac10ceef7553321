"""Files of the page are removed an hour after they were written.

Gradio makes a file of everything that is sent or shown. Its own `delete_cache` walks over a set
that may grow meanwhile, which ends its task for good.
"""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

AGE, PAUSE = 3600.0, 600.0  # seconds


def keep_tidy(folder: Path) -> None:
    """Remove old files of a folder now and then, from a thread that ends with the process."""

    def work() -> None:
        while True:
            time.sleep(PAUSE)
            remove_old(folder, AGE)

    threading.Thread(target=work, name="emu3-tidy", daemon=True).start()


def remove_old(folder: Path, age: float) -> None:
    """Remove files in and below a folder that have been there for `age` seconds.

    Folders stay: gradio may be about to write into one.
    """
    until = time.time() - age
    for inner, _, names in os.walk(folder):
        for path in (Path(inner, name) for name in names):
            with suppress(OSError):  # it is gone already
                if path.stat().st_ctime < until:  # copies have the mtime of what was copied
                    path.unlink()
