"""Run the suite: two processes at once, each on half of the cores, or as pytest's arguments say.

Most tests keep one core busy, and MindSpore's threads get in each other's way where two processes
share all cores.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

# The web suite has a script and packages of its own: test_web.sh.
PYTEST = (sys.executable, "-m", "pytest", "--ignore=tests/web")
FIRST = ("tests/train", "tests/parallel", "tests/fuzz", "tests/nn")  # about half of the time
SECOND = [f"--ignore={folder}" for folder in FIRST]


def run_halves(cores: Sequence[int]) -> int:
    """Both halves, the first one's output after the second's; the exit code of what failed."""
    middle = len(cores) // 2
    with tempfile.TemporaryFile() as output:
        first = subprocess.Popen(
            [*PYTEST, *FIRST],
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, cores[:middle]),
        )
        second = subprocess.run(
            [*PYTEST, *SECOND], preexec_fn=lambda: os.sched_setaffinity(0, cores[middle:])
        )
        code = first.wait() or second.returncode
        output.seek(0)
        shutil.copyfileobj(output, sys.stdout.buffer)
    return code


def main(arguments: Sequence[str]) -> int:
    """The exit code of pytest."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if arguments or len(cores) < 2:
        return subprocess.run([*PYTEST, *arguments]).returncode
    return run_halves(cores)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
