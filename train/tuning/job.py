"""Whether the job of several processes that the environment speaks of is there."""

import os
import socket
import time

from emu3.errors import InputError

SCHEDULER_WAIT = 60.0  # seconds; the launcher starts it together with its workers
STATED = ("MS_WORKER_NUM", "MS_SCHED_HOST", "MS_SCHED_PORT")


def check_job(device: str) -> None:
    """Refuse a job that MindSpore would wait for without end, or abort in.

    Raises:
        InputError: names the variable that is left over.
    """
    if "MS_ROLE" not in os.environ:
        if "RANK_TABLE_FILE" in os.environ and device == "CPU":
            raise InputError(
                "RANK_TABLE_FILE is set, which is for Ascend alone; unset it, or change --device"
            )
        return
    missing = [name for name in STATED if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"MS_ROLE is set and {missing[0]} is not; allowed: what train.launch and msrun set; "
            "unset MS_ROLE to train in one process"
        )
    host, port = os.environ["MS_SCHED_HOST"], os.environ["MS_SCHED_PORT"]
    # Elsewhere a scheduler may come later, and MindSpore's own limits say how much.
    if host in ("127.0.0.1", "localhost") and not _answers(host, port):
        raise InputError(
            f"no scheduler listens at {host}:{port}, which MS_SCHED_PORT names; unset MS_ROLE to "
            "train in one process, or start several with train.launch"
        )


def _answers(host: str, port: str) -> bool:
    if not port.isdigit() or not 0 < int(port) < 2**16:
        return False
    until = time.monotonic() + SCHEDULER_WAIT
    while time.monotonic() < until:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return True
    return False
