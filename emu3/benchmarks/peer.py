"""A peer in a process of its own: started with a folder of settings and weights, asked in turns.

The peer answers each line it is sent with one line of JSON; `emu3.benchmarks.peers_torch` and
`peers_llama_cpp` are the other ends.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from emu3.benchmarks.nets import Net, random_prompts
from emu3.cli.options import Device
from emu3.errors import InputError
from emu3.names import USE_TORCH
from emu3.options import option

ROOT = Path(__file__).resolve().parents[2]
# What a peer's Python needs, and how that is installed there.
NEEDS = {
    "torch": ("torch and transformers", "pip install torch, or pip install -e .[torch-peer]"),
    "llama-cpp": (
        "llama_cpp, gguf and safetensors",
        "pip install llama-cpp-python gguf safetensors, which compiles for some 10 minutes",
    ),
}


@dataclass(frozen=True)
class PeerOptions:
    """Whether to compare with PyTorch, None for nobody, and the Python that has it."""

    peer: str | None = option(
        "also run PyTorch on the same weights, in this same run (default: nobody)",
        choices=["torch"],
    )
    peer_python: str = option(
        "the Python that has torch and transformers (default: this one)",
        sys.executable,
        metavar="PYTHON",
    )


@dataclass(frozen=True)
class NetPeerOptions:
    """As `PeerOptions`, for language models, which llama.cpp runs, too."""

    peer: str | None = option(
        "also run PyTorch or llama.cpp on the same weights, in this same run (default: nobody)",
        choices=list(NEEDS),
    )
    peer_python: str = option(
        "the Python that has torch and transformers, or llama-cpp-python and gguf (default: this "
        "one)",
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
        kind: whose they are: "torch" or "llama-cpp".

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
        kind: str = "torch",
    ) -> None:
        module = f"peers_{kind.replace('-', '_')}"
        if not Path(__file__).with_name(f"{module}.py").exists():
            raise InputError(
                f"--peer {kind} needs the peers, which an installed wheel leaves out; allowed: a "
                "checkout of the repository; leave --peer out"
            )
        self.python, self.kind = python, kind
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        model.save_pretrained(folder, "float32", max_shard_size=2**40)
        for name, array in (arrays or {}).items():
            save_file({name: array}, folder / f"{name}.safetensors")
        (folder / "settings.json").write_text(json.dumps(settings | {"way": way}))
        self.errors = open(folder / "errors.txt", "w+", encoding="utf-8")  # noqa: SIM115
        command = [python, "-c", START.format(root=str(ROOT), module=module), str(folder)]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                env={name: value for name, value in os.environ.items() if name != USE_TORCH},
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
        needs, install = NEEDS[self.kind]
        raise InputError(
            f"--peer {self.kind} failed in {self.python}: {reason}; allowed: a Python with {needs} "
            f"({install}); change --peer-python"
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


def shared_settings(net: Net, sequences: int, prefix: int, device: Device) -> dict:
    """What a peer has to know for the same net and prompts."""
    prompts = random_prompts(net, sequences, prefix).tolist()
    return vars(net) | {"prompts": prompts, "threads": device.threads}


START = """
import sys
sys.path.insert(0, {root!r})
from emu3.benchmarks.{module} import serve
serve(sys.argv[1])
"""
