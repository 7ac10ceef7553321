"""Train emu3-mini's language model on scenes drawn as it goes: `python -m train.mini`.

Stopping loses at most the steps since the last save; the same command goes on.
"""

from collections.abc import Sequence

from emu3.cli.shell import Parser, leave, make_parser, run_command
from train.mini.options import LanguageOptions


def build_parser() -> Parser:
    """The command's options."""
    return make_parser("train.mini", "Train emu3-mini's language model on scenes.", LanguageOptions)


def run(options: LanguageOptions) -> None:
    """Train on this machine's CPU."""
    from emu3 import runtime
    from train.mini.training import train

    runtime.setup(device="CPU", mode="graph", seed=options.run.seed)
    train(options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(run, LanguageOptions, build_parser(), arguments)


if __name__ == "__main__":
    leave(main())
