"""A peer in a process of its own: started with a folder of settings and weights, asked in turns.

The peer answers each line it is sent with one line of JSON; `emu3.benchmarks.peers_torch` is the
other end.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from emu3.errors import InputError
from emu3.options import option

ROOT = Path(__file__).resolve().parents[2]
INSTALL = "pip install torch, or pip install -e .[torch-peer]"


@dataclass(frozen=True)
class PeerOptions:
    """Whom to compare with, None for nobody, and the Python that has it."""

    peer: str | None = option(
        "also run PyTorch on the same weights, in this same run (default: nobody)",
        choices=["torch"],
    )
    peer_python: str = option(
        "the Python that has torch and transformers (default: this one)",
        sys.executable,
        metavar="PYTHON",
    )


class Peer:
    """A running peer; use it in a with statement.

    Args:
        python: the interpreter.
        way: which of the peer's functions to run.
        settings: numbers and texts for it.
        model: its weights go over under their published names.
        arrays: what else goes over, each as a file of its own.

    Raises:
        InputError: it cannot start; says how to install it.
    """

    def __init__(
        self,
        python: str,
        way: str,
        settings: dict,
        model,
        arrays: dict[str, np.ndarray] | None = None,
    ) -> None:
        if not Path(__file__).with_name("peers_torch.py").exists():
            raise InputError(
                "--peer torch needs the peers, which an installed wheel leaves out; allowed: a "
                "checkout of the repository; leave --peer out"
            )
        self.python = python
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        model.save_pretrained(folder, "float32", max_shard_size=2**40)
        for name, array in (arrays or {}).items():
            save_file({name: array}, folder / f"{name}.safetensors")
        (folder / "settings.json").write_text(json.dumps(settings | {"way": way}))
        self.errors = open(folder / "errors.txt", "w+", encoding="utf-8")  # noqa: SIM115
        command = [python, "-c", START.format(root=str(ROOT)), str(folder)]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
            )
        except OSError as error:
            self.folder.cleanup()
            raise InputError(
                f"{python} does not run: {error.strerror}; change --peer-python"
            ) from None
        self.about = self._answer()

    def ask(self, command: str = "go") -> dict:
        """Send one word, wait for the answer.

        Raises:
            InputError: the peer ended instead.
        """
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # the answer will be missing, too
        return self._answer()

    def seconds(self, command: str = "go") -> float:
        """How long the peer took for one step of `command`."""
        return self.ask(command)["seconds"]

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.errors.seek(0)
        reason = (self.errors.read().strip().splitlines() or ["no message"])[-1]
        self.close()
        raise InputError(
            f"--peer torch failed in {self.python}: {reason}; allowed: a Python with torch and "
            f"transformers ({INSTALL}); change --peer-python"
        )

    def close(self) -> None:
        """End the peer and remove its folder."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        self.folder.cleanup()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exception: object) -> None:
        if not self.errors.closed:
            self.close()


START = """
import sys
sys.path.insert(0, {root!r})
from emu3.benchmarks.peers_torch import serve
serve(sys.argv[1])
"""
