"""rFID and LPIPS of two folders of pictures, by torch-fidelity and lpips in another Python."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from emu3.errors import InputError
from emu3.options import option

PROGRAM = Path(__file__).with_name("peer_distances_torch.py")
INSTALL = "pip install torch torchvision torch-fidelity lpips"


@dataclass(frozen=True)
class PeerOptions:
    """Who judges with networks, None for nobody, and the Python that has them."""

    peer: str | None = option(
        "torch also measures rFID (torch-fidelity) and LPIPS (lpips, AlexNet) (default: nobody)",
        choices=["torch"],
    )
    peer_python: str = option(
        "the Python that has torch, torch-fidelity and lpips (default: this one)",
        sys.executable,
        metavar="PYTHON",
    )


def distances(python: str, first: Path, second: Path) -> dict:
    """`rfid`, `lpips`, and `about`, what measured them, of pictures of the same names.

    Raises:
        InputError: that Python does not run, or lacks a package.
    """
    if not PROGRAM.exists():
        raise InputError(
            "--peer torch needs the peers, which an installed wheel leaves out; allowed: a "
            "checkout of the repository; leave --peer out"
        )
    command = [python, str(PROGRAM), str(first), str(second)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(f"{python} does not run: {error.strerror}; change --peer-python") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(
            f"--peer torch failed in {python}: {reason}; allowed: a Python with torch-fidelity and "
            f"lpips ({INSTALL}); change --peer-python; the other scores are saved"
        )
    return json.loads(done.stdout.strip().splitlines()[-1])
