"""Train emu3-mini's language model on samples of every task: `python -m train.mini.lm`.

Stopping loses at most the steps since the last save; the same command goes on.
"""

from emu3.cli.shell import command, leave
from train.mini.lm.options import LmOptions


def run(options: LmOptions) -> None:
    """Train on this machine's CPU."""
    from emu3 import runtime
    from train.mini.lm.training import train

    runtime.setup(device="CPU", mode="graph", threads=options.threads, seed=options.run.seed)
    train(options)


build_parser, main = command("train.mini.lm", "Train emu3-mini's language model.", LmOptions, run)

if __name__ == "__main__":
    leave(main())
