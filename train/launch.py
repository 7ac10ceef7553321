"""Start a module in several processes here: `python -m train.launch -n 2 MODULE ...`.

A thin layer over MindSpore's dynamic cluster (one scheduler, N workers): signals reach every
worker, the first failure ends the others, and the exit code is that worker's own.
"""

if not __package__:  # started by its path
    import by_path

    by_path.run_as_module(__file__)

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from emu3.cli.shell import INTERRUPTED, command, leave
from emu3.errors import InputError
from emu3.files import writable_folder
from emu3.options import option, whole

GRACE = 20.0  # seconds that workers have to end by themselves once one of them failed
POLL = 0.2
SCHEDULER = (
    "import mindspore as ms; from mindspore.communication import init; ms.set_device('CPU'); init()"
)


JOB = ("MS_ROLE", "MS_WORKER_NUM", "MS_SCHED_HOST", "MS_SCHED_PORT", "MS_NODE_ID")
NOISE = b"[INFO] DISTRIBUTED("  # MindSpore says so at any log level
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def port_number(text: str) -> int:
    """A TCP port, for argparse."""
    if not text.isdigit() or not 0 < int(text[:6]) < 2**16:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a port from 1 to 65535")
    return int(text)


@dataclass(frozen=True)
class Options:
    """What is started, how often, and where it writes."""

    processes: int = option("how many", 1, whole(1, 1024), also=("-n",))
    port: int | None = option("of the scheduler (default: a free one)", None, port_number)
    logs: str = option("folder of the other ranks' output", "outputs/logs", metavar="FOLDER")
    module: str = option("Python module to run", positional=True)
    arguments: list[str] = option("what it is given", positional=True, nargs=argparse.REMAINDER)


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_port(port: int) -> None:
    """See that the scheduler can listen.

    Raises:
        InputError: something else does, or the port is not ours to take.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"cannot listen at port {port}: {error.strerror}; allowed: a free port; change "
                "--port or leave it out"
            ) from None


def start(
    command: Sequence[str], processes: int, port: int, logs: Path
) -> tuple[subprocess.Popen, list[subprocess.Popen]]:
    """The scheduler and the workers; worker 0 writes to the terminal, the others to log files."""
    shared = {
        "MS_WORKER_NUM": str(processes),
        "MS_SCHED_HOST": "127.0.0.1",
        "MS_SCHED_PORT": str(port),
        "MS_SUBMODULE_LOG_v": "{DISTRIBUTED:3}",
        "GLOG_v": os.environ.get("GLOG_v", "3"),  # noqa: SIM112
    }
    threads = max(1, (os.cpu_count() or 1) // processes)
    base = {"OMP_NUM_THREADS": str(threads), "MS_TOPO_TIMEOUT": "300"} | os.environ | shared
    scheduler = subprocess.Popen(
        [sys.executable, "-c", SCHEDULER],
        env=base | {"MS_ROLE": "MS_SCHED"},
        start_new_session=True,  # Ctrl-C is for the workers, which save with its help
        stdout=(logs / "scheduler.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    workers = []
    for rank in range(processes):
        output = None if rank == 0 else (logs / f"worker_{rank}.log").open("w")
        workers.append(
            subprocess.Popen(
                command,
                # DEVICE_ID last: an exported one would put all workers on one card.
                env=base
                | {"MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(rank), "DEVICE_ID": str(rank)},
                stdout=output,
                stderr=subprocess.PIPE if rank == 0 else subprocess.STDOUT,
            )
        )
    return scheduler, workers


def _pass_on(lines: BinaryIO | None) -> None:
    """What worker 0 says on stderr, without MindSpore's two lines about its connections."""
    for line in lines or ():
        if not line.startswith(NOISE):
            with contextlib.suppress(OSError):  # the terminal is gone
                os.write(2, line)


