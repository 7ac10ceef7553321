"""The `emu3` command: `emu3 img_gen --prompt "a red star"` is `python -m emu3.cli.img_gen ...`."""

import sys
from collections.abc import Sequence
from importlib import import_module

from emu3 import __version__
from emu3.cli import shell
from emu3.errors import InputError, shown

COMMANDS = {
    "doctor": "say whether this machine is ready",
    "download": "fetch a model from a hub",
    "img_gen": "draw pictures from descriptions",
    "video": "make clips from descriptions, or go on with one",
    "edit": "change pictures as told",
    "chat": "talk about pictures and clips",
    "vqa": "answer questions about images",
    "img_rec": "turn images and clips into codes and back",
    "decode": "turn saved codes into pictures",
    "convert": "turn the original port's checkpoints into folders that load",
    "estimate": "say what a generation needs in memory and time",
    "quantize": "write a checkpoint's matrices in int8",
    "evaluate": "draw for GenEval, DPG-Bench, MJHQ; score reconstruction and answers",
    "benchmark": "measure speed",
    "web": "show the web page",
    "serve": "serve the common HTTP interface",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; returns its exit code."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    return shell.guarded(lambda: answer(name, rest), "emu3")


def answer(name: str, rest: Sequence[str]) -> int:
    """Help, the version, or what a command does.

    Raises:
        InputError: there is no such command.
    """
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"emu3 {__version__}")
        return 0
    return command(name).main(rest)


def command(name: str):
    """The module of a command.

    Raises:
        InputError: there is no such command.
    """
    if name not in COMMANDS:
        raise InputError(
            f"command {shown(name)} is unknown; allowed: {', '.join(COMMANDS)} "
            "(emu3 --help describes them)"
        )
    return import_module(f"emu3.cli.{name}")


def usage() -> str:
    """The help text: every command with one line."""
    lines = [f"  {name:<11} {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: emu3 COMMAND [OPTIONS]",
            "       emu3 --version",
            "",
            "Emu3 on MindSpore.",
            "",
            "commands (emu3 COMMAND --help lists the options):",
            *lines,
        ]
    )


def run() -> None:
    """The console script: run the command and end the process."""
    shell.leave(main())


if __name__ == "__main__":
    run()
