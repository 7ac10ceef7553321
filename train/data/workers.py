"""Processes that share work with the one a person started; they import just what they are given."""

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from emu3.errors import InputError


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """So many worker processes, which start with their first work and end with the block.

    Raises:
        InputError: one of them died.
    """
    # A fork of a process in which MindSpore runs threads may hang.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, initializer=_ignore_interrupts)
    try:
        yield executor
    except BrokenProcessPool:
        raise InputError(
            f"a worker process died, perhaps for lack of memory; lower --workers {workers}"
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; the parent alone answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