def wait(workers: list[subprocess.Popen], scheduler: subprocess.Popen | None = None) -> int:
    """Exit code of the job: 0 when all workers ended well, else that of the first to fail.

    Workers that were told to stop may take their time: the first one saves.
    """
    watched = [*workers, *filter(None, [scheduler])]
    failed, deadline = 0, None
    while True:
        running = any(worker.poll() is None for worker in workers)
        codes = [process.poll() for process in watched]
        # Others fail for want of the one that a signal ended.
        wrong = sorted(code for code in codes if code and code != INTERRUPTED)
        if not failed and wrong:
            failed = wrong[0] if wrong[0] < 0 else next(c for c in codes if c in wrong)
            _say_killed(codes.index(failed), failed, len(workers))
            deadline = time.monotonic() + GRACE
        if not running:
            break
        if deadline is not None and time.monotonic() > deadline:
            for worker in workers:
                worker.kill()
        time.sleep(POLL)
    failed = failed or next((w.returncode for w in workers if w.returncode), 0)
    return failed if failed >= 0 else 128 - failed


def _say_killed(rank: int, code: int, workers: int) -> None:
    """Name the process that a signal ended: it can say nothing itself."""
    if code < 0:
        name = f"worker {rank}" if rank < workers else "the scheduler"
        why = ": the machine may be out of memory" if code == -signal.SIGKILL else ""
        print(f"{name} was ended by {signal.Signals(-code).name}{why}", flush=True)


def _report(
    workers: list[subprocess.Popen], scheduler: subprocess.Popen | None, logs: Path
) -> None:
    """Say which of the processes that write to log files failed, and their last line."""
    named = {f"worker {rank}": (worker, f"worker_{rank}") for rank, worker in enumerate(workers)}
    del named["worker 0"]
    if scheduler is not None:
        named["the scheduler"] = scheduler, "scheduler"
    for name, (process, stem) in named.items():
        if (process.poll() or 0) > 0:
            path = logs / f"{stem}.log"
            print(f"{name} ended with code {process.returncode}: {_last_line(path)} ({path})")


def _last_line(path: Path) -> str:
    """The last line, or of MindSpore's tracebacks the one that says what is wrong."""
    said = path.read_bytes().strip().splitlines()
    lines = [line.decode("utf-8", "replace") for line in said if not line.startswith(NOISE)]
    wrong = [line for line in lines if re.match(r"\w*Error:|\[(ERROR|CRITICAL)\]", line)]
    return (wrong or lines or ["nothing said"])[-1][:500]


def run(command: Sequence[str], processes: int, port: int | None, logs: Path) -> int:
    """Run `command` in `processes` workers; returns the job's exit code."""
    if port is not None:
        check_port(port)
    if processes == 1:
        alone = {name: value for name, value in os.environ.items() if name not in JOB}
        scheduler, workers = None, [subprocess.Popen(command, env=alone)]
    else:
        scheduler, workers = start(command, processes, port or free_port(), logs)

    said = threading.Thread(target=_pass_on, args=(workers[0].stderr,), daemon=True)
    said.start()

    def forward(number: int, frame: object) -> None:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    # nohup has SIGHUP ignored, and so it stays.
    caught = [s for s in SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, forward) for s in caught}
    try:
        code = wait(workers, scheduler)
        if code not in (0, INTERRUPTED):
            _report(workers, scheduler, logs)
        return code
    finally:
        for worker in filter(None, [*workers, scheduler]):
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        said.join(GRACE)
        for number, handler in before.items():
            signal.signal(number, handler)


def launch(options: Options) -> int:
    """Run the module; returns the job's exit code."""
    command = [sys.executable, "-m", options.module, *options.arguments]
    logs = writable_folder(Path(options.logs), "--logs")
    return run(command, options.processes, options.port, logs)


build_parser, main = command(
    "train.launch", "Start a module in several processes here.", Options, launch
)

if __name__ == "__main__":
    leave(main())
